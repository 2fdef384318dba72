"""What tests of pictures share: hosts that tell much, and the geometry of an SVG document."""

from pathlib import Path
from xml.etree import ElementTree as ET

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from homenode.drawing.svg.canvas import font_size, text_width
from homenode.drivers.capture import CaptureDriver
from homenode.formats import host_toml
from homenode.host import Device
from strategies import machines

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted((ROOT / "examples" / "hosts").glob("*.toml"))
CAPTURES = sorted((ROOT / "tests" / "data" / "xen-captures").glob("*/guests"))
SVG = "{http://www.w3.org/2000/svg}"

moderate = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def example(name):
    text = (ROOT / "examples" / "hosts" / f"{name}.toml").read_text()
    return host_toml.parse(text, source=name)


def capture(name):
    return CaptureDriver(str(ROOT / "tests" / "data" / "xen-captures" / name)).snapshot()


def host_with_tables():
    """Return a host with all kinds of memory and devices, with latencies and bandwidths."""
    host = example("memory-tiers")
    reading = [bool(host.cpus_by_node[node.id]) for node in host.nodes]
    rows = list(zip(reading, host.distances, strict=True))
    return host.replace(
        latency_ns=[[far * 8 if reads else None for far in row] for reads, row in rows],
        bandwidth_mb_s=[
            [2_000_000 // far if reads else None for far in row] for reads, row in rows
        ],
    )


@st.composite
def furnished_machines(draw, *, most_nodes=10):
    """Machines with more devices than `strategies.machines` gives them."""
    host, guests = draw(machines(most_nodes=most_nodes))
    kinds = [None, "accelerator", "display", "network", "storage", "chipset", "other"]
    nodes = [None, *(node.id for node in host.nodes)]
    devices = [
        Device(f"0000:{at:02x}:00.0", draw(st.sampled_from(nodes)), draw(st.sampled_from(kinds)))
        for at in range(draw(st.sampled_from([0, 3, 40])))
    ]
    return host.replace(devices=[*host.devices, *devices]), guests


def parsed(text):
    return ET.fromstring(text)  # noqa: S314 - it is our own document


def rectangles(picture, style):
    """Return (left, top, right, bottom) of the rectangles of a style."""
    return [sides(box) for box in picture.iter(f"{SVG}rect") if box.get("class") == style]


def sides(box):
    x, y, width, height = (float(box.get(key)) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def text_sides(text):
    """Return (left, top, right, bottom) of words, from the widths that the drawing reckons with."""
    style = text.get("class")
    width, size = text_width(text.text or "", style), font_size(style)
    x, y = float(text.get("x")), float(text.get("y"))
    left = x - width if "end" in style else x - width / 2 if "middle" in style else x
    return left, y - 0.75 * size, left + width, y + 0.2 * size


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def inside(one, other):
    slack = 0.011  # coordinates are written to a hundredth
    return (
        other[0] - slack <= one[0]
        and other[1] - slack <= one[1]
        and one[2] <= other[2] + slack
        and one[3] <= other[3] + slack
    )


def assert_apart(boxes):
    """Check that no two of (sides, words) overlap."""
    rows = sorted(boxes, key=lambda item: item[0][1])
    for at, (one, words) in enumerate(rows):
        for other, more in rows[at + 1 :]:
            if other[1] >= one[3]:
                break
            assert not overlap(one, other), f"{words!r} lies over {more!r}"


def cards(picture):
    """Return the groups that are a node's card."""
    return [
        group
        for group in picture.iter(f"{SVG}g")
        if any(box.get("class") == "node" for box in group.findall(f"{SVG}rect"))
    ]


def assert_tidy(picture, *, nodes):
    """Check that everything lies in its parent, and nothing over anything else of its kind."""
    _, _, width, height = map(float, picture.get("viewBox").split())
    paper = (0, 0, width, height)
    boxes, sockets = rectangles(picture, "node"), rectangles(picture, "socket")
    assert len(boxes) == nodes
    for style in ("node", "socket", "core", "thread", "llc", "package"):
        found = rectangles(picture, style)
        assert all(inside(box, paper) for box in found)
        assert_apart([(box, style) for box in found])
    assert all(any(inside(box, socket) for socket in sockets) for box in boxes)
    texts = [(text_sides(text), text.text) for text in picture.iter(f"{SVG}text")]
    for box, words in texts:
        assert inside(box, paper), words
    assert_apart(texts)
    for card in cards(picture):
        assert_card_is_tidy(card)


def assert_card_is_tidy(card):
    [own] = rectangles(card, "node")
    for box in card.iter(f"{SVG}rect"):
        assert inside(sides(box), own), (card[0].text, box.attrib)
    solid = [box for style in ("frame", "llc", "core") for box in rectangles(card, style)]
    for text in card.iter(f"{SVG}text"):
        box = text_sides(text)
        assert inside(box, own), text.text
        assert text.text == "?" or not any(overlap(box, other) for other in solid), text.text
