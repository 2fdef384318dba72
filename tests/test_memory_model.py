"""The memory model: paces by place, contention to a fixed point, and the data that it lives on."""

import tomllib
from importlib.resources import files

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.errors import HomenodeError
from homenode.scheduler.memory import Appetite, Machine, Use, machine_of, paces
from homenode.scheduler.models import machine, machine_names, work, work_names


def simple(nodes=2, ratio=1.6, controllers=None, links=None):
    latency = tuple(tuple(1.0 if at == to else ratio for to in range(nodes)) for at in range(nodes))
    return Machine(
        latency,
        (controllers,) * nodes,
        tuple(tuple(None if at == to else links for to in range(nodes)) for at in range(nodes)),
    )


def test_local_memory_is_pace_one_and_remote_memory_costs_its_sensitivity():
    local = Appetite(0.5, 0.0, (1.0, 0.0))
    found = paces(simple(), [local], []).pace[0]
    assert found == pytest.approx((1.0, 1 / 1.3))


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1, 4))
def test_time_is_linear_in_the_remote_share_where_nothing_is_full(stall, share, ratio):
    def time(remote):
        appetite = Appetite(stall, 0.0, (1 - remote, remote))
        return 1 / paces(simple(ratio=ratio), [appetite], []).pace[0][0]

    assert time(share) == pytest.approx((1 - share) * time(0.0) + share * time(1.0))


def test_latency_under_load_rises_to_its_plateau():
    made = simple()
    assert made.loaded(0.0) == 1.0
    assert 1.0 < made.loaded(0.5) < made.loaded(0.9) < made.loaded(0.99)
    assert made.loaded(1.0) == made.loaded(1.5) == made.plateau


capacities = st.floats(0.5, 50)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 30), st.integers(0, 2), st.floats(0, 1)),
             min_size=1, max_size=12),
    capacities, capacities,
)  # fmt: skip
def test_nothing_carries_more_than_it_can_and_what_is_not_full_hinders_nobody(
    guests, controllers, links
):
    made = simple(3, controllers=controllers, links=links)
    appetites = [
        Appetite(stall, gb_s, tuple(1 - share if at == home else share / 2 for at in range(3)))
        for stall, gb_s, home, share in guests
    ]
    uses = [Use(at, home, 1.0) for at, (_, _, home, _) in enumerate(guests)]
    found = paces(made, appetites, uses)
    at_nodes = [0.0] * 3
    over = [[0.0] * 3 for _ in range(3)]
    for vcpu, node, cpus in uses:
        for to in range(3):
            moved = (
                cpus * found.pace[vcpu][node] * appetites[vcpu].gb_s * appetites[vcpu].shares[to]
            )
            at_nodes[to] += moved
            over[node][to] += moved
    for to in range(3):
        assert at_nodes[to] <= controllers * 1.01
        for at in range(3):
            assert at == to or over[at][to] <= links * 1.01
    assert all(0 < pace <= 1.0001 for row in found.pace for pace in row)


def test_a_saturated_controller_is_shared_alike():
    made = simple(1, controllers=10.0)
    found = paces(made, [Appetite(0.0, 5.0, (1.0,))] * 8, [Use(at, 0, 1.0) for at in range(8)])
    assert [row[0] for row in found.pace] == pytest.approx([0.25] * 8, rel=1e-3)


def test_a_narrow_link_hinders_those_alone_who_use_it():
    made = simple(2, ratio=1.0, controllers=100.0, links=1.0)
    remote, local = Appetite(0.0, 10.0, (0.0, 1.0)), Appetite(0.0, 10.0, (1.0, 0.0))
    found = paces(made, [remote, local], [Use(0, 0, 1.0), Use(1, 0, 1.0)])
    assert found.pace[0][0] == pytest.approx(0.1, rel=1e-2)
    assert found.pace[1][0] == pytest.approx(1.0, rel=1e-2)


@pytest.mark.parametrize("name", machine_names())
def test_every_machine_is_whole(name):
    model = machine(name)
    count = len(model.host.nodes)
    assert len(model.machine.latency) == len(model.machine.controllers) == count
    assert all(row[at] == 1.0 for at, row in enumerate(model.machine.latency))
    assert all(min(row) >= 0.6 for row in model.machine.latency)
    assert model.source


@pytest.mark.parametrize("name", work_names())
def test_every_kind_of_work_is_whole_and_has_its_source(name):
    kind = work(name)
    assert 0 <= kind.stall <= 1
    assert 1 <= kind.threads_yield <= 2
    assert kind.source
    assert kind.title


@pytest.mark.parametrize("name", ["machines.toml", "workloads.toml"])
def test_data_files_have_no_keys_that_nobody_reads(name):
    document = tomllib.loads(files("homenode.scheduler").joinpath(name).read_text("utf-8"))
    known = {
        "machines.toml": {
            "title", "source", "assumed", "nodes", "sockets", "cores", "threads_per_core", "memory",
            "latency_ns", "controllers", "links", "loaded_a", "plateau", "loaded_error",
        },
        "workloads.toml": {"title", "sensitivity", "threads_yield", "gb_s", "source"},
    }[name]  # fmt: skip
    for table in document.values():
        assert set(table) <= known


def test_what_is_unknown_names_what_is_known():
    with pytest.raises(HomenodeError, match=r"no machine 'cray'.*e5620"):
        machine("cray")
    with pytest.raises(HomenodeError, match=r"no work 'play'.*specjbb2005"):
        work("play")


def test_a_host_without_measurements_has_latencies_by_distance():
    host = machine("8269cy-snc2").host.replace(
        latency_ns=None,
        distances=[[10, 11, 21, 21], [11, 10, 21, 21], [21, 21, 10, 11], [21, 21, 11, 10]],
    )
    made = machine_of(host)
    measured = machine("8269cy-snc2").machine
    for at in range(4):
        assert made.latency[at] == pytest.approx(measured.latency[at], rel=0.14)
    assert not made.can_fill
