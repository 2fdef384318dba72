"""Explanations and remedies say what is so."""

from hypothesis import given, settings
from hypothesis import strategies as st

import oracle
from homenode.formats import host_toml
from homenode.guest import GuestRequest
from homenode.placement import View
from homenode.placement.deciding import place
from homenode.placement.explain import explain
from homenode.placement.policies import POLICIES, policy
from test_search import orders, requests_on, views, wants_beyond_cpus

policies = st.one_of(st.sampled_from(sorted(POLICIES)), orders()).map(policy)


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_a_decision_fits_exactly_where_enumeration_finds_something(data):
    view = data.draw(views())
    request, wanted = data.draw(requests_on(view)), data.draw(policies)
    decision = place(view, request, wanted)
    best = oracle.best(view, request, wanted)
    assert decision.fits == (best is not None)
    if best is not None:
        facts = oracle.facts(view, request, wanted, best)
        assert tuple(decision.nodes) == best
        assert sum(share.kib for share in decision.memory) == request.memory_kib
        for name, value in decision.facts:
            assert abs(float(facts[name]) - value) < 0.001, name
        far = oracle.far_shares(view, request, wanted, best, facts["spilled"])
        for share in decision.memory:
            assert share.node in best or share.kib == far[share.node]
            assert share.kib <= oracle.usable(view, share.node, wanted, request.page_kib)


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_rivals_are_in_the_order_of_the_policy_and_every_node_is_accounted_for(data):
    view = data.draw(views())
    request, wanted = data.draw(requests_on(view)), data.draw(policies)
    decision = place(view, request, wanted)
    told = explain(view, request, wanted, decision, limit=None)
    keys = []
    for candidate in told.candidates:
        nodes = tuple(candidate.nodes)
        facts = oracle.facts(view, request, wanted, nodes)
        assert facts["fits"]
        keys.append((oracle.rank(wanted, facts), nodes))
    assert keys[:1] == sorted(keys)[:1]
    assert keys[1:] == sorted(keys[1:])
    if not decision.fits:
        said = {node for rejected in told.rejected for node in rejected.nodes}
        assert not told.candidates
        alone = {
            node for node in view.host.node_map
            if node in view.host.nodes_of(view.host.cpu_map)
            and node in oracle._nodes(view.host, oracle.suitable(view, request, wanted))
            and node not in oracle.barred(view, request)
            and oracle.facts(view, request, wanted, (node,))["fits"]
        }  # fmt: skip
        assert said | alone == set(view.host.node_map)


def test_two_amounts_that_are_told_apart_do_not_look_alike():
    host = host_toml.parse("nodes = 2\ncores = 4\nmemory = '16GiB'", source="a test")
    nodes = [node._replace(free_kib=(8 << 20) + node.id) for node in host.nodes]
    view = View(host.replace(nodes=nodes))
    request = GuestRequest("guest", 1, 1 << 20, 1 << 20)
    wanted = policy("worst-fit")
    told = explain(view, request, wanted, place(view, request, wanted))
    assert told.lost_by == ("chosen", "its usable is 8388608 KiB, not 8388609 KiB")


@settings(max_examples=300)
@given(wants_beyond_cpus(), policies)
def test_memory_of_nodes_without_cpus_is_given_as_enumeration_says(case, wanted):
    view, request = case
    decision = place(view, request, wanted)
    best = oracle.best(view, request, wanted)
    assert (tuple(decision.nodes) if decision.fits else None) == best
    if best is None:
        return
    facts = oracle.facts(view, request, wanted, best)
    for name, value in decision.facts:
        assert abs(float(facts[name]) - value) < 0.001, name
    there = {share.node: share.kib for share in decision.memory}
    far = oracle.far_shares(view, request, wanted, best, facts["spilled"])
    assert {node: kib for node, kib in there.items() if node not in best} == far
    assert sum(there.values()) == request.memory_kib
