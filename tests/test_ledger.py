"""What is remembered of a host, in a file here and in one behind a connection."""

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode import ledger as module
from homenode.bitmap import CpuMap, NodeMap
from homenode.claims import Claim
from homenode.drivers.ssh import SshGateway
from homenode.errors import HomenodeError
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.ledger import Entries, Ledger, Remembered, recalled
from homenode.state_file import LOCAL
from strategies import maybe, names

NOW, BOOT = 1000.0, "this boot"
UUIDS = [f"{digit}0000000-0000-0000-0000-000000000000" for digit in range(5)]

few = settings(max_examples=25)
kib = st.integers(0, 2**50)
shares = st.dictionaries(st.integers(0, 9), kib, max_size=4)
cpu_maps = st.sets(st.integers(0, 200), min_size=1, max_size=6).map(CpuMap)
masks = st.lists(cpu_maps, max_size=3).map(tuple)
memory = st.builds(MemoryByNode, shares, names, maybe(st.floats(0, 4e9)))
claims = st.builds(
    Claim,
    uuid=maybe(st.sampled_from(UUIDS)),
    name=names,
    vcpus=st.integers(0, 512),
    memory_kib=shares,
    boot_id=st.sampled_from([BOOT, "an earlier boot"]),
    expires_at=st.floats(0, 4e9),
    page_kib=st.sampled_from([4, 2048]),
    state=st.sampled_from(["pending", "seen"]),
    after_id=st.integers(-1, 65535),
    creator=maybe(st.integers(1, 2**22)),
)
remembered = st.builds(
    Remembered,
    st.sampled_from(UUIDS),
    id=maybe(st.integers(0, 65535)),
    memory=maybe(memory),
    memory_kib=maybe(kib),
    held=maybe(st.sets(st.integers(0, 99), max_size=4).map(NodeMap)),
    masks=masks,
    replaced=masks,
    exclusive=st.booleans(),
)
entries = st.builds(
    Entries,
    st.lists(claims, max_size=3).map(tuple),
    st.lists(remembered, max_size=4, unique_by=lambda one: one.uuid).map(tuple),
    st.integers(0, 2**40),
)


@pytest.fixture(scope="module")
def far(tmp_path_factory):
    """Behind a connection as ssh makes them, but without the ssh."""
    program = tmp_path_factory.mktemp("far") / "connect"
    program.write_text("#!/bin/sh\nexec sh\n")
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOMENODE_SSH_COMMAND", str(program))
        gateway = SshGateway("far")
        other = SshGateway("far")
    yield gateway, other
    gateway.close()
    other.close()


@pytest.fixture(params=["here", "over there"])
def storage(request):
    return LOCAL if request.param == "here" else request.getfixturevalue("far")[0].storage


def ledger_at(path, **changes):
    return Ledger(str(path), **{"boot_id": BOOT, "clock": lambda: NOW, **changes})


@pytest.fixture
def ledger(tmp_path, storage):
    return ledger_at(tmp_path / "it's a ledger.json", storage=storage)


def vcpus(masks_of_them):
    return tuple(Vcpu(at, mask, CpuMap([0])) for at, mask in enumerate(masks_of_them))


# --- the file ---


@few
@given(written=entries)
def test_all_that_is_written_is_read_back_alike_from_here_and_from_there(
    far, tmp_path_factory, written
):
    here, there = (tmp_path_factory.getbasetemp() / name for name in ("here.json", "there.json"))
    near = ledger_at(here)
    remote = ledger_at(there, storage=far[0].storage)
    for one in (near, remote):
        with one.lock():
            one.write(written)
        assert one.entries() == written
    assert here.read_bytes() == there.read_bytes()


@few
@given(written=entries)
def test_in_another_boot_nothing_is_remembered_and_claims_are_judged_by_their_own(
    tmp_path_factory, written
):
    path = tmp_path_factory.getbasetemp() / "boot.json"
    ledger_at(path).write(written)
    later = ledger_at(path, boot_id="a later boot").entries()
    assert later == written._replace(remembered=())


DAMAGES = [
    lambda one: one.update(uuid=None),
    lambda one: one.update(id=-1),
    lambda one: one.update(memory={"kib": [{"node": 0}], "source": "x", "taken_at": 0}),
    lambda one: one.update(memory={"kib": [], "source": "x", "taken_at": "then"}),
    lambda one: one.update(memory=[]),
    lambda one: one.update(held="x"),
    lambda one: one.update(masks=["0", 1]),
    lambda one: one.update(masks=["3-1"]),
    lambda one: one.update(masks=["0"] * 8193),
    lambda one: one.update(replaced="0-3"),
    lambda one: one.update(exclusive="yes"),
    lambda one: one.update(colour="red"),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_remembered_wrongly_is_refused_in_one_line_with_the_remedy(ledger, damage):
    held = Remembered(UUIDS[0], held=NodeMap([1]), masks=(CpuMap([2]),))
    with ledger.lock():
        ledger.remember(held)
    content = json.loads(Path(ledger.path).read_text())
    damage(content["remembered"][0])
    Path(ledger.path).write_text(json.dumps(content))
    with pytest.raises(HomenodeError) as caught:
        ledger.entries()
    assert ledger.path in str(caught.value)
    assert "remove it" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"{", b"\xff", b'{"kind": "\xff"}', b"[]", b"null"]
)
def test_a_damaged_file_is_told_the_same_way_here_and_there(far, tmp_path, content):
    path = tmp_path / "ledger.json"
    path.write_bytes(content)
    said = set()
    for storage in (LOCAL, far[0].storage):
        with pytest.raises(HomenodeError) as caught:
            ledger_at(path, storage=storage).entries()
        said.add(str(caught.value))
    assert len(said) == 1


def test_where_there_is_no_file_there_is_nothing(ledger):
    assert ledger.entries() == Entries()
    assert ledger.read() == ()


# --- what is done to it ---


def claim_of(uuid, **changes):
    return Claim(uuid, "web", 1, {0: 4096}, BOOT, NOW + 10)._replace(**changes)


@few
@given(st.lists(st.sets(st.sampled_from(UUIDS)), max_size=8))
def test_the_serial_counts_every_claim_that_was_ever_made(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("serial") / "ledger.json"
    ledger, before, made = ledger_at(path), set(), 0
    for after in steps:
        ledger.replace(claim_of(uuid) for uuid in sorted(after))
        made += len(after - before)
        before = after
        assert ledger.entries().serial == made
        assert {claim.uuid for claim in ledger.read()} == after


def test_what_is_remembered_and_what_is_dropped_leave_the_serial_alone(ledger):
    with ledger.lock():
        ledger.replace([claim_of(UUIDS[0])])
        ledger.remember(Remembered(UUIDS[0], id=1))
    ledger.drop(UUIDS[0])
    assert ledger.entries() == Entries(serial=1)


@few
@given(st.lists(remembered, max_size=10))
def test_of_each_guest_the_last_that_was_remembered_counts(tmp_path_factory, several):
    ledger = ledger_at(tmp_path_factory.mktemp("remembered") / "ledger.json")
    ledger.replace([claim_of(UUIDS[0])])
    for one in several:
        ledger.remember(one)
    last = {one.uuid: one for one in several}
    kept = ledger.entries()
    assert {one.uuid: one for one in kept.remembered} == last
    assert len(kept.remembered) == len(last)
    assert [kept.of(uuid) for uuid in UUIDS] == [last.get(uuid) for uuid in UUIDS]
    assert (kept.claims, kept.serial) == ((claim_of(UUIDS[0]),), 1)


def test_of_more_than_a_reader_takes_the_oldest_are_forgotten(ledger, monkeypatch):
    monkeypatch.setattr(module, "_MOST_CLAIMS", 3)
    for uuid in (*UUIDS, UUIDS[2]):
        ledger.remember(Remembered(uuid))
    assert [one.uuid for one in ledger.entries().remembered] == [UUIDS[3], UUIDS[4], UUIDS[2]]


def untouched(ledger):
    return os.stat(ledger.path).st_mtime_ns, os.stat(ledger.path).st_ino  # noqa: PTH116 - both at once


def test_what_changes_nothing_does_not_write(ledger):
    one = Remembered(UUIDS[0], id=1, memory=MemoryByNode({0: 4}, "seen"), memory_kib=4)
    ledger.replace([claim_of(UUIDS[1])])
    ledger.remember(one)
    before = untouched(ledger)
    ledger.remember(one)
    ledger.drop(UUIDS[2])
    ledger.settle(Guest("web", (), id=3, uuid=UUIDS[2]), uuid=UUIDS[2])
    ledger.settle(Guest("web", (), id=3, uuid=UUIDS[1], state="building"), uuid=UUIDS[1])
    assert untouched(ledger) == before


def test_a_claim_dissolves_into_what_its_guest_has_and_the_others_stay(ledger):
    others = [claim_of(UUIDS[1]), claim_of(UUIDS[2], expires_at=NOW - 1)]
    ledger.replace([claim_of(UUIDS[0], memory_kib={0: 4096, 1: 4096}), *others])
    guest = Guest("web", (), id=3, uuid=UUIDS[0], memory_by_node=MemoryByNode({0: 4000}, "seen"))
    ledger.settle(guest, uuid=UUIDS[0])
    settled = claim_of(UUIDS[0], state="seen", memory_kib={0: 4000, 1: 0})
    assert sorted(ledger.read(), key=lambda claim: str(claim.uuid)) == [settled, *others]
    assert ledger.entries().serial == 3


def test_only_a_pending_claim_whose_creator_is_gone_is_an_orphan(tmp_path):
    ledger = ledger_at(tmp_path / "ledger.json", lives={1}.__contains__)
    orphans = [
        claim
        for creator in (None, 1, 2)
        for state in ("pending", "seen")
        if ledger.is_orphan(claim := claim_of(UUIDS[0], creator=creator, state=state))
    ]
    assert orphans == [claim_of(UUIDS[0], creator=2)]


def test_a_creator_is_known_to_live_here_and_over_there(far):
    gateway, _ = far
    shell = gateway.process()
    assert module.process_lives(os.getpid())
    assert gateway.lives(shell)
    gone = int(gateway.run(["sh", "-c", "echo $$"]).stdout)
    assert not gateway.lives(gone)
    assert not module.process_lives(gone)


def test_all_who_add_at_once_from_here_and_from_there_lose_nothing(far, tmp_path):
    path, rounds = tmp_path / "ledger.json", 8
    ledgers = [ledger_at(path, storage=storage) for storage in (
        LOCAL, LOCAL, far[0].storage, far[1].storage,
    )]  # fmt: skip

    def add(ledger, name):
        for number in range(rounds):
            with ledger.lock():
                ledger.replace([*ledger.read(), claim_of(f"{name}-{number}")])

    adding = [threading.Thread(target=add, args=(ledger, at)) for at, ledger in enumerate(ledgers)]
    for thread in adding:
        thread.start()
    for thread in adding:
        thread.join()
    kept = ledger_at(path).entries()
    assert len({claim.uuid for claim in kept.claims}) == kept.serial == rounds * len(ledgers)


# --- what is recalled of a guest ---


@st.composite
def guests_known(draw):
    """What is remembered, and a guest that is nearly what it was remembered of."""
    known = draw(remembered)
    had_kib = known.memory_kib or 0
    near = [known.masks, known.masks[:-1], (*known.masks, CpuMap([7])), known.masks[::-1]]
    guest = Guest(
        "web",
        vcpus(draw(st.sampled_from(near) | masks)),
        id=draw(st.sampled_from([known.id, known.id, 70_000, None])),
        uuid=known.uuid,
        memory_kib=draw(st.sampled_from([had_kib, had_kib ^ 1023, had_kib + 1024, None])),
        memory_by_node=draw(st.sampled_from([None, None, MemoryByNode({1: 4}, "seen")])),
        exclusive=draw(st.booleans()),
    )
    return known, guest


@given(guests_known())
def test_memory_is_recalled_of_the_domain_it_was_seen_of_while_that_has_as_much(case):
    known, guest = case
    again = recalled(guest, Entries(remembered=(known,)))
    sizes = (known.memory_kib, guest.memory_kib)
    same_size = None not in sizes and sizes[0] // 1024 == sizes[1] // 1024
    if guest.memory_by_node is None and known.id == guest.id and same_size:
        assert again.memory_by_node == known.memory
    else:
        assert again.memory_by_node == guest.memory_by_node


@given(guests_known())
def test_a_guest_is_held_as_long_as_its_vcpus_have_the_masks_that_were_given_them(case):
    known, guest = case
    again = recalled(guest, Entries(remembered=(known,)))
    hard = [vcpu.hard for vcpu in guest.vcpus]
    held = 0 < len(hard) <= len(known.masks) and all(
        mask == given for mask, given in zip(hard, known.masks, strict=False)
    )
    assert again.held == (known.held if held else None)
    assert again.replaced == (known.replaced if held else ())
    assert again.exclusive == (guest.exclusive or (known.exclusive and held))
    assert again.vcpus == guest.vcpus


@given(remembered, maybe(st.just("another uuid")))
def test_of_another_guest_and_of_one_without_a_uuid_nothing_is_recalled(known, uuid):
    guest = Guest("web", vcpus(known.masks), id=known.id, uuid=uuid, memory_kib=known.memory_kib)
    assert recalled(guest, Entries(remembered=(known,))) == guest
