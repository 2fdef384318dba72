"""Pictures of replays compared: what they show is what came of the replays."""

import re
import sys
from collections import Counter
from itertools import pairwise
from typing import NamedTuple
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.drawing.svg.style import GUEST_COLOURS, STYLE
from homenode.errors import HomenodeError
from homenode.fleet.bounds import bounds
from homenode.fleet.choosing import Chooser
from homenode.fleet.hosts import Fleet, FleetHost
from homenode.fleet.measures import NodeReading
from homenode.fleet.pictures import Common, Pictured, pictures, write_picture, write_pictures
from homenode.fleet.policies import fleet_policy
from homenode.fleet.replay import Replay, reading_times
from homenode.fleet.trace import Trace
from homenode.formats import host_toml
from homenode.guest import GuestRequest

for library in ("altair", "vl_convert"):
    pytest.importorskip(library, reason="homenode[plots] is not installed")

from homenode.fleet.pictures import heat_map, lines, look  # noqa: E402 - after what they need
from homenode.fleet.pictures.heat_map import heat_map_picture  # noqa: E402 - the same
from homenode.fleet.pictures.stranding import stranding_picture  # noqa: E402 - the same
from homenode.fleet.pictures.use import spaced, use_picture  # noqa: E402 - the same

GIB = 1 << 20
MINUTE = 60_000
SVG = "{http://www.w3.org/2000/svg}"
POLICIES = ("pack/balanced", "pack/best-fit", "spread/worst-fit")
NOTES = ("Synthetic: made by hand.", "Synthetic: & <nobody> asked for it.")


def hosts_of(*nodes):
    kinds = {
        count: host_toml.parse(
            f'name = "k"\nnodes = {count}\ncores = 4\nmemory = "8GiB"\n', source="k"
        )
        for count in set(nodes)
    }
    return [FleetHost(f"host-{at}", kinds[count]) for at, count in enumerate(nodes)]


REQUESTS = (
    GuestRequest("small", 1, 1 * GIB),
    GuestRequest("hungry", 1, 7 * GIB),
    GuestRequest("wide", 4, 2 * GIB),
    GuestRequest("giant", 64, 2 * GIB),
)


def trace_of(*guests):
    """Return a trace of guests: what they want, when they come, when they go; in minutes."""
    events = []
    for number, (_, come, go) in enumerate(guests):
        events.append((come * MINUTE, number))
        if go is not None:
            events.append((go * MINUTE, ~number))
    events.sort(key=lambda event: event[0])
    wanted = [kind for kind, _, _ in guests]
    return Trace("by hand", "", REQUESTS, wanted, [e for _, e in events], [t for t, _ in events])


MIXED = hosts_of(2, 2, 4, 2, 4, 2)
GUESTS = trace_of(
    *((0, at, at + 70) for at in range(12)),
    *((1, 15 + at, None) for at in range(6)),
    *((2, 30 + at, 110) for at in range(5)),
    (3, 60, None),
    *((2, 62 + at, None) for at in range(8)),
    (0, 120, None),
)


class Case(NamedTuple):
    pictured: list[Pictured]
    common: Common


def replayed(trace, hosts, policies=POLICIES, *, stay=False):
    pictured = []
    for policy in policies:
        fleet = Fleet(hosts)
        chooser = Chooser(fleet, fleet_policy(policy))
        pictured.append(Pictured(policy, Replay(trace, fleet, chooser, stay=stay).run()))
    times = reading_times(trace)
    bound = bounds(trace, Fleet(hosts), times, stay=stay)
    names = [host.name for host in hosts]
    return Case(pictured, Common("made by hand", names, bound, times, NOTES))


@pytest.fixture(scope="module")
def case():
    return replayed(GUESTS, MIXED)


@pytest.fixture(scope="module")
def made(case):
    return pictures(*case)


@pytest.fixture(scope="module")
def paths(case, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "new" / "folder"
    paths = write_pictures(folder, *case)
    assert sorted(folder.iterdir()) == sorted(paths.values())
    return paths


@pytest.fixture(scope="module")
def drawn(paths):
    return {name: ET.parse(path).getroot() for name, path in paths.items()}  # noqa: S314 - our own


def drawn_as(path, picture):
    write_picture(path, picture)
    return ET.parse(path).getroot()  # noqa: S314 - our own


def words_of(root):
    return [words for text in root.iter(f"{SVG}text") for words in text.itertext()]


def shapes(root, name):
    """Return the paths or lines of the marks whose name begins so, in the order drawn."""
    pattern = re.compile(rf"role-mark {name}(_\d+)?_marks$")
    return [
        shape
        for group in root.iter(f"{SVG}g")
        if pattern.search(group.get("class", ""))
        for shape in group
    ]


def corners(path):
    """Return the points of a line."""
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path.get("d"))]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def levels(path):
    """Return where each reading is on a line of steps: the points between are the steps."""
    return corners(path)[::2]


def box(cell):
    """Return left, top, right and bottom of a cell."""
    x, y, width, height = map(
        float, re.match(r"M([\d.]+),([\d.]+)h([\d.]+)v([\d.]+)h", cell.get("d")).groups()
    )
    return x, y, x + width, y + height


def assert_higher_is_more(pairs):
    """Check that of (value, pixel from the top) each larger value is higher, in proportion."""
    pairs = sorted(set(pairs))
    (least, bottom), (most, top) = pairs[0], pairs[-1]
    assert most > least
    assert top < bottom
    for value, pixel in pairs:
        share = (value - least) / (most - least)
        assert pixel == pytest.approx(bottom + share * (top - bottom), abs=0.02)


# -- what all pictures have --


def test_every_picture_names_all_policies_the_trace_and_the_notes(drawn):
    for root in drawn.values():
        words = words_of(root)
        for said in (*POLICIES, "made by hand", *NOTES):
            assert any(said in word for word in words), said


def test_a_picture_says_what_it_shows_to_those_who_listen(drawn):
    for root in drawn.values():
        assert root.find(f"{SVG}title").text in words_of(root)
        assert len(root.find(f"{SVG}desc").text) > 50


def test_every_axis_of_time_or_amount_has_its_unit(drawn):
    words = Counter(words_of(drawn["use"]))
    assert words["hours since the trace began"] == 6
    assert words["hosts in use"] == words["hosts"] == 1
    for what in ("all vcpus", "all memory", "their vcpus", "their memory"):
        assert words[f"share of {what}"] == 1
    words = Counter(words_of(drawn["stranding"]))
    assert words["hours since the trace began"] == 3
    assert words["guests"] == 2


def test_a_picture_needs_nothing_but_itself(drawn, paths):
    for name, root in drawn.items():
        assert not list(root.iter(f"{SVG}image"))
        assert not list(root.iter(f"{SVG}script"))
        assert not any("href" in key for shape in root.iter() for key in list(shape.attrib))
        assert "url(" not in paths[name].read_text()


def test_every_colour_has_another_one_in_the_dark(drawn):
    style = look.DARK_STYLE
    for root in drawn.values():
        assert style in root.find(f"{SVG}style").text
        used = {shape.get(what) for shape in root.iter() for what in ("fill", "stroke")}
        for colour in used - {None, "none"}:
            assert f"[fill='{colour}']" in style, colour
            assert f"[stroke='{colour}']" in style, colour


def test_colours_are_those_of_the_pictures_drawn_by_hand():
    for colour in (look.PAPER, look.INK, look.QUIET, look.RULE, *look.FULLNESS, *look.EMPTY):
        assert colour in STYLE
        assert look._DARK[colour] in STYLE
    assert len(set(GUEST_COLOURS) & set(look.POLICY_COLOURS)) >= 4


def test_the_same_input_makes_the_same_bytes(made, paths, tmp_path):
    for name, path in paths.items():
        write_picture(tmp_path / path.name, made[name])
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("ending", "begin"), [("png", b"\x89PNG"), ("html", b"<!DOCTYPE html>")])
def test_so_do_the_other_kinds(made, tmp_path, ending, begin):
    for copy in ("one", "other"):
        write_picture(tmp_path / f"{copy}.{ending}", made["heat-map"])
    one = (tmp_path / f"one.{ending}").read_bytes()
    assert one.startswith(begin)
    assert one == (tmp_path / f"other.{ending}").read_bytes()


def test_names_cannot_break_a_document(case, tmp_path):
    evil = "</script><script>alert(1)</script>\x00\x1b&'\""
    pictured = [one._replace(name=f"{evil}{at}") for at, one in enumerate(case.pictured)]
    common = case.common._replace(
        title=evil, hosts=[evil] * len(case.common.hosts), notes=[evil] * 2
    )
    evil_ones = pictures(pictured, common)
    for name, picture in evil_ones.items():
        root = drawn_as(tmp_path / f"{name}.svg", picture)
        assert any("</script><script>" in word for word in words_of(root))
    write_picture(tmp_path / "page.html", evil_ones["heat-map"])
    page = (tmp_path / "page.html").read_text()
    assert page.count("</script") == page.count("<script") == 2
    assert r"\u003c/script>\u003cscript>alert(1)" in page


def test_a_page_loads_nothing(made, tmp_path):
    write_picture(tmp_path / "page.html", made["use"])
    page = (tmp_path / "page.html").read_text()
    head, *scripts = re.split(r"<script[^>]*>", page)
    assert "Hosts in use over time" in head
    assert look.DARK_STYLE in head
    assert not re.search(r"<script[^>]*\ssrc=|<link\s", page)
    assert len(scripts) == 2


def test_policies_whose_names_are_cut_alike_are_told_apart(case, tmp_path):
    long = "pack/nodes,distance,-usable~4G,vcpus_per_core~1/8,hole"
    pictured = [one._replace(name=f"{long},{at}") for at, one in enumerate(case.pictured)]
    assert len(set(look.shown_names(pictured))) == 3
    root = drawn_as(tmp_path / "use.svg", use_picture(pictured, case.common))
    assert len({line.get("stroke") for line in shapes(root, "lines_hosts")}) == 3


# -- hosts in use --


def test_more_hosts_in_use_are_higher(drawn, case):
    lines_ = shapes(drawn["use"], "lines_hosts")
    assert len(lines_) == len(POLICIES)
    pairs = []
    for line, one in zip(lines_, case.pictured, strict=True):
        points = levels(line)
        assert len(points) == len(one.outcome.readings)
        pairs += [
            (reading.hosts, y) for reading, (_, y) in zip(one.outcome.readings, points, strict=True)
        ]
    [bound] = shapes(drawn["use"], "bound")
    pairs += [
        (hosts, y)
        for hosts, (_, y) in zip(case.common.bounds.hosts_over_time, levels(bound), strict=True)
    ]
    assert_higher_is_more(pairs)


def test_later_is_further_right(drawn, case):
    for line, one in zip(shapes(drawn["use"], "lines_hosts"), case.pictured, strict=True):
        pairs = [
            (-reading.time_ms, x)
            for reading, (x, _) in zip(one.outcome.readings, levels(line), strict=True)
        ]
        assert_higher_is_more(pairs)


def test_the_bound_is_dashed_and_is_left_out_if_there_is_none(drawn, case, tmp_path):
    [bound] = shapes(drawn["use"], "bound")
    assert bound.get("stroke-dasharray")
    assert any(word.startswith("lower bound, on average") for word in words_of(drawn["use"]))
    common = case.common._replace(bounds=None, times_ms=())
    root = drawn_as(tmp_path / "use.svg", use_picture(case.pictured, common))
    assert not shapes(root, "bound")
    assert not any("bound" in word for word in words_of(root))


@pytest.mark.parametrize("hosts", [(90, 100), (100, 100)])
def test_an_axis_that_does_not_begin_at_zero_says_so(case, tmp_path, hosts):
    outcome = case.pictured[0].outcome
    readings = [
        reading._replace(hosts=hosts[at % 2]) for at, reading in enumerate(outcome.readings)
    ]
    often = [Pictured("often", outcome._replace(readings=tuple(readings)))]
    common = case.common._replace(bounds=None, times_ms=())
    root = drawn_as(tmp_path / "use.svg", use_picture(often, common))
    assert "hosts in use (does not begin at 0)" in words_of(root)
    [line] = shapes(root, "lines_hosts")
    assert all(0 < y < 300 for _, y in corners(line))


def test_hosts_beyond_the_bound_are_those_in_use_less_the_bound(drawn, case):
    pairs = []
    for line, one in zip(shapes(drawn["use"], "lines_beyond"), case.pictured, strict=True):
        least = case.common.bounds.hosts_over_time
        assert [reading.time_ms for reading in one.outcome.readings] == case.common.times_ms
        pairs += [
            (reading.hosts - bound, y)
            for reading, bound, (_, y) in zip(
                one.outcome.readings, least, levels(line), strict=True
            )
        ]
    assert_higher_is_more(pairs)


@pytest.mark.parametrize(
    ("picture", "field"),
    [
        *(("use", field) for field in ("vcpus", "memory", "vcpus_packed", "memory_packed")),
        ("stranding", "memory_stranded"),
    ],
)
def test_larger_shares_are_higher(drawn, case, picture, field):
    pairs = []
    drawn_lines = shapes(drawn[picture], f"lines_{field}")
    for line, one in zip(drawn_lines, case.pictured, strict=True):
        shares = [getattr(reading, field) for reading in one.outcome.readings]
        pairs += [(share, y) for share, (_, y) in zip(shares, levels(line), strict=True)]
    assert_higher_is_more(pairs)


def test_a_line_has_one_colour_in_all_charts(drawn):
    for picture, field in (("use", "vcpus"), ("use", "beyond"), ("stranding", "fragments")):
        strokes = [line.get("stroke") for line in shapes(drawn[picture], f"lines_{field}")]
        assert strokes == look.colours(POLICIES)


def test_lines_on_each_other_all_show(case, tmp_path):
    outcome = case.pictured[0].outcome
    alike = [Pictured(name, outcome) for name in "abc"]
    root = drawn_as(tmp_path / "use.svg", use_picture(alike, case.common))
    taken = []
    for piece in shapes(root, "turns_hosts"):
        points = corners(piece)
        taken.append((points[0][0], points[-1][0], piece.get("stroke")))
    taken.sort()
    assert len(taken) > 30
    assert Counter(stroke for _, _, stroke in taken).keys() == set(look.colours("abc"))
    for (_, right, one), (left, _, other) in pairwise(taken):
        assert right == pytest.approx(left, abs=0.01)
        assert one != other
    whole = corners(shapes(root, "lines_hosts")[0])
    assert (taken[0][0], taken[-1][1]) == (whole[0][0], whole[-1][0])


def test_one_policy_takes_no_turns(case, tmp_path):
    root = drawn_as(tmp_path / "use.svg", use_picture(case.pictured[:1], case.common))
    assert not shapes(root, "turns_hosts")
    assert not any("take turns" in word for word in words_of(root))


def test_words_beside_lines_are_in_their_order_and_apart(drawn, case):
    labels = shapes(drawn["use"], "labels")
    places = [
        float(re.search(r"translate\([\d.]+,([\d.]+)\)", label.get("transform")).group(1))
        for label in labels
    ]
    assert all(below - above >= 16 for above, below in pairwise(places))
    last = {one.name: one.outcome.readings[-1].hosts for one in case.pictured}
    last["lower bound"] = case.common.bounds.hosts_over_time[-1]
    ends = [last[label.text.partition(",")[0]] for label in labels]
    assert ends == sorted(last.values(), reverse=True)


def test_replays_that_end_early_are_not_averaged(tmp_path):
    trace = trace_of(*((1, at, None) for at in range(20)))
    [pack, spread], common = replayed(trace, hosts_of(2, 2, 2), ("pack", "spread"), stay=True)
    readings = spread.outcome.readings[:20]
    last = readings[-1]._replace(time_ms=readings[-1].time_ms + 1)
    early = spread.outcome._replace(readings=(*readings, last))
    both = [pack, Pictured("shorter", early)]
    root = drawn_as(tmp_path / "use.svg", use_picture(both, common))
    words = words_of(root)
    assert "pack" in words
    assert not any("on average" in word for word in words)
    [first, second] = shapes(root, "lines_hosts")
    assert len(levels(second)) == 21
    assert levels(second)[-1][0] < levels(first)[-1][0]
    [bound] = shapes(root, "bound")
    assert levels(bound)[-1][0] <= levels(first)[-1][0] + 0.01
    # Between two times at which the bound is known there is nothing to compare with.
    [_, beyond] = shapes(root, "lines_beyond")
    assert len(levels(beyond)) == 20


# -- stranding and refusals --


def bar_ends(root, name):
    """Return how far right the bars go."""
    ends = []
    for bar in shapes(root, name):
        x, width = map(float, re.match(r"M(-?[\d.]+),[-\d.]+h([\d.]+)", bar.get("d")).groups())
        assert x == 0
        ends.append(width)
    return ends


def test_refusals_are_as_long_as_they_are_many(drawn, case):
    root = drawn["stranding"]
    refused = [one.outcome.refused for one in case.pictured]
    assert len(set(refused)) > 1
    ends = bar_ends(root, "refused")
    for end, count in zip(ends, refused, strict=True):
        assert end / max(ends) == pytest.approx(count / max(refused), abs=0.001)
    assert f"{refused[0]}, 1 fit no empty host" in words_of(root)
    placed = [one.outcome.placed_first for one in case.pictured]
    [rule] = shapes(root, "placed_first_bound")
    bound = float(re.match(r"translate\(([\d.]+),", rule.get("transform")).group(1))
    for end, count in zip(bar_ends(root, "placed_first"), placed, strict=True):
        share = count / case.common.bounds.placed_first
        assert end / bound == pytest.approx(share, abs=0.01)


def test_without_refusals_there_are_no_bars(tmp_path):
    calm = replayed(trace_of((0, 0, 10), (2, 3, None)), hosts_of(2, 2))
    root = drawn_as(tmp_path / "stranding.svg", stranding_picture(*calm))
    assert not shapes(root, "refused")
    assert "Guests refused" not in words_of(root)


# -- the heat map --


def test_every_node_has_a_cell_of_its_own(drawn, case):
    for at, one in enumerate(case.pictured):
        boxes = sorted(map(box, shapes(drawn["heat-map"], f"cells_{at}")), key=lambda b: b[:2])
        assert len(boxes) == len(one.outcome.nodes) == 16
        for number, (left, top, right, bottom) in enumerate(boxes):
            for other in boxes[number + 1 :]:
                assert other[0] >= right or other[1] >= bottom or other[3] <= top
            assert left >= 0


def test_nodes_of_a_host_are_side_by_side_and_hosts_apart(drawn, case):
    boxes = [box(cell) for cell in shapes(drawn["heat-map"], "cells_0")]
    nodes = case.pictured[0].outcome.nodes
    for (one, other), (left, right) in zip(pairwise(nodes), pairwise(boxes), strict=True):
        if left[1] == right[1]:
            assert (right[0] - left[2] == 1) == (one.host == other.host)


def test_cells_have_the_colours_of_their_nodes(drawn, case):
    for at, one in enumerate(case.pictured):
        nodes = one.outcome.nodes
        used = {node.host for node in nodes if node.vcpus > 0}
        for cell, node in zip(shapes(drawn["heat-map"], f"cells_{at}"), nodes, strict=True):
            colour = cell.get("fill")
            assert (colour in look.EMPTY) == (node.host not in used)
            assert (colour in look.STRANDED_VCPUS) == (node.vcpus_stranded > 0)
            assert (colour in look.STRANDED_MEMORY) == (node.kib_stranded > 0)
        colours = {cell.get("fill") for cell in shapes(drawn["heat-map"], f"cells_{at}")}
        assert len(colours) > 2


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(60, 200), st.integers(4, 16))
def test_cells_never_meet_and_stay_inside(counts, width, pitch):
    layout = heat_map._laid_out(dict(enumerate(counts)), width, pitch)
    assert len(layout.corners) == sum(counts)
    for (x, y), (after_x, after_y) in pairwise(layout.corners):
        assert (after_x >= x + pitch and after_y == y) or (after_x == 0 and after_y > y + pitch)
    for x, y in layout.corners:
        assert 0 <= x <= width - pitch
        assert 0 <= y <= layout.height - pitch
    assert [y for _, y in layout.rows] == sorted({y for _, y in layout.rows})


@given(st.fractions(0, 1), st.fractions(0, 1), st.fractions(0, 1))
def test_fuller_nodes_are_never_paler(vcpus, memory, more):
    order = heat_map.FULL
    one = NodeReading(0, 0, float(vcpus), float(memory), 0, 0)
    other = one._replace(vcpus=max(float(vcpus), float(more)))
    assert order.index(heat_map.state_of(one)) <= order.index(heat_map.state_of(other))
    full = one._replace(memory=1.0)
    assert heat_map.state_of(full) == order[-1]


def test_much_is_told_from_little_where_it_is_stranded():
    nothing = NodeReading(0, 0, 1.0, 1.0, 0, 0)
    cases = [
        (nothing._replace(memory=0.9, kib_stranded=1), heat_map.MEMORY[0]),
        (nothing._replace(memory=0.5, kib_stranded=1), heat_map.MEMORY[1]),
        (nothing._replace(vcpus=0.9, vcpus_stranded=1), heat_map.VCPUS[0]),
        (nothing._replace(vcpus=0.5, vcpus_stranded=1), heat_map.VCPUS[1]),
    ]
    for node, entry in cases:
        assert heat_map.state_of(node) == entry
    assert len({entry.colour for _, entry in cases}) == 4


def test_of_a_large_fleet_and_of_many_policies_a_part_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(heat_map, "MOST_NODES", 10)
    monkeypatch.setattr(heat_map, "MOST_PANELS", 2)
    wide = replayed(trace_of((0, 0, None)), hosts_of(*[2] * 9, 64))
    root = drawn_as(tmp_path / "heat.svg", heat_map_picture(*wide))
    words = " ".join(words_of(root))
    assert "The first 2 of 3 policies are shown." in words
    assert "Of every 9 hosts the first one is shown." in words
    assert [len(shapes(root, f"cells_{at}")) for at in range(3)] == [66, 66, 0]
    assert "1 of 10 hosts in use" in words


# -- sizes, units, places --


@pytest.mark.parametrize(
    ("last_ms", "unit"),
    [
        (1500, "milliseconds"),
        (90_000, "seconds"),
        (90 * MINUTE, "minutes"),
        (47 * 60 * MINUTE, "hours"),
        (48 * 60 * MINUTE, "days"),
    ],
)
def test_time_is_in_a_unit_that_suits(case, last_ms, unit):
    outcome = case.pictured[0].outcome
    reading = outcome.readings[0]
    readings = (reading._replace(time_ms=0), reading._replace(time_ms=last_ms))
    assert lines.clock([outcome._replace(readings=readings)]).unit == unit


@given(st.integers(0, 5000))
def test_few_points_stand_for_many(count):
    kept = lines.thinned(count)
    assert len(kept) <= lines.MOST_READINGS + 1
    assert kept == sorted(set(kept))
    assert set(kept) <= set(range(count))
    assert not count or kept[-1] == count - 1
    if count <= lines.MOST_READINGS:
        assert len(kept) == count


@given(st.lists(st.floats(0, 300), max_size=15).map(sorted))
def test_words_find_room_near_their_lines(wanted):
    places = spaced(wanted, 20, 300)
    assert len(places) == len(wanted)
    assert all(after - before >= 19.999 for before, after in pairwise(places))
    assert all(-0.001 <= place <= 300 for place in places)
    if all(after - before >= 20 for before, after in pairwise(wanted)):
        assert places == wanted


def test_nothing_can_be_drawn_too(tmp_path):
    paths = write_pictures(tmp_path, *replayed(trace_of(), [], ("pack",)))
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    empty = heat_map_picture(*replayed(trace_of(), hosts_of(2), ("pack",)))
    cells = shapes(drawn_as(tmp_path / "empty.svg", empty), "cells_0")
    assert [cell.get("fill") for cell in cells] == list(look.EMPTY) * 2


# -- errors --


def assert_one_line(error, *words):
    text = str(error.value)
    assert "\n" not in text
    assert all(word in text for word in words), text


def test_an_unknown_ending_says_which_are_known(made, tmp_path):
    for name in ("use.pdf", "use"):
        with pytest.raises(HomenodeError) as error:
            write_picture(tmp_path / name, made["use"])
        assert_one_line(error, name, ".svg", ".png", ".html")
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_to_is_named(case, made, tmp_path):
    (tmp_path / "taken.svg").mkdir()
    (tmp_path / "file").write_text("as it was")
    for path in (tmp_path / "taken.svg", tmp_path / "no" / "such.svg", tmp_path / "file" / "a.svg"):
        with pytest.raises(HomenodeError) as error:
            write_picture(path, made["heat-map"])
        assert_one_line(error, str(path), "cannot write")
    with pytest.raises(HomenodeError) as error:
        write_pictures(tmp_path / "file", *case)
    assert_one_line(error, str(tmp_path / "file"), "cannot make this folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "taken.svg"]
    assert (tmp_path / "file").read_text() == "as it was"


def test_no_replays_make_no_pictures(case, tmp_path):
    with pytest.raises(HomenodeError, match="no replays"):
        write_pictures(tmp_path, [], case.common)


@pytest.mark.parametrize("library", ["altair", "vl_convert"])
def test_what_is_missing_is_said(case, made, tmp_path, monkeypatch, library):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(HomenodeError) as error:
        write_pictures(tmp_path, *case)
    assert_one_line(error, "altair and vl-convert", "pip install 'homenode[plots]'")
    with pytest.raises(HomenodeError, match="altair and vl-convert"):
        write_picture(tmp_path / "use.svg", made["use"])
