"""The hosts of a fleet: homenode's own file, and Huawei's, which is found through HOMENODE_DATA."""

import os
import textwrap
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.errors import HomenodeError, ParseError
from homenode.fleet import fleet_file
from homenode.fleet.fleet_file import parse, read_fleet
from homenode.fleet.hosts import Fleet, OverCommit
from homenode.formats import host_toml

DATA = Path(os.environ.get("HOMENODE_DATA", "no-data")) / "traces" / "topology-aware"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="HOMENODE_DATA names no folder with traces/topology-aware"
)

PLAIN = '[[hosts]]\ncores = 2\nmemory = "1GiB"\n'
GIB = 1 << 20


def described(path):
    """Return a host as if it were described at `path`."""
    if "missing" in path:
        raise HomenodeError(f"{path}: no such file", hint="name another")
    return host_toml.parse('cores = 4\nmemory = "8GiB"', source=path)


def plan_of(text):
    return parse(text, source="fleet.toml", host_of=described)


def refused(text):
    with pytest.raises(ParseError) as caught:
        plan_of(text)
    assert caught.value.source == "fleet.toml"
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("fleet.toml: ")


def test_the_example_in_the_manual_is_read():
    example = fleet_file.__doc__.split("::\n\n")[1].split("\n\nHosts")[0]
    plan = plan_of(textwrap.dedent(example))
    assert (plan.name, plan.source) == ("hall 3", "fleet.toml")
    assert plan.over_commit == OverCommit(Fraction(2), Fraction(1))
    assert len(plan.hosts) == 120
    assert plan.hosts[0][:3] == ("epyc-0", plan.hosts[99].host, "epyc-rack-0")
    assert plan.hosts[99][0::2][:2] == ("epyc-99", "epyc-rack-9")
    assert plan.hosts[119].name == "r640-19"
    assert plan.hosts[100].rack == plan.hosts[119].rack == "old"
    assert len(plan.hosts[0].host.cpu_map) == 256
    fleet = Fleet(plan.hosts, plan.over_commit)
    assert len(fleet.kinds) == 2


@given(
    tables=st.lists(
        st.tuples(st.integers(1, 30), st.none() | st.integers(1, 30), st.sampled_from("ab")),
        min_size=1,
        max_size=5,
    )
)
def test_hosts_and_racks_are_numbered_on_and_fill_one_rack_after_the_other(tables):
    text = "".join(
        f'{PLAIN}count = {count}\nname = "{name}"\n'
        + (f"racks = {racks}\n" if racks is not None else "")
        for count, racks, name in tables
    )
    if any(racks is not None and racks > count for count, racks, _ in tables):
        assert "racks for" in refused(text)
        return
    hosts = plan_of(text).hosts
    assert len({host.name for host in hosts}) == len(hosts) == sum(table[0] for table in tables)
    assert len({id(host.host) for host in hosts}) == 1
    begin, seen = 0, set()
    for count, racks, name in tables:
        own = [host.rack for host in hosts[begin : begin + count]]
        assert all(host.name.startswith(f"{name}-") for host in hosts[begin : begin + count])
        begin += count
        if racks is None:
            assert own == [None] * count
            continue
        sizes = Counter(own)
        assert len(sizes) == racks
        assert max(sizes.values()) - min(sizes.values()) <= 1
        assert sum(one != other for one, other in pairwise(own)) == racks - 1
        assert not seen & set(own)
        seen |= set(own)


def test_hosts_that_are_alike_are_one_host_whatever_they_are_called():
    text = (
        '[[hosts]]\ncores = 2\nmemory = "1GiB"\nname = "a"\n'
        '[[hosts]]\nmemory = "1GiB"\ncores = 2\nname = "b"\ncount = 3\n'
        '[[hosts]]\nmemory = "2GiB"\ncores = 2\n'
        '[[hosts]]\nhost = "x"\n[[hosts]]\nhost = "x"\nname = "y"\n[[hosts]]\nhost = "z"\n'
    )
    hosts = plan_of(text).hosts
    assert [host.name for host in hosts] == [
        "a-0", "b-0", "b-1", "b-2", "fleet-0", "x-0", "y-0", "z-0",
    ]  # fmt: skip
    numbers = {}
    assert [numbers.setdefault(id(host.host), len(numbers)) for host in hosts] == [
        0, 0, 0, 0, 1, 2, 2, 3,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "ratio"),
    [("2", 2), ("1.1", "11/10"), ('"1.5"', "3/2"), ("0.01", "1/100"), ("100.0", 100)],
)
def test_overcommitment_is_what_was_written(written, ratio):
    plan = plan_of(f"[overcommit]\nvcpus = {written}\n{PLAIN}")
    assert plan.over_commit == OverCommit(Fraction(ratio), Fraction(1))
    assert plan_of(PLAIN).over_commit == OverCommit()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "hosts: there is none"),
        ("hosts = 3", "hosts: a list is wanted, not 3"),
        ("x =", "is not TOML: "),
        ("a = " + "[" * 5000, "is nested too deep"),
        (PLAIN.replace("hosts", "host"), "host: there is no such key; did you mean 'hosts'?"),
        (PLAIN + "cuont = 3", "hosts[0].cuont: there is no such key; did you mean 'count'?"),
        (PLAIN + "count = 0", "hosts[0].count: not from 1 to 50000"),
        (PLAIN + "count = 50001", "hosts[0].count: not from 1 to 50000"),
        (PLAIN + "count = 50_000\n" + PLAIN, "hosts[1].count: with it there are more than"),
        (PLAIN + "count = true", "hosts[0].count: an integer is wanted, not True"),
        (PLAIN + "racks = 2", "hosts[0].racks: 2 racks for 1 hosts"),
        (PLAIN + 'racks = 1\nrack = "a"', "hosts[0].racks: stands instead of rack"),
        (PLAIN + "rack = 7", "hosts[0].rack: a text is wanted, not 7"),
        (PLAIN + 'host = "a"', "hosts[0].cores: is not stated beside host"),
        ('[[hosts]]\nhost = "missing"', "hosts[0].host: missing: no such file; name another"),
        ("[[hosts]]\ncores = 2", "hosts[0].memory: what memory its nodes have is not told"),
        ('[[hosts]]\ncores = 0\nmemory = "1GiB"', "hosts[0].cores: the host has no cpus"),
        (PLAIN + PLAIN.replace("1GiB", "1"), "hosts[1].memory: not a size of memory: '1'"),
        (PLAIN + "sockets = 2\nnodes = 3", "hosts[0].nodes: 3 nodes do not spread evenly"),
        (PLAIN + "node = [{id = 0, coers = 3}]", "hosts[0].node[0].coers: there is no such key"),
        (PLAIN + 'cpupool = [{name = "a", nodes = "0"}, {name = "a", nodes = "0"}]',
         "hosts[0]: cpupool a is described twice"),
        ("[overcommit]\nvcpus = 0\n" + PLAIN, "overcommit.vcpus: 0 is not from 0.01 to 100"),
        ("[overcommit]\nmemory = 100.1\n" + PLAIN, "overcommit.memory: 100.1 is not from"),
        ("[overcommit]\nvcpu = 1\n" + PLAIN, "overcommit.vcpu: there is no such key"),
        *(
            (f"[overcommit]\nvcpus = {value}\n{PLAIN}", "overcommit.vcpus: a number such as 1.5 is")
            for value in ("inf", "nan", "-1", "true", '"1/0"', '"1e999999999"', '"x"', "[1]")
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_place(text, complaint):
    assert refused(text).startswith(complaint)


def test_files_are_beside_the_file_that_names_them(tmp_path):
    path = tmp_path / "hall.toml"
    path.write_text('\ufeff[[hosts]]\nhost = "captures/r640"\n', encoding="utf-8")
    seen = []

    def host_of(named):
        seen.append(named)
        return described(named)

    plan = read_fleet(path, host_of=host_of)
    assert seen == [str(tmp_path / "captures" / "r640")]
    assert (plan.name, plan.hosts[0].name) == ("hall", "r640-0")
    path.write_bytes(b"name = '\xe9'")
    with pytest.raises(ParseError, match="is not UTF-8"):
        read_fleet(path, host_of=host_of)
    with pytest.raises(HomenodeError, match="cannot read it: No such file"):
        read_fleet(tmp_path / "none.toml", host_of=host_of)
    with pytest.raises(HomenodeError, match="cannot read it: Is a directory"):
        read_fleet(tmp_path, host_of=host_of)


# -- Huawei's hosts --

HOSTS = "pm,CPU1,RAM1,CPU2,RAM2\n0,16,32,32,64\n3,24,16,0,0\n4,0,8,0,8\n7,16,32,32,64\n"
RACKS = "host_id,rack_id\nhost-0,5\nhost-1,5\nhost-3,5\nhost-4,6\nhost-7,6\n"


def huawei(folder, hosts=HOSTS, racks=RACKS):
    path = folder / "free.csv"
    path.write_text(hosts)
    if racks is not None:
        (folder / "topology_provider.csv").write_text(racks)
    return path


def test_huaweis_hosts_have_what_is_free_on_two_nodes(tmp_path):
    plan = read_fleet(huawei(tmp_path), host_of=described)
    assert (plan.name, plan.over_commit) == ("free", OverCommit())
    # host-4 has no free cpus.
    assert [(one.name, one.rack) for one in plan.hosts] == [
        ("host-0", "5"), ("host-3", "5"), ("host-7", "6"),
    ]  # fmt: skip
    first, second, third = (one.host for one in plan.hosts)
    assert first is third
    assert [len(cpus) for cpus in first.cpus_by_node.values()] == [16, 32]
    assert [node.usable_kib for node in first.nodes] == [32 * GIB, 64 * GIB]
    assert len(first.cores) == 48
    assert first.distances == ((10, 20), (20, 10))
    assert [len(cpus) for cpus in second.cpus_by_node.values()] == [24, 0]
    assert Fleet(plan.hosts).most_nodes == 2


def test_huaweis_hosts_need_no_racks(tmp_path):
    plan = read_fleet(huawei(tmp_path, racks=None), host_of=described)
    assert {one.rack for one in plan.hosts} == {None}


@pytest.mark.parametrize(
    ("hosts", "racks", "complaint"),
    [
        (HOSTS.replace("3,24", "0,24"), RACKS, "free.csv:3: column 'pm': 0 is there twice"),
        (HOSTS.replace("24", "-24"), RACKS, "free.csv:3: column 'CPU1': '-24' is not from 0"),
        (HOSTS.replace("24", "5000"), RACKS, "free.csv:3: column 'CPU1': '5000' is not from 0 to"),
        (HOSTS.replace("24,16", "24,"), RACKS, "free.csv:3: column 'RAM1': is empty"),
        (HOSTS.replace("RAM2", "RAM"), RACKS, "free.csv: column 'RAM2' is missing"),
        (HOSTS[:-4], RACKS, "free.csv:5: the file ends within this row"),
        (HOSTS.splitlines()[0] + "\n4,0,8,0,8\n", RACKS, "free.csv: there is no host with free"),
        (HOSTS, RACKS.replace("host-3", "host-2"), "free.csv:3: column 'pm': "),
        (HOSTS, RACKS.replace("host-3", "host-0"),
         "topology_provider.csv:4: column 'host_id': host-0 is there twice"),
        (HOSTS, RACKS.replace("rack_id", "rack"),
         "topology_provider.csv: column 'rack_id' is missing"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_huaweis_hosts_is_named(tmp_path, hosts, racks, complaint):
    with pytest.raises(ParseError) as caught:
        read_fleet(huawei(tmp_path, hosts, racks), host_of=described)
    assert str(caught.value).startswith(f"{tmp_path / complaint}")


@needs_data
def test_all_of_huaweis_hosts_are_read():
    plan = read_fleet(DATA / "pm_res.csv", host_of=described)
    assert len(plan.hosts) == 1710
    assert [one.name for one in plan.hosts] == [f"host-{number}" for number in range(1710)]
    assert len({id(one.host) for one in plan.hosts}) == 106
    assert len({one.rack for one in plan.hosts}) == 100
    fleet = Fleet(plan.hosts, plan.over_commit)
    assert sum(fleet.vcpus) == sum(len(one.host.cpu_map) for one in plan.hosts)
