"""Traces from files: each format, what is refused and where, and our own format out and in again.

Other people's traces are found through HOMENODE_DATA; what reads them is skipped without.
"""

import gzip
import os
import subprocess
import sys
from array import array
from itertools import pairwise
from math import log
from pathlib import Path
from random import Random
from statistics import fmean

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.errors import HomenodeError
from homenode.fleet.groups import GROUP_RULES, Membership
from homenode.fleet.reading import columns, own, text_table
from homenode.fleet.reading.events import planned, request_of
from homenode.fleet.reading.own import write_trace
from homenode.fleet.reading.recognising import Rules, read_trace
from homenode.fleet.trace import NO_MEMBERSHIP, Trace

DATA = os.environ.get("HOMENODE_DATA")
TRACES = Path(DATA or "no-data") / "traces"
needs_traces = pytest.mark.skipif(
    not TRACES.is_dir(), reason="HOMENODE_DATA names no folder with traces"
)

GIB = 1 << 20
ENDINGS = (".csv", ".csv.gz", ".parquet")

OWN = """\
time_s,event,guest,vcpus,memory_mib,nodes,group,rule,domain
0,create,web-1,4,16384,,web,anti-affinity,
0,create,web-2,4,16384,,web,anti-affinity,
12.5,create,database,48,393216,2,,,
60,delete,web-1,,,,,,
60,create,web-1,4,16384,,"a, ""b"" c",fault-domain,left
"""

HUAWEI = """\
seq,flavor_vcpus,flavor_ram,numa,strategy,group,domain
0,8,16,1,fault_domain,0.0,1.0
1,32,64,2,,,
2,8,16,1,affinity,0.0,
3,8,16,1,fault_domain,0.0,1.0
"""

VMAGENT = """\
step,vm,cpu,mem_gb,time_s,is_double,type,action,s0n0_cpu
0,7,4,8.0,0.0,0,create,6,40
1,8,64,128.0,1.25,1,create,6,40
2,7,4,8.0,1.25,0,delete,6,40
3,7,1,1,2,0,create,6,40
"""

AZURE = """\
vm,start_s,batch,vcpu,mem_gb,dur_bin_lo_s,dur_bin_hi_s,censored
0,300,0,8,14.0,300,300,0
1,300,1,1,0.75,600,1200,0
2,600,2,2,3.5,0,0,0
3,600,2,2,3.5,300,300,1
4,600,2,2,3.5,864300,,0
"""


def put(folder, text, name="trace.csv"):
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def refused(path, rules=None):
    with pytest.raises(HomenodeError) as caught:
        read_trace(path, rules)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


def content(trace):
    """Return what a trace says, whatever it is called and where it is from."""
    return trace._replace(name="", source="", synthetic=())


def sizes(trace):
    return [trace.requests[number][1:3] for number in trace.wanted]


def nodes(trace):
    return [trace.requests[number].node_count for number in trace.wanted]


# -- our own format --


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz", "trace", "trace.parquet"])
def test_the_example_of_our_own_format_is_read(tmp_path, name):
    trace = read_trace(put(tmp_path, OWN, name))
    assert trace.name == "trace"
    assert trace.source == str(tmp_path / name)
    assert trace.requests == (
        request_of(4, 16 * GIB, None),
        request_of(48, 384 * GIB, 2),
    )
    assert trace.requests[0].name == "4x16GiB"
    assert list(trace.wanted) == [0, 0, 1, 0]
    assert list(trace.events) == [0, 1, 2, ~0, 3]
    assert list(trace.times_ms) == [0, 0, 12_500, 60_000, 60_000]
    assert trace.memberships == (
        Membership("web", "anti-affinity"),
        Membership('a, "b" c', "fault-domain", "left"),
    )
    assert list(trace.membership) == [0, 0, NO_MEMBERSHIP, 1]
    assert (trace.wanted.typecode, trace.events.typecode) == ("I", "q")
    assert (trace.times_ms.typecode, trace.membership.typecode) == ("q", "i")
    assert len(trace.events) > trace.guests
    assert trace.synthetic == ()


def test_the_example_in_the_manual_is_the_one_tested():
    example = own.__doc__.split("::\n\n")[1].split("\n\n")[0]
    lines = [line.strip() for line in example.splitlines()]
    assert lines == OWN.splitlines()[:5]


def test_optional_columns_may_be_left_out_and_line_ends_may_be_those_of_windows(tmp_path):
    text = "\ufefftime_s,event,guest,vcpus,memory_mib\r\n0,create,1,2,1024\r\n0.0004,delete,1,,\r\n"
    trace = read_trace(put(tmp_path, text))
    assert trace.requests == (request_of(2, GIB, None),)
    assert list(trace.events) == [0, ~0]
    assert list(trace.times_ms) == [0, 0]
    assert list(trace.membership) == []


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1, max_size=5)


@st.composite
def traces(draw):
    """Traces as a reader makes them: requests and groups are numbered as they first come."""
    count = draw(st.integers(1, 30))
    random = draw(st.randoms(use_true_random=False))
    flavours = draw(
        st.lists(
            st.tuples(st.integers(1, 64), st.integers(1, 1 << 20), st.sampled_from([None, 1, 2])),
            min_size=1,
            max_size=4,
            unique=True,
        ).filter(lambda found: all((nodes or 1) <= vcpus for vcpus, _, nodes in found))
    )
    rule_of = draw(st.dictionaries(NAMES, st.sampled_from(GROUP_RULES), max_size=3))
    requests, wanted, memberships, membership = [], array("I"), [], array("i")
    for _ in range(count):
        vcpus, mib, nodes = random.choice(flavours)
        request = request_of(vcpus, mib << 10, nodes)
        if request not in requests:
            requests.append(request)
        wanted.append(requests.index(request))
        group = random.choice([None, *rule_of])
        if group is None:
            membership.append(NO_MEMBERSHIP)
            continue
        domain = random.choice("ab") if rule_of[group] == "fault-domain" else ""
        one = Membership(group, rule_of[group], domain)
        if one not in memberships:
            memberships.append(one)
        membership.append(memberships.index(one))
    events, times, there, now = array("q"), array("q"), [], 0
    for number in range(count):
        while there and random.random() < 0.4:
            now += random.choice([0, 1, 999, 10**9])
            events.append(~there.pop(random.randrange(len(there))))
            times.append(now)
        now += random.choice([0, 1, 33_087])
        events.append(number)
        times.append(now)
        there.append(number)
    return Trace(
        "", "", tuple(requests), wanted, events, times,
        tuple(memberships), membership if memberships else array("i"),
    )  # fmt: skip


@given(trace=traces(), ending=st.sampled_from(ENDINGS), piece=st.integers(20, 200))
@settings(max_examples=30)
def test_what_is_written_is_read_back(tmp_path_factory, trace, ending, piece):
    path = tmp_path_factory.mktemp("out") / f"trace{ending}"
    with pytest.MonkeyPatch.context() as patch:
        # As if the trace were longer than what is read, written and looked at in one go.
        patch.setattr(text_table, "PIECE_BYTES", piece)
        patch.setattr(own, "_EVENTS_AT_ONCE", 1 + piece % 7)
        patch.setattr("homenode.fleet.reading.events._SLICE", 1 + piece % 5)
        patch.setattr("homenode.fleet.reading.events._JOINED", 1 + piece % 6)
        write_trace(trace, path)
        assert content(read_trace(path)) == trace
    assert [found.name for found in path.parent.iterdir()] == [path.name]


def test_memory_is_rounded_up_to_mib_where_it_has_to_be(tmp_path):
    trace = read_trace(put(tmp_path, OWN))._replace(
        requests=(request_of(4, 1025, None), request_of(48, 1024, 2))
    )
    write_trace(trace, tmp_path / "out.csv")
    assert [size[1] for size in sizes(read_trace(tmp_path / "out.csv"))] == [2048, 2048, 1024, 2048]


def test_the_same_trace_is_the_same_file(tmp_path):
    trace = read_trace(put(tmp_path, OWN))
    for ending in ENDINGS:
        for name in ("one", "other"):
            write_trace(trace, tmp_path / f"{name}{ending}")
        one, other = (tmp_path / f"{name}{ending}" for name in ("one", "other"))
        assert one.read_bytes() == other.read_bytes()


def test_what_cannot_be_written_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    trace = read_trace(put(tmp_path, OWN))
    path = put(tmp_path, "as it was", "out.csv")

    def fails(_, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    odd = request_of(4, GIB, None)._replace(whole_cores=True)
    unlike = (
        trace._replace(requests=(odd, *trace.requests[1:])),
        trace._replace(memberships=(Membership("a\nb", "affinity"), trace.memberships[1])),
        trace._replace(memberships=(Membership("", "affinity"), trace.memberships[1])),
        trace._replace(memberships=(Membership("a", "affinity", "b"), trace.memberships[1])),
        trace._replace(wanted=array("I"), events=array("q"), times_ms=array("q")),
    )
    for one in unlike:
        with pytest.raises(HomenodeError):
            write_trace(one, path)
    with pytest.raises(HomenodeError, match="end it in"):
        write_trace(trace, tmp_path / "out.txt")
    monkeypatch.setitem(own._WRITERS, ".csv", fails)
    with pytest.raises(HomenodeError, match="No space left"):
        write_trace(trace, path)
    assert path.read_text() == "as it was"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["out.csv", "trace.csv"]
    with pytest.raises(HomenodeError, match="cannot write it"):
        write_trace(trace, tmp_path / "missing" / "out.csv")


# -- the formats of others --


def test_huaweis_topology_aware_requests_are_a_second_apart(tmp_path):
    trace = read_trace(put(tmp_path, HUAWEI))
    assert sizes(trace) == [(8, 16 * GIB), (32, 64 * GIB), (8, 16 * GIB), (8, 16 * GIB)]
    assert nodes(trace) == [1, 2, 1, 1]
    assert list(trace.events) == [0, 1, 2, 3]
    assert list(trace.times_ms) == [0, 1000, 2000, 3000]
    assert trace.memberships == (
        Membership("fault_domain 0", "fault-domain", "1"),
        Membership("affinity 0", "affinity"),
    )
    assert list(trace.membership) == [0, NO_MEMBERSHIP, 1, 0]
    assert any("no times" in sentence for sentence in trace.synthetic)


def test_vmagents_episodes_are_events_in_order(tmp_path):
    trace = read_trace(put(tmp_path, VMAGENT))
    assert sizes(trace) == [(4, 8 * GIB), (64, 128 * GIB), (1, GIB)]
    assert nodes(trace) == [1, 2, 1]
    assert list(trace.events) == [0, 1, ~0, 2]
    assert list(trace.times_ms) == [0, 1250, 1250, 2000]
    assert trace.synthetic == ()


def test_azures_guests_live_as_long_as_their_bins_say(tmp_path):
    trace = read_trace(put(tmp_path, AZURE), Rules(seed=5))
    assert sizes(trace)[:2] == [(8, 14 * GIB), (1, 768 << 10)]
    assert set(nodes(trace)) == {None}
    draw = Random(5).random  # noqa: S311 - nothing here is secret
    seconds = [600 + int(draw() * 601) for _ in "01"][1]
    # 0 goes before the others come at the same time; 2 lives for no time, and was there.
    assert list(trace.events) == [0, 1, ~0, 2, 3, 4, ~2, ~1]
    assert list(trace.times_ms) == [
        300_000, 300_000, 600_000, 600_000, 600_000, 600_000, 600_000, (300 + seconds) * 1000,
    ]  # fmt: skip
    assert len(trace.synthetic) == 2
    assert "as few nodes as can be" in trace.synthetic[0]
    assert "seed 5" in trace.synthetic[1]


def test_azures_arrivals_without_lifetimes_stay(tmp_path):
    header, *rows = AZURE.splitlines()
    text = "\n".join([header, *(",".join(row.split(",")[:5]) + ",,," for row in rows)]) + "\n"
    trace = read_trace(put(tmp_path, text))
    assert len(trace.events) == trace.guests
    assert list(trace.events) == [0, 1, 2, 3, 4]
    assert list(trace.times_ms) == [300_000, 300_000, 600_000, 600_000, 600_000]
    assert len(trace.synthetic) == 1


@given(
    guests=st.lists(
        st.tuples(st.integers(0, 5), st.none() | st.integers(0, 5)), min_size=1, max_size=20
    )
)
def test_who_goes_at_a_time_goes_before_others_come(guests):
    starts = sorted(start for start, _ in guests)
    stays = [stay for _, stay in guests]
    ends = [
        None if stay is None else start + stay for start, stay in zip(starts, stays, strict=True)
    ]
    events, times = planned(pl.Series(starts, dtype=pl.Int64), pl.Series(ends, dtype=pl.Int64))
    expected = [(start, 1, at, at) for at, start in enumerate(starts)]
    expected += [
        (end, 0 if end > starts[at] else 2, at, ~at)
        for at, end in enumerate(ends)
        if end is not None
    ]
    assert list(zip(times, events, strict=True)) == [(one[0], one[3]) for one in sorted(expected)]


# -- the rules --


def test_wide_guests_have_the_nodes_that_the_rule_says_where_nobody_else_does(tmp_path):
    trace = read_trace(put(tmp_path, AZURE), Rules(wide=(2, 2)))
    assert nodes(trace) == [2, None, 2, 2, 2]
    assert any("2 nodes" in sentence for sentence in trace.synthetic)
    trace = read_trace(put(tmp_path, OWN), Rules(wide=(4, 4)))
    assert nodes(trace) == [4, 4, 2, 4]
    for text in (HUAWEI, VMAGENT):
        assert "says on how many nodes" in refused(put(tmp_path, text), Rules(wide=(8, 2)))


def test_only_the_first_guests_come_and_others_do_not_go(tmp_path):
    trace = read_trace(put(tmp_path, VMAGENT), Rules(first=1))
    assert list(trace.events) == [0, ~0]
    assert len(trace.requests) == 1
    whole = read_trace(put(tmp_path, AZURE), Rules(first=10**9))
    assert content(whole) == content(read_trace(put(tmp_path, AZURE)))
    trace = read_trace(put(tmp_path, AZURE), Rules(first=2))
    # What a guest lives is not drawn anew for a shorter trace.
    assert list(trace.events) == [0, 1, ~0, ~1]
    assert trace.times_ms[-1] == whole.times_ms[-1]


def arrivals(count, every=1):
    rows = "".join(f"{at // every},create,{at},1,1024\n" for at in range(count))
    return f"time_s,event,guest,vcpus,memory_mib\n{rows}"


def test_lifetimes_are_drawn_in_arrivals(tmp_path):
    count, mean = 20_000, 50
    path = put(tmp_path, arrivals(count, every=100))
    trace = read_trace(path, Rules(lifetimes=mean, seed=3))
    stays, came, place = [], {}, 0
    for event in trace.events:
        if event >= 0:
            assert event == place
            came[event] = place = event + 1
        else:
            stays.append(place - came[~event])
            del came[~event]
    # Those who come late in the trace may outlive it.
    assert 0 < len(came) < 5 * mean
    assert fmean(stays) == pytest.approx(mean - 0.5, rel=0.05)
    assert list(trace.times_ms) == sorted(trace.times_ms)
    assert trace.synthetic[-1].startswith("each guest stays for 50 arrivals")
    assert content(read_trace(path, Rules(lifetimes=mean, seed=3))) == content(trace)
    assert content(read_trace(path, Rules(lifetimes=mean, seed=4))) != content(trace)


def test_times_of_drawn_departures_lie_between_arrivals(tmp_path):
    path = put(tmp_path, arrivals(500))
    trace = read_trace(path, Rules(lifetimes=10, seed=8))
    draw = Random(8).random  # noqa: S311 - nothing here is secret
    for number in range(500):
        goes = number + -log(1 - draw()) * 10
        if goes < 498.9:
            at = trace.events.index(~number)
            assert trace.times_ms[at] == pytest.approx(goes * 1000, abs=2)
        elif goes > 499:
            assert ~number not in trace.events


def test_lifetimes_are_not_drawn_where_the_trace_has_them(tmp_path):
    for text in (OWN, VMAGENT, AZURE):
        assert "have lifetimes of their own" in refused(put(tmp_path, text), Rules(lifetimes=5))
    # Not for a part without departures either: it would be read another way than the whole.
    assert "lifetimes" in refused(put(tmp_path, OWN), Rules(lifetimes=5, first=2))


@pytest.mark.parametrize(
    "rules",
    [
        Rules(wide=(2, 3)), Rules(wide=(0, 0)), Rules(wide=(10**30, 2)), Rules(lifetimes=0),
        Rules(lifetimes=10**400), Rules(first=0), Rules(first=10**30),
    ],
)  # fmt: skip
def test_rules_that_nothing_can_be_read_by_are_refused(tmp_path, rules):
    with pytest.raises(HomenodeError):
        read_trace(put(tmp_path, HUAWEI), rules)


# -- what is refused, and where --


def changed(text, line, field, value):
    """Return `text` with one field of one line (from 1) changed."""
    lines = text.splitlines()
    fields = lines[line - 1].split(",")
    fields[lines[0].split(",").index(field)] = value
    lines[line - 1] = ",".join(fields)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "change", "complaint"),
    [
        (OWN, (4, "vcpus", "abc"), "'abc' is not a whole number"),
        (OWN, (4, "vcpus", "1.5"), "'1.5' is not a whole number"),
        (OWN, (4, "vcpus", " 1"), "' 1' is not a whole number"),
        (OWN, (4, "vcpus", "1_0"), "'1_0' is not a whole number"),
        (OWN, (4, "vcpus", "inf"), "'inf' is not a whole number"),
        (OWN, (4, "vcpus", "0"), "'0' is not from 1 to 8192"),
        (OWN, (4, "vcpus", "-1"), "'-1' is not from 1 to 8192"),
        (OWN, (4, "vcpus", "9" * 30), f"'{'9' * 30}' is not from 1 to 8192"),
        (OWN, (4, "vcpus", ""), "is empty, and event is create"),
        (OWN, (4, "memory_mib", "0"), "'0' is not from 1 to 1073741824"),
        (OWN, (4, "memory_mib", ""), "is empty, and event is create"),
        (OWN, (4, "nodes", "49"), "49 nodes for 48 vcpus"),
        (OWN, (4, "nodes", "0"), "'0' is not from 1 to 1024"),
        (OWN, (4, "time_s", "-1"), "'-1' is not from 0 to 1000000000000"),
        (OWN, (4, "time_s", "1e99"), "'1e99' is not from 0 to 1000000000000"),
        (OWN, (4, "time_s", "nan"), "'nan' is not a number"),
        (OWN, (4, "time_s", "soon"), "'soon' is not a number"),
        (OWN, (4, "time_s", ""), "is empty"),
        (OWN, (5, "time_s", "12.4999"), "12.4999 after 12.5: rows are out of order"),
        (
            OWN,
            (4, "event", "creates"),
            "'creates' is none of create, delete; did you mean 'create'?",
        ),
        (OWN, (4, "event", ""), "is empty"),
        (OWN, (4, "guest", ""), "is empty"),
        (OWN, (4, "guest", "web-1"), "'web-1' comes, and is there already"),
        (OWN, (5, "guest", "web-3"), "'web-3' goes, and has never come"),
        (OWN, (3, "rule", "affinity"), "group 'web' is anti-affinity before, and affinity here"),
        (OWN, (3, "rule", ""), "is empty, and group is not"),
        (OWN, (3, "rule", "apart"), "'apart' is none of affinity, anti-affinity, fault-domain"),
        (OWN, (3, "group", ""), "is empty, and rule is not"),
        (OWN, (3, "domain", "left"), "has a value, and rule is not fault-domain"),
        (HUAWEI, (3, "seq", "0"), "0 after 0: rows are out of order"),
        (HUAWEI, (4, "seq", "0"), "0 after 1: rows are out of order"),
        (HUAWEI, (3, "flavor_ram", "0"), "0.0 is not more than 0"),
        (HUAWEI, (3, "flavor_ram", "-5"), "'-5' is not from 0 to 1048576"),
        (HUAWEI, (3, "numa", "0"), "'0' is not from 1 to 1024"),
        (HUAWEI, (3, "numa", "33"), "33 nodes for 32 vcpus"),
        (HUAWEI, (3, "numa", ""), "is empty"),
        (HUAWEI, (4, "strategy", "anti_affinity"), "did you mean 'anti-affinity'?"),
        (HUAWEI, (4, "group", ""), "is empty, and strategy is not"),
        (HUAWEI, (4, "group", "0.5"), "'0.5' is not a whole number"),
        (HUAWEI, (2, "domain", ""), "is empty, and strategy is fault_domain"),
        (HUAWEI, (4, "domain", "1"), "has a value, and strategy is not fault_domain"),
        (VMAGENT, (3, "step", "0"), "0 after 0: rows are out of order"),
        (VMAGENT, (4, "time_s", "1.2"), "1.2 after 1.25: rows are out of order"),
        (VMAGENT, (4, "vm", "9"), "9 goes, and has never come"),
        (VMAGENT, (3, "vm", "7"), "7 comes, and is there already"),
        (VMAGENT, (5, "is_double", "1"), "2 nodes for 1 vcpu"),
        (VMAGENT, (5, "is_double", "2"), "'2' is not from 0 to 1"),
        (VMAGENT, (5, "cpu", "0"), "'0' is not from 1 to 8192"),
        (VMAGENT, (5, "mem_gb", "0"), "0.0 is not more than 0"),
        (VMAGENT, (5, "type", "resize"), "'resize' is none of create, delete"),
        (AZURE, (4, "start_s", "299"), "299 after 300: rows are out of order"),
        (AZURE, (4, "vm", "0"), "0 comes twice"),
        (AZURE, (4, "vcpu", "-2"), "'-2' is not from 1 to 8192"),
        (AZURE, (4, "mem_gb", "x"), "'x' is not a number"),
        (AZURE, (3, "dur_bin_hi_s", "599"), "599 is less than 600"),
        (AZURE, (3, "dur_bin_lo_s", ""), "is empty"),
        (AZURE, (3, "censored", ""), "is empty"),
        (AZURE, (3, "censored", "2"), "'2' is not from 0 to 1"),
    ],
)
def test_what_is_wrong_is_named_with_its_line_and_column(tmp_path, text, change, complaint):
    line, field, _ = change
    found = refused(put(tmp_path, changed(text, *change)))
    assert found.startswith(f":{line}: column {field!r}: ")
    assert complaint in found


@pytest.mark.parametrize(
    ("text", "change", "found"),
    [
        (OWN, (4, "vcpus", "1"), "nodes"),
        (OWN, (4, "group", "new"), "rule"),
        (OWN, (3, "rule", "fault-domain"), "domain"),
        (HUAWEI, (3, "flavor_vcpus", "1"), "numa"),
        (HUAWEI, (3, "strategy", "affinity"), "group"),
        (HUAWEI, (3, "group", "1"), "strategy"),
        (VMAGENT, (5, "type", "delete"), "vm"),
        (AZURE, (3, "dur_bin_lo_s", "1201"), "dur_bin_hi_s"),
    ],
)
def test_what_does_not_go_together_is_named_by_one_of_them(tmp_path, text, change, found):
    path = put(tmp_path, changed(text, *change))
    assert refused(path).startswith(f":{change[0]}: column {found!r}: ")


@given(log=st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), min_size=1, max_size=12))
def test_who_is_there_is_followed_by_name(tmp_path_factory, log):
    there, expected, wrong, count = {}, [], None, 0
    for line, (comes, name) in enumerate(log, 2):
        if comes == (name in there):
            wrong = line
            break
        if comes:
            there[name] = count
            count += 1
        expected.append(there[name] if comes else ~there.pop(name))
    rows = "".join(f"0,{'create' if comes else 'delete'},{name},1,1\n" for comes, name in log)
    path = put(tmp_path_factory.mktemp("log"), arrivals(0) + rows)
    if wrong is None:
        assert list(read_trace(path).events) == expected
    else:
        assert refused(path).startswith(f":{wrong}: column 'guest': ")


def test_a_guest_cannot_go_twice(tmp_path):
    text = OWN + "61,delete,web-2,,,,,,\n62,delete,web-2,,,,,,\n"
    assert refused(put(tmp_path, text)) == ":8: column 'guest': 'web-2' goes, and has gone before"


def test_the_first_line_that_is_wrong_is_named(tmp_path):
    text = changed(changed(OWN, 5, "time_s", "x"), 3, "memory_mib", "y")
    assert refused(put(tmp_path, text)).startswith(":3: column 'memory_mib'")


def test_wrong_values_are_found_in_later_pieces_too(tmp_path, monkeypatch):
    monkeypatch.setattr(text_table, "PIECE_BYTES", 64)
    rows = arrivals(200).splitlines()
    rows[150] = "149,create,x,no,1024"
    path = put(tmp_path, "\n".join(rows) + "\n")
    assert refused(path) == ":151: column 'vcpus': 'no' is not a whole number"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", " is empty"),
        ("\n", " is no trace that is known here"),
        ("name,size\n1,2\n", " is no trace that is known here"),
        (OWN.splitlines()[0] + "\n", " has a header and no rows"),
        (OWN.splitlines()[0], ":1: the file ends within this row"),
        (OWN.replace("nodes", "node"), " there is no column 'node'; did you mean 'nodes'?"),
        (OWN.replace("nodes", "vcpus"), ":1: two columns are named 'vcpus'"),
        (OWN.replace("guest", "vm"), " column 'guest' is missing in a trace of homenode's own"),
        (HUAWEI.replace("numa", "nodes"), " column 'numa' is missing in a trace of Huawei's"),
        (OWN.replace("delete,web-1,,,,,,", "delete,web-1"), ":5: has 3 fields, and the header 9"),
        (HUAWEI.replace("32,64", "32,64,64"), ":3: has 8 fields, and the header 7"),
        (HUAWEI.replace("1,32", "\n1,32"), ":3: has 1 fields, and the header 7"),
        (HUAWEI + "\n", ":6: has 1 fields, and the header 7"),
        (OWN.replace(' c"', " c"), ":6: is not CSV: unexpected end of data"),
        (HUAWEI.replace("1,32", '"1"1,32'), ":3: is not CSV: ',' expected after '\"'"),
        (OWN.encode().replace(b"database", b"dat\xe9base"), ":4: is not UTF-8"),
        ("a" * 9_000_000, ":1: is longer than 1048576 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_table_is_refused(tmp_path, text, complaint):
    assert refused(put(tmp_path, text)).removeprefix(":").startswith(complaint.removeprefix(":"))


@pytest.mark.parametrize("name", ["trace.csv", "trace.csv.gz", "trace.parquet"])
def test_what_was_cut_off_is_refused(tmp_path, name):
    trace = read_trace(put(tmp_path, OWN, "whole.csv"))
    path = tmp_path / name
    write_trace(trace, path)
    data = path.read_bytes()
    for end in range(0, len(data), 1 if len(data) < 1000 else 13):
        path.write_bytes(data[:end])
        whole_lines = data[:end].endswith(b"\n") and data[:end].count(b"\n") > 1
        if name == "trace.csv" and whole_lines:
            assert len(read_trace(path).events) == data[:end].count(b"\n") - 1
        else:
            refused(path)


def test_what_is_damaged_is_refused(tmp_path):
    path = put(tmp_path, OWN, "trace.csv.gz")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert "is damaged" in refused(path)
    assert "is not a whole Parquet file" in refused(put(tmp_path, b"PAR1" + b"x" * 50 + b"PAR1"))


def test_what_is_not_there_is_said_to_be_so(tmp_path):
    assert "cannot read it: No such file" in refused(tmp_path / "missing.csv")
    assert "cannot read it: Is a directory" in refused(tmp_path)


# -- Parquet --


def own_frame(**changes):
    values = {
        "time_s": [0.0, 1.0, 2.0], "event": ["create", "create", "delete"], "guest": [5, 6, 5],
        "vcpus": [1, 2, None], "memory_mib": [1024, 2048, None],
    }  # fmt: skip
    return pl.DataFrame({**values, **changes})


def parquet(folder, frame, name="[1]*.parquet"):
    frame.write_parquet(folder / name)
    return folder / name


def test_parquet_may_have_any_type_that_holds_the_values(tmp_path):
    plain = read_trace(parquet(tmp_path, own_frame()))
    assert list(plain.events) == [0, 1, ~0]
    for changes in (
        {"vcpus": pl.Series([1.0, 2.0, float("nan")])},
        {"vcpus": pl.Series([1, 2, None], dtype=pl.UInt8)},
        {"vcpus": pl.Series(["1", "2", None]).cast(pl.Decimal(10, 2))},
        {"time_s": [0, 1, 2]},
        {"guest": ["a", "b", "a"]},
        {"guest": pl.Series(["a", "b", "a"], dtype=pl.Categorical)},
        {"event": pl.Series(["create", "create", "delete"], dtype=pl.Enum(["delete", "create"]))},
        {"nodes": pl.Series([None, None, None], dtype=pl.Null)},
        {"group": pl.Series([None, None, None], dtype=pl.String)},
    ):
        assert content(read_trace(parquet(tmp_path, own_frame(**changes)))) == content(plain)
    grouped = own_frame(group=[7, None, None], rule=["affinity", None, None])
    assert read_trace(parquet(tmp_path, grouped)).memberships == (Membership("7", "affinity"),)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"vcpus": ["1", "2", None]}, ": column 'vcpus' holds String, not whole numbers"),
        ({"vcpus": [True, False, None]}, ": column 'vcpus' holds Boolean, not whole numbers"),
        ({"time_s": ["0", "1", "2"]}, ": column 'time_s' holds String, not numbers"),
        ({"event": [1, 1, 0]}, ": column 'event' holds Int64, not texts"),
        ({"guest": [0.5, 1.5, 0.5]}, ": column 'guest' holds Float64, not texts or whole numbers"),
        ({"vcpus": [1, 0, None]}, ":2: column 'vcpus': 0 is not from 1 to 8192"),
        ({"vcpus": [1, None, None]}, ":2: column 'vcpus': is empty, and event is create"),
        ({"vcpus": [1.0, 2.5, None]}, ":2: column 'vcpus': 2.5 is not a whole number"),
        ({"vcpus": pl.Series(["1", "2.5", None]).cast(pl.Decimal(9, 1))},
         ":2: column 'vcpus': Decimal('2.5') is not a whole number"),
        ({"memory_mib": pl.Series([1, 2**64 - 1, None], dtype=pl.UInt64)},
         ":2: column 'memory_mib': 18446744073709551615 is not from 1 to 1073741824"),
        ({"time_s": [0.0, float("inf"), 2.0]}, ":2: column 'time_s': inf is not a number"),
        ({"time_s": [0.0, float("nan"), 2.0]}, ":2: column 'time_s': is empty"),
        ({"time_s": [0.0, 3.0, 2.0]}, ":3: column 'time_s': 2.0 after 3.0: rows are out of order"),
        ({"event": ["create", "create", "gone"]}, ":3: column 'event': 'gone' is none of"),
        ({"guest": [5, 5, 5]}, ":2: column 'guest': 5 comes, and is there already"),
        ({"guest": [5, 6, 7]}, ":3: column 'guest': 7 goes, and has never come"),
        ({"node": [1, 1, 1]}, ": there is no column 'node'; did you mean 'nodes'?"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_parquet_is_named_with_its_row(tmp_path, changes, complaint):
    assert refused(parquet(tmp_path, own_frame(**changes))).startswith(complaint)


def test_parquet_without_rows_or_columns_is_refused(tmp_path):
    assert refused(parquet(tmp_path, own_frame().clear())) == ": has no rows"
    assert "is no trace" in refused(parquet(tmp_path, pl.DataFrame({"x": [1]})))
    assert "column 'guest' is missing" in refused(parquet(tmp_path, own_frame().drop("guest")))


@given(
    values=st.lists(
        st.integers(-3, 12).map(str)
        | st.sampled_from(["", "1.0", "1.5", "1e1", "+4", "007", "x", "9" * 25, "-0", "nan", "0x1"])
        | st.text(st.characters(codec="utf-8", exclude_characters='\r\n,"'), max_size=3),
        min_size=1,
        max_size=6,
    )
)
def test_whole_numbers_are_what_python_calls_so(values):
    def whole(text):
        if not text.isascii() or "_" in text or text != text.strip():
            return None
        try:
            number = float(text)
        except ValueError:
            return None
        return int(number) if number.is_integer() and 1 <= number <= 10 else None

    column = columns.Column("x", "whole", least=1, most=10, may_be_empty=True)
    read, problem = columns.converted(column, pl.Series(values, dtype=pl.String))
    expected = [whole(text) for text in values]
    wrong = [at for at, text in enumerate(values) if text and expected[at] is None]
    assert (None if problem is None else problem.row) == (wrong[0] if wrong else None)
    if not wrong:
        assert read.to_list() == expected


def test_without_polars_it_is_said_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['polars'] = None\n"
        "from homenode.fleet.reading.recognising import read_trace\n"
        "from homenode.errors import HomenodeError\n"
        "try: read_trace(sys.argv[1])\n"
        "except HomenodeError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(put(tmp_path, OWN))],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "replaying traces needs polars; pip install 'homenode[replay]'\n"


# -- real traces --


@needs_traces
@pytest.mark.parametrize("number", range(1, 6))
def test_huaweis_requests_are_all_read(number):
    path = TRACES / "topology-aware" / f"vm_data_c{number}.csv"
    trace = read_trace(path)
    assert trace.guests == len(trace.events) == 4998
    assert 0.21 < nodes(trace).count(2) / 4998 < 0.31
    assert set(nodes(trace)) == {1, 2}
    belongs = [trace.memberships[one] for one in trace.membership if one != NO_MEMBERSHIP]
    assert {one.rule for one in belongs} == set(GROUP_RULES)
    assert 0.4 < len(belongs) / 4998 < 0.6
    assert {one.domain for one in belongs if one.rule == "fault-domain"} == {"0", "1", "2"}


@needs_traces
def test_vmagents_episodes_are_all_read():
    trace = read_trace(TRACES / "huawei-east-1" / "vmagent_firstfit_episode.csv")
    assert trace.guests == 3111
    assert len(trace.events) - trace.guests == 2885
    assert trace.times_ms[-1] == 336_914_656
    assert set(nodes(trace)) == {1}
    trace = read_trace(TRACES / "huawei-east-1" / "vmagent_test_episode.csv")
    assert trace.guests == 70
    assert nodes(trace).count(2) == 1


@needs_traces
def test_azures_guests_are_all_read():
    path = TRACES / "azure-v1" / "azure_v1_test.csv.gz"
    trace = read_trace(path)
    assert trace.guests == 409_586
    assert len(trace.events) - trace.guests == 386_882
    assert len(trace.requests) == 15
    assert all(one <= other for one, other in pairwise(trace.times_ms))
    there = bytearray(trace.guests)
    for event in trace.events:
        number = event if event >= 0 else ~event
        assert there[number] == (event < 0)
        there[number] += 1
    assert there.count(1) == 22_704
    assert content(read_trace(path, Rules(first=1000))).wanted == trace.wanted[:1000]


@needs_traces
def test_azures_arrivals_without_lifetimes_get_some(tmp_path):
    path = TRACES / "azure-v1" / "azure_v1_train_nodur.csv.gz"
    trace = read_trace(path, Rules(first=100_000, lifetimes=500, wide=(8, 2)))
    assert trace.guests == 100_000
    assert len(trace.events) > 199_000
    assert len(trace.synthetic) == 2
    write_trace(trace, tmp_path / "azure.parquet")
    assert content(read_trace(tmp_path / "azure.parquet")) == content(trace)
