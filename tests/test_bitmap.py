"""Maps against Python's set, and every written form against its own definition."""

import pickle
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.bitmap import (
    LARGEST_MEMBER,
    Bitmap,
    CpuMap,
    NodeMap,
    parse_xen,
    parse_xen_per_vcpu,
)
from homenode.errors import ParseError

members = st.integers(0, 150) | st.integers(0, LARGEST_MEMBER)
sets = st.sets(members, max_size=20) | st.sets(st.integers(0, 40), max_size=40)
maps = st.sampled_from([CpuMap, NodeMap])


# --- sets ---


@given(maps, sets, sets)
def test_algebra_is_that_of_sets(kind, one, other):
    a, b = kind(one), kind(other)
    assert set(a & b) == one & other
    assert set(a | b) == one | other
    assert set(a - b) == one - other
    assert set(a ^ b) == one ^ other
    assert (a <= b, a < b, a >= b, a > b) == (one <= other, one < other, one >= other, one > other)
    assert (a == b, a.isdisjoint(b)) == (one == other, one.isdisjoint(other))
    assert (a == b) <= (hash(a) == hash(b))


@given(maps, sets, members)
def test_a_map_looks_like_its_sorted_set(kind, numbers, number):
    made = kind(numbers)
    assert list(made) == sorted(numbers)
    assert (len(made), bool(made)) == (len(numbers), bool(numbers))
    assert (number in made) == (number in numbers)
    assert -1 not in made
    assert "1" not in made
    assert kind.from_bits(made.bits) == made == pickle.loads(pickle.dumps(made))  # noqa: S301 - ours
    if numbers:
        assert made.first == min(numbers)


@given(maps, sets)
def test_ranges_are_the_longest_runs(kind, numbers):
    ranges = list(kind(numbers).ranges())
    assert {n for first, last in ranges for n in range(first, last + 1)} == numbers
    assert all(last + 1 < first for (_, last), (first, _) in pairwise(ranges))


@given(st.integers(0, 300))
def test_full_is_a_range(count):
    assert list(NodeMap.full(count)) == list(range(count))


@given(maps, st.lists(sets, max_size=4))
def test_a_union_has_the_members_of_all(kind, several):
    assert set(kind.union(map(kind, several))) == set().union(*several)


def test_maps_are_named_with_their_noun():
    assert NodeMap().named == "no nodes"
    assert CpuMap([3]).named == "cpu 3"
    assert NodeMap([0, 1, 4]).named == "nodes 0-1,4"
    assert CpuMap([3]).named_vcpus == "vcpu 3"
    assert CpuMap([0, 1]).named_vcpus == "vcpus 0-1"
    assert CpuMap().named_vcpus == "no vcpus"


def test_an_empty_map_has_no_first():
    with pytest.raises(ValueError, match="no node in an empty map"):
        _ = NodeMap().first


@pytest.mark.parametrize("number", [-1, LARGEST_MEMBER + 1])
def test_numbers_out_of_range_are_refused(number):
    with pytest.raises(ValueError, match="no cpu has the number"):
        CpuMap([number])
    with pytest.raises(ValueError, match=f"^no number has the number {number}$"):
        Bitmap([number])


@pytest.mark.parametrize("bits", [-1, 1 << (LARGEST_MEMBER + 1)], ids=["negative", "too large"])
def test_bits_out_of_range_are_refused(bits):
    with pytest.raises(ValueError, match="no map of nodes") as caught:
        NodeMap.from_bits(bits)
    assert len(str(caught.value)) < 100


def test_cpus_and_nodes_do_not_mix():
    cpus, nodes = CpuMap([1]), NodeMap([1])
    assert cpus != nodes
    assert len({cpus, nodes}) == 2
    for operation in (
        lambda: cpus & nodes,
        lambda: cpus | nodes,
        lambda: cpus - nodes,
        lambda: cpus ^ nodes,
        lambda: cpus <= nodes,
        lambda: cpus < nodes,
        lambda: cpus >= nodes,
        lambda: cpus > nodes,
        lambda: cpus.isdisjoint(nodes),
    ):
        with pytest.raises(TypeError, match="CpuMap with NodeMap"):
            operation()


def test_maps_cannot_be_changed():
    with pytest.raises(AttributeError, match="immutable"):
        CpuMap([1]).bits = 0


# --- the forms of Linux and of libvirt ---


@given(maps, sets)
def test_list_form_round_trips(kind, numbers):
    made = kind(numbers)
    assert kind.parse(str(made)) == made
    assert eval(repr(made), {kind.__name__: kind}) == made  # noqa: S307 - our own repr


@given(maps, sets, st.integers(0, 300))
def test_mask_form_round_trips_and_is_grouped_by_32(kind, numbers, width):
    made = kind(numbers)
    mask = made.mask(width)
    assert kind.parse_mask(mask) == made
    assert int(mask.replace(",", ""), 16) == sum(1 << number for number in numbers)
    head, *groups = mask.split(",")
    assert 1 <= len(head) <= 8
    assert all(len(group) == 8 for group in groups)
    # No digit more than it takes, but for an empty map of no width: that is a nought.
    bits = max(width, made.bits.bit_length())
    assert len(mask.replace(",", "")) == max(1, (bits + 3) // 4)
    assert kind.parse_mask(f" 0x{mask}\n") == made
    assert made.mask() == made.mask(0) == made.mask(made.bits.bit_length())


@given(st.integers(0, 60), st.integers(0, 90), st.integers(1, 20), st.data())
def test_strides_take_the_first_numbers_of_every_group(first, length, group, data):
    used = data.draw(st.integers(1, group))
    last = first + length
    taken = {n for n in range(first, last + 1) if (n - first) % group < used}
    assert set(CpuMap.parse(f"{first}-{last}:{used}/{group}")) == taken


@pytest.mark.parametrize(
    ("text", "members"),
    [
        ("", []),
        (" \n", []),
        ("0-3,8\n", [0, 1, 2, 3, 8]),
        ("8, 0-3", [0, 1, 2, 3, 8]),
        ("0-31:2/4", [0, 1, 4, 5, 8, 9, 12, 13, 16, 17, 20, 21, 24, 25, 28, 29]),
        ("0-1023:2/256", [0, 1, 256, 257, 512, 513, 768, 769]),
        (f"0-{LARGEST_MEMBER}:1/{LARGEST_MEMBER}", [0, LARGEST_MEMBER]),
    ],
)
def test_lists_as_linux_documents_them(text, members):
    assert list(CpuMap.parse(text)) == members


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.integers(0, 5)), min_size=1))
def test_libvirt_items_count_from_left_to_right(items):
    numbers, written = set(), []
    for out, first, more in items:
        if out:
            numbers.discard(first)
            written.append(f"^{first}")
        else:
            numbers |= set(range(first, first + more + 1))
            written.append(f"{first}-{first + more}" if more else str(first))
    assert set(NodeMap.parse_libvirt(",".join(written))) == numbers


@pytest.mark.parametrize(
    ("read", "text", "place"),
    [
        (CpuMap.parse, "0-3,x", "'x' at character 5"),
        (CpuMap.parse, "0,,1", "'' at character 3"),
        (CpuMap.parse, "0, 5-3", "'5-3' at character 4"),
        (CpuMap.parse, "-1", "'-1' at character 1"),
        (CpuMap.parse, "1-", "'1-' at character 1"),
        (CpuMap.parse, "1-2-3", "'1-2-3' at character 1"),
        (CpuMap.parse, "1_0", "'1_0' at character 1"),
        (CpuMap.parse, "+1", r"'\+1' at character 1"),
        (CpuMap.parse, "\N{ARABIC-INDIC DIGIT THREE}", "at character 1"),
        (CpuMap.parse, "\N{SUPERSCRIPT TWO}", "at character 1"),
        (CpuMap.parse, "0-9:3/2", "'0-9:3/2' at character 1"),
        (CpuMap.parse, "0-9:0/2", "'0-9:0/2' at character 1"),
        (CpuMap.parse, "0-9:2", "'0-9:2' at character 1"),
        (CpuMap.parse, "5:1/2", "'5:1/2' at character 1"),
        (CpuMap.parse, "0,65536", "'65536' at character 3"),
        (CpuMap.parse, "9" * 5000, "at character 1"),
        (NodeMap.parse_mask, "", "'' at character 1"),
        (NodeMap.parse_mask, "f,,f", "'' at character 3"),
        (NodeMap.parse_mask, "f,123456789", "'123456789' at character 3"),
        (NodeMap.parse_mask, "fg", "'fg' at character 1"),
        (NodeMap.parse_mask, "Xf", "'Xf' at character 1"),
        (NodeMap.parse_mask, "1" + ",00000000" * 2048, "65536 nodes"),
        (NodeMap.parse_libvirt, "0-3,^1-2", r"'\^1-2' at character 5"),
        (NodeMap.parse_libvirt, "", "'' at character 1"),
    ],
)
def test_malformed_forms_show_the_text_and_the_place(read, text, place):
    with pytest.raises(ParseError, match=place) as caught:
        read(text)
    assert len(str(caught.value)) < 300


def test_a_text_is_shown_in_whole_up_to_eighty_characters():
    with pytest.raises(ParseError) as caught:
        CpuMap.parse("x" + " " * 78 + "1")
    assert repr("x" + " " * 78 + "1") in str(caught.value)
    with pytest.raises(ParseError) as caught:
        CpuMap.parse("x" + " " * 79 + "1")
    assert str(caught.value).endswith(repr("x" + " " * 76 + "..."))


@pytest.mark.parametrize("read", [CpuMap.parse, CpuMap.parse_libvirt])
def test_members_that_the_host_lacks_are_refused(read):
    assert read("0-3", within=CpuMap.full(4)) == CpuMap.full(4)
    with pytest.raises(ParseError, match="names cpus 4-5, which do not exist here; there are 0-3"):
        read("2-5", within=CpuMap.full(4))
    with pytest.raises(
        ParseError, match=r"names cpu 0, which does not exist here.*there are no cpus"
    ):
        read("0", within=CpuMap())
    with pytest.raises(ParseError) as caught:
        read(",".join(map(str, range(0, 9999, 2))), within=CpuMap(range(1, 9999, 2)))
    assert len(str(caught.value)) < 400


@given(st.text(alphabet="0123456789-,:/^ abfx\n", max_size=12) | st.text(max_size=6))
def test_no_text_gives_anything_but_a_map_or_a_parse_error(text):
    for read in (CpuMap.parse, CpuMap.parse_mask, NodeMap.parse_libvirt, xen):
        try:
            read(text)
        except ParseError as error:
            assert "\n" not in str(error)  # noqa: PT017 - both outcomes are right


# --- Xen's form ---

# Two cpus to a node, as on the host on which xl 4.17 was asked.
BY_NODE = {node: CpuMap([2 * node, 2 * node + 1]) for node in range(4)}
ALL = CpuMap.full(8)


def xen(text):
    return parse_xen(text, cpus=ALL, cpus_by_node=BY_NODE)


# What `xl -N vcpu-pin 0 all SPEC` of Xen 4.17 printed as the cpumap.
@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("all", "0-7"),
        ("nodes:all", "0-7"),
        ("all,nodes:all", "0-7"),
        ("all,^nodes:0,all", "0-7"),
        ("^0", ""),
        ("0-3,5,^1", "0,2-3,5"),
        ("all,^7", "0-6"),
        ("nodes:0-3,^node:2", "0-3,6-7"),
        ("1,node:1,^6", "1-3"),
        ("node:0,node:2,^1,5-6", "0,4-6"),
        ("0-3,^1-2", "0,3"),
        ("0-3,^nodes:1", "0-1"),
        ("nodes:0-1,^5", "0-3"),
        ("all,^0-7", ""),
        ("nodes:1", "2-3"),
        ("node:0-1", "0-3"),
        ("0,,2", "0,2"),
        (",0", "0"),
        ("0,", "0"),
        ("", ""),
        (",", ""),
        (" 0", "0"),
        ("0, 1", "0-1"),
    ],
)
def test_xen_forms_mean_what_they_mean_to_xl(text, cpus):
    assert str(xen(text)) == cpus


@pytest.mark.parametrize(
    "text",
    [
        "foo", "none", "ALL", "Node:1", "^all", "^nodes:all", "^node:all", "^^0", "all,^^0",
        "node:node:1", "node:^1", "3-1", "0-", "1x", "0x1", "1 2", "1;2", "0-3:1/2", "0 ", "0 ,1",
        " 0 , 1 ", "all ", " all", " node:1", "node:1 ", " ", "0, ,1", "\N{ARABIC-INDIC DIGIT ONE}",
    ],
)  # fmt: skip
def test_xen_forms_that_xl_refuses_are_refused(text):
    with pytest.raises(ParseError, match=r"at character \d"):
        xen(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0,99", "there is no cpu 99 on this host: '99' at character 3.*it has cpus 0-7"),
        ("0,^9", "there is no cpu 9"),
        ("nodes:2-4", "there is no node 4 on this host.*it has nodes 0-3"),
        ("nodes:0-65535", "there is no node 4"),
        ("-3", "not a cpu number"),
    ],
)
def test_what_xl_ignores_is_refused_and_said(text, said):
    with pytest.raises(ParseError, match=said):
        xen(text)


def test_examples_of_the_xl_manual():
    four_each = {node: CpuMap(range(4 * node, 4 * node + 4)) for node in range(8)}
    for text, cpus in (
        ("0-3,5,^1", "0,2-3,5"),
        ("all,^7", "0-6,8-31"),
        ("nodes:0-3,^node:2", "0-7,12-15"),
        ("1,node:1,^6", "1,4-5,7"),
        ("node:0,node:2,^9-11,18-20", "0-3,8,18-20"),
        ("3-8,^5", "3-4,6-8"),
    ):
        assert str(parse_xen(text, cpus=CpuMap.full(32), cpus_by_node=four_each)) == cpus


@st.composite
def xen_items(draw):
    """An item of Xen's form, whether it takes out, and its cpus."""
    out, by_node = draw(st.booleans()), draw(st.booleans())
    prefix = draw(st.sampled_from(["node:", "nodes:"])) if by_node else ""
    if not out and draw(st.integers(0, 4)) == 0:
        return f"{prefix}all", False, set(ALL)
    first = draw(st.integers(0, 3 if by_node else 7))
    last = draw(st.integers(first, 3 if by_node else 7))
    numbers = range(first, last + 1)
    cpus = {cpu for node in numbers for cpu in BY_NODE[node]} if by_node else set(numbers)
    written = f"{first}-{last}" if last > first or draw(st.booleans()) else str(first)
    return f"{'^' if out else ''}{prefix}{written}", out, cpus


@given(st.lists(xen_items(), max_size=6))
def test_xen_items_count_from_left_to_right(items):
    cpus = set()
    for _, out, named in items:
        cpus = cpus - named if out else cpus | named
    assert set(xen(",".join(text for text, _, _ in items))) == cpus


def test_per_vcpu_lists_leave_the_other_vcpus_open_and_ignore_the_surplus():
    def read(value, vcpus):
        maps = parse_xen_per_vcpu(value, vcpus, cpus=ALL, cpus_by_node=BY_NODE)
        return [str(cpus) for cpus in maps]

    assert read("0-3,^1", 3) == ["0,2-3"] * 3
    assert read(["2", "3-7,^5"], 2) == ["2", "3-4,6-7"]
    assert read(["2"], 3) == ["2", "0-7", "0-7"]
    assert read(["2", "3", "foo"], 2) == ["2", "3"]
    assert read([], 1) == ["0-7"]


def test_a_hundred_thousand_wide_ranges_are_read_as_one():
    # A range is one step, and not one for each of its cpus: these would be 800 million.
    many = CpuMap.full(8192)
    text = ",".join(["0-8191"] * 100_000)
    assert parse_xen(text, cpus=many, cpus_by_node={0: many}) == many
