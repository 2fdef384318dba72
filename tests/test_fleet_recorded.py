"""Others' decisions and traces, where HOMENODE_DATA has them: replayed exactly, and compared."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))

pytest.importorskip("polars", reason="traces need polars")

from proof import policies, recorded

from homenode.fleet import Fleet
from homenode.fleet.reading.recognising import read_trace
from homenode.fleet.reading.rules import Rules
from homenode.fleet.replay import Replay

needs_data = pytest.mark.skipif(
    policies.folder() is None, reason="HOMENODE_DATA is not set: no traces of others"
)


def episode(name):
    return policies.folder().parent / f"huawei-east-1/vmagent_{name}_episode.csv"


@needs_data
@pytest.mark.parametrize(("name", "creations"), [("firstfit", 3111), ("bestfit", 2803)])
def test_every_recorded_decision_and_state_comes_out(name, creations):
    found = recorded.replay(episode(name), most_left=name == "bestfit")
    assert (found.creations, found.same) == (creations, creations)
    assert found.equal == found.events


@needs_data
@pytest.mark.parametrize("name", policies.SETS)
def test_the_default_refuses_nobody_and_touches_fewer_hosts_than_first_fit(name):
    where = policies.folder()
    plan = policies.fleet_plan(where)
    trace = read_trace(where / f"vm_data_{name}.csv", Rules(groups=False))
    own = policies.replayed(trace, plan, policies.DEFAULT_NAME)
    first_fit = policies.replayed(trace, plan, policies.FIRST_FIT)
    assert own.refused == 0
    assert own.touched < first_fit.touched


@needs_data
def test_published_runs_of_first_best_and_worst_fit_come_out():
    # Our own reference run on the same data, made by others than this program.
    where = policies.folder()
    plan = policies.fleet_plan(where)
    trace = read_trace(where / "vm_data_c1.csv", Rules(groups=False))
    assert policies.replayed(trace, plan, policies.FIRST_FIT) == (0, 1234)
    best, worst = (
        policies.replayed(
            trace, plan, "flat", lambda fleet, sign=sign: policies.CpusLeft(fleet, sign)
        )
        for sign in (1, -1)
    )
    assert (best, worst) == ((5, 1378), (18, 1460))


@needs_data
def test_groups_are_honoured_to_the_end():
    where = policies.folder()
    plan = policies.fleet_plan(where)
    trace = read_trace(where / "vm_data_c4.csv", Rules())
    fleet = Fleet(plan.hosts)
    replay = Replay(trace, fleet, policies.Chooser(fleet, policies.fleet_policy("preserve")))
    replay.run()
    together: dict[str, set[int]] = {}
    apart: dict[str, list[int]] = {}
    racks: dict[str, dict[int, set[str]]] = {}
    for guest, place in enumerate(replay.places):
        if place is None or trace.membership[guest] < 0:
            continue
        member = trace.memberships[trace.membership[guest]]
        if member.rule == "affinity":
            together.setdefault(member.group, set()).add(place.host)
        elif member.rule == "anti-affinity":
            apart.setdefault(member.group, []).append(place.host)
        else:
            rack = fleet.rack_of[place.host]
            racks.setdefault(member.group, {}).setdefault(rack, set()).add(member.domain)
    assert together
    assert all(len(hosts) == 1 for hosts in together.values())
    assert apart
    assert all(len(hosts) == len(set(hosts)) for hosts in apart.values())
    assert racks
    assert all(len(domains) == 1 for own in racks.values() for domains in own.values())
