import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homenode.errors import ParseError
from homenode.formats import snapshot
from homenode.guest import Guest, MemoryByNode
from homenode.host import Cpu, Host, Node
from strategies import machines

moderate = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def places(value, path=""):
    """Yield (the container, its key, the path) of every value in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        at = f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}".lstrip(".")
        yield value, key, at
        if isinstance(item, (dict, list)):
            yield from places(item, at)


def outcome(text):
    """Return (what was read, None) or (None, the refusal)."""
    try:
        return snapshot.parse(text, source="test"), None
    except ParseError as error:
        return None, str(error)


@moderate
@given(machines())
def test_every_field_of_every_host_and_guest_survives_the_round_trip(machine):
    host, guests = machine
    text = snapshot.dump(host, guests)
    read_host, read_guests = snapshot.parse(text, source="test")
    assert read_host == host
    assert read_guests == guests
    assert snapshot.dump(read_host, read_guests) == text


@moderate
@given(machines(most_nodes=4), st.data())
def test_any_value_of_another_type_is_refused_with_its_place_or_means_the_same(machine, data):
    document = json.loads(snapshot.dump(*machine))
    container, key, place = data.draw(st.sampled_from(list(places(document))))
    wrong = [{}, [[]], {"": 1}, -1, 1.5, True, "\ud800", "x-y", 10**30, None, [None]]
    container[key] = data.draw(st.sampled_from(wrong))
    read, refusal = outcome(json.dumps(document))
    if refusal is not None:
        assert refusal.startswith("test:")
        assert place.partition("[")[0].partition(".")[0] in refusal
    else:
        # What was put in was of the right type after all: then it is kept.
        assert snapshot.parse(snapshot.dump(*read), source="again") == read


@moderate
@given(machines(most_nodes=4), st.data())
def test_an_unknown_field_anywhere_is_refused_and_the_nearest_known_one_is_named(machine, data):
    document = json.loads(snapshot.dump(*machine))
    tables = [document, *(c[k] for c, k, _ in places(document) if isinstance(c[k], dict))]
    table = data.draw(st.sampled_from(tables))
    table["sources"] = 1
    with pytest.raises(ParseError, match=r"sources: there is no such key"):
        snapshot.parse(json.dumps(document), source="test")


@moderate
@given(machines(most_nodes=3), st.integers(0), st.integers(0, 255))
def test_a_truncated_or_corrupted_snapshot_is_refused_or_read_and_never_a_traceback(
    machine, at, byte
):
    text = snapshot.dump(*machine)
    at %= len(text)
    for damaged in (text[:at], text[:at] + chr(byte) + text[at + 1 :]):
        refusal = outcome(damaged)[1]
        assert refusal is None or "\n" not in refusal


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "test:1: is not JSON"),
        ("[" * 100_000, "nested too deep"),
        ("[" + "9" * 5000 + "]", "too long a number"),
        ("null", "test: is no homenode snapshot"),
        ('{"topology": [], "version": 1}', "test: is no homenode snapshot"),
        ('{"format": "homenode-snapshot", "version": 2}', "version: a snapshot of version 2"),
        ('{"format": "homenode-snapshot", "version": true}', "version: an integer is wanted"),
    ],
)
def test_what_is_no_snapshot_is_refused_in_one_line(text, message):
    with pytest.raises(ParseError) as caught:
        snapshot.parse(text, source="test")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_contradiction_in_the_host_is_refused_with_the_source():
    host = Host(cpus=[Cpu(0, 0)], nodes=[Node(0)])
    document = json.loads(snapshot.dump(host, ()))
    document["host"]["cpus"][0]["node"] = 7
    with pytest.raises(ParseError, match=r"^file\.json: host: cpu 0 is on node 7"):
        snapshot.parse(json.dumps(document), source="file.json")


def test_memory_of_a_guest_on_a_node_that_the_host_lacks_is_refused_with_its_place():
    host = Host(cpus=[Cpu(0, 0)], nodes=[Node(0)])
    guest = Guest("a", memory_by_node=MemoryByNode({3: 4}, "a list"))
    with pytest.raises(ParseError, match=r"guests\[0\]\.memory_by_node\.kib\.3: there is no such"):
        snapshot.parse(snapshot.dump(host, (guest,)), source="test")


@moderate
@given(machines(most_nodes=3), st.floats(0, 4e9), machines(most_nodes=3))
def test_the_digest_names_the_content_and_not_when_it_was_taken(machine, later, other):
    host, guests = machine
    digest = snapshot.digest(host, guests)
    assert len(digest) == 12
    assert int(digest, 16) >= 0
    assert snapshot.digest(host.replace(taken_at=later), guests) == digest
    undated = (host.replace(taken_at=None), tuple(undate(guest) for guest in guests))
    other_undated = (other[0].replace(taken_at=None), tuple(undate(guest) for guest in other[1]))
    assert (snapshot.digest(*other) == digest) == (undated == other_undated)


def undate(guest):
    lies = guest.memory_by_node
    return guest._replace(memory_by_node=lies and lies._replace(taken_at=None))


def test_a_key_that_would_break_the_line_is_told_of_in_one():
    for where in (
        '{"a\\nb": 1}',
        '{"format": "homenode-snapshot", "version": 1, "host": {"a\\u001bb": 1}}',
    ):
        _, refusal = outcome(where)
        assert refusal.isprintable()
