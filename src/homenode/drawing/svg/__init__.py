"""A host as one SVG document, for a report: sockets, nodes, cpus, memory, devices, distances.

The document needs nothing but itself, is the same for the same host and guests, follows the
reader's light or dark colours, and says in words (title, desc, a title of each part) what it
shows. A cpu is coloured where a guest's vcpu was last seen there. Memory without cpus stands
below the node, or in the socket, that it is nearest to.
"""

from collections.abc import Sequence
from xml.etree import ElementTree as ET  # only written here, never read

from homenode.drawing import printable
from homenode.drawing.memory import guests_on
from homenode.drawing.svg.canvas import Canvas, define_hatch, fit, number, wrap
from homenode.drawing.svg.layout import draw_sockets
from homenode.drawing.svg.legend import draw_legend
from homenode.drawing.svg.matrices import draw_tables
from homenode.drawing.svg.node import Scene, node_sentence, scene_of
from homenode.drawing.svg.style import LINE, MARGIN, STYLE, WIDTH
from homenode.drawing.words import host_words, tiers_words
from homenode.guest import Guest
from homenode.host import Host
from homenode.units import format_memory


def topology(host: Host, guests: Sequence[Guest], *, prefix: str = "", width: int = WIDTH) -> str:
    """Return the SVG document that shows `host` and `guests`.

    `prefix` begins the names of its parts, for a page with more than one picture in it;
    `width` is in pixels, which letters do not shrink with.
    """
    scene = scene_of(host, guests)._replace(width=width)
    names = f"{prefix}title {prefix}desc"
    root = ET.Element(
        "svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", "aria-labelledby": names}
    )
    title = f"Host {printable(host.name)}"
    ET.SubElement(root, "title", {"id": f"{prefix}title"}).text = title
    ET.SubElement(root, "desc", {"id": f"{prefix}desc"}).text = _description(scene)
    ET.SubElement(root, "style").text = STYLE
    define_hatch(root)
    canvas = Canvas(root)
    paper = canvas.box(0, 0, width=width, height=0, style="paper").element
    y = _draw_heading(canvas, scene)
    y = draw_sockets(canvas, scene, y)
    y = draw_legend(canvas, scene, y)
    y = draw_tables(canvas, scene, y)
    height = number(y + MARGIN)
    paper.set("height", height)
    root.set("viewBox", f"0 0 {width} {height}")
    root.set("width", str(width))
    root.set("height", height)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _description(scene: Scene) -> str:
    parts = [f"{host_words(scene.host)}."]
    if tiers := tiers_words(scene.host):
        parts.append(f"Memory: {tiers}.")
    for node in scene.host.nodes:
        present = [
            f"{scene.guests[presence.guest].name} {format_memory(presence.kib)}"
            for presence in guests_on(node, scene.guests)
        ]
        parts.append(f"{node_sentence(scene, node)}{'; ' if present else ''}{', '.join(present)}.")
    return printable(" ".join(parts))


def _draw_heading(canvas: Canvas, scene: Scene) -> float:
    host, room = scene.host, scene.room
    canvas.text(MARGIN, MARGIN + 16, fit(printable(host.name), room, "title"), "text title")
    y = MARGIN + 38.0
    tiers = tiers_words(host)
    for words in (host_words(host), f"Memory: {tiers}" if tiers else ""):
        for line in wrap(words, room):
            canvas.text(MARGIN, y, line, "quiet")
            y += LINE
    return y
