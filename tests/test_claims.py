import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.claims import Claim, moved, outstanding_huge_kib, outstanding_kib, reconciled
from homenode.errors import HomenodeError
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.ledger import Ledger

NOW, BOOT = 1000.0, "this boot"
LIVING, GONE = 1, 2
"""Processes."""
UUIDS = [f"{digit}0000000-0000-0000-0000-000000000000" for digit in range(4)]

by_node = st.dictionaries(st.integers(0, 3), st.integers(0, 50).map(lambda mib: mib << 10))


@st.composite
def claims(draw):
    return Claim(
        uuid=draw(st.none() | st.sampled_from(UUIDS)),
        name=draw(st.text(max_size=5)),
        vcpus=draw(st.integers(1, 2)),
        memory_kib=draw(by_node),
        boot_id=draw(st.sampled_from([BOOT, BOOT, "an earlier boot"])),
        expires_at=draw(st.sampled_from([NOW - 1, NOW, NOW + 1])),
        page_kib=draw(st.sampled_from([4, 2048])),
        state=draw(st.sampled_from(["pending", "moving", "seen"])),
        after_id=draw(st.integers(-1, 3)),
        creator=draw(st.sampled_from([None, LIVING, GONE])),
    )


@st.composite
def guest_lists(draw):
    listed = []
    for at, uuid in enumerate(draw(st.lists(st.sampled_from(UUIDS), unique=True))):
        memory = draw(st.none() | by_node)
        listed.append(
            Guest(
                f"guest{at}",
                vcpus=tuple(
                    Vcpu(n, CpuMap([0]), CpuMap([0])) for n in range(draw(st.integers(1, 2)))
                ),
                id=at + 1,
                uuid=uuid,
                state=draw(st.sampled_from(["building", "running", "paused"])),
                memory_kib=None if memory is None else sum(memory.values()),
                memory_by_node=None if memory is None else MemoryByNode(memory, "test"),
            )
        )
    return listed


def of(uuid, guests):
    return next((guest for guest in guests if uuid is not None and guest.uuid == uuid), None)


def kept_of(all_claims, guests):
    return reconciled(all_claims, guests, now=NOW, boot_id=BOOT, lives={LIVING}.__contains__)


@given(claims(), guest_lists())
def test_a_claim_weighs_what_its_guest_has_not_yet_on_each_node(claim, guests):
    guest = of(claim.uuid, guests)
    weight = outstanding_kib([claim], guests)
    if claim.page_kib > 64:
        huge = outstanding_huge_kib([claim], guests)
        weight = {node: kib for (node, size), kib in huge.items() if size == claim.page_kib}
    for node, kib in claim.memory_kib.items():
        if guest is None:
            owed = kib
        elif guest.memory_by_node is None:
            owed = kib if guest.state == "building" else 0
        else:
            owed = max(0, kib - guest.memory_by_node.kib.get(node, 0))
        assert weight.get(node, 0) == owed


@given(st.lists(claims()), guest_lists())
def test_reconciling_twice_changes_nothing_and_nothing_is_promised_anew(all_claims, guests):
    kept = kept_of(all_claims, guests)
    assert kept_of(kept, guests) == kept
    before, after = outstanding_kib(all_claims, guests), outstanding_kib(kept, guests)
    assert all(kib <= before[node] for node, kib in after.items())


@given(st.lists(claims()), guest_lists())
def test_no_claim_outlives_its_boot_its_guest_or_its_time(all_claims, guests):
    for claim in kept_of(all_claims, guests):
        assert claim.boot_id == BOOT
        guest = of(claim.uuid, guests)
        if guest is None:
            assert claim.state == "pending"
            assert claim.expires_at > NOW
        elif guest.state != "building":
            moving = claim.state == "moving" and claim.creator != GONE
            assert claim.state == "seen" or moving


@given(claims(), guest_lists())
def test_who_moves_a_guest_and_is_killed_promises_nothing_any_more(claim, guests):
    claim = claim._replace(state="moving", boot_id=BOOT)
    there = [guest for guest in guests if guest.state != "building"]
    living, gone = (kept_of([claim._replace(creator=one)], there) for one in (LIVING, GONE))
    assert outstanding_kib(gone, there) == {}
    assert outstanding_huge_kib(gone, there) == {}
    assert [one.memory_kib for one in living] == [claim.memory_kib for _ in gone]


@given(st.lists(claims()), guest_lists())
def test_no_guest_is_taken_for_that_of_two_claims(all_claims, guests):
    by_uuid = [claim.uuid for claim in all_claims if claim.boot_id == BOOT]
    adopted = [claim.uuid for claim in kept_of(all_claims, guests) if claim.uuid is not None]
    for uuid in UUIDS:
        assert adopted.count(uuid) <= max(1, by_uuid.count(uuid))


def claim_of(uuid, memory_kib, **changes):
    return Claim(uuid, "web", 1, memory_kib, BOOT, NOW + 10)._replace(**changes)


def guest_of(uuid, memory_kib, **changes):
    memory = MemoryByNode(memory_kib, "test")
    vcpu = Vcpu(0, CpuMap([0]), CpuMap([0]))
    total = sum(memory_kib.values())
    guest = Guest("web", (vcpu,), id=5, uuid=uuid, memory_kib=total, memory_by_node=memory)
    return guest._replace(**changes)


def test_while_a_guest_is_built_the_time_of_its_claim_does_not_run_out():
    claim = claim_of(UUIDS[0], {1: 4096}, expires_at=NOW - 1)
    building = guest_of(UUIDS[0], {1: 1024}, state="building")
    assert outstanding_kib(kept_of([claim], [building]), [building]) == {1: 3072}
    assert kept_of([claim], []) == ()


def test_what_went_elsewhere_and_overhead_are_not_waited_for_once_the_guest_runs():
    claim = claim_of(UUIDS[0], {0: 912 << 10})
    spilled = guest_of(UUIDS[0], {0: 752 << 10, 1: 152 << 10})
    assert outstanding_kib(kept_of([claim], [spilled]), [spilled]) == {}


def test_memory_that_a_guest_gives_back_for_a_while_is_kept_for_it():
    kept = kept_of([claim_of(UUIDS[0], {0: 4096})], [guest_of(UUIDS[0], {0: 4096})])
    ballooned = guest_of(UUIDS[0], {0: 1024})
    assert outstanding_kib(kept_of(kept, [ballooned]), [ballooned]) == {0: 3072}


def test_a_moved_guest_is_owed_nothing_where_it_was():
    kept = kept_of([claim_of(UUIDS[0], {0: 4096})], [guest_of(UUIDS[0], {0: 4096})])
    elsewhere = guest_of(UUIDS[0], {2: 4096})
    assert outstanding_kib(kept, [elsewhere]) == {0: 4096}
    assert outstanding_kib(moved(kept, elsewhere), [elsewhere]) == {}


def test_a_claim_without_uuid_adopts_a_newer_guest_of_its_size_and_no_older_one():
    claim = claim_of(None, {0: 2048, 1: 2048}, after_id=5)
    older = guest_of(UUIDS[0], {0: 4096})
    newer = guest_of(UUIDS[1], {0: 4096}, id=6)
    other_size = guest_of(UUIDS[2], {0: 8192}, id=7)
    assert kept_of([claim], [older, other_size]) == (claim,)
    assert [kept.uuid for kept in kept_of([claim], [older, other_size, newer])] == [UUIDS[1]]


def ledger_at(path, **settings):
    return Ledger(str(path), boot_id=BOOT, clock=lambda: NOW, **settings)


@settings(max_examples=20)
@given(all_claims=st.lists(claims()))
def test_the_ledger_gives_back_what_was_written(tmp_path_factory, all_claims):
    ledger = ledger_at(tmp_path_factory.mktemp("ledger") / "claims.json")
    with ledger.lock():
        ledger.replace(all_claims)
    assert ledger.read() == tuple(all_claims)


def test_a_ledger_that_is_not_there_claims_nothing(tmp_path):
    assert ledger_at(tmp_path / "none" / "claims.json").read() == ()


def test_any_truncation_or_corruption_is_one_line_that_names_the_file(tmp_path):
    path = tmp_path / "claims.json"
    ledger = ledger_at(path)
    with ledger.lock():
        ledger.replace([claim_of(UUIDS[0], {0: 1}), claim_of(None, {1: 2})])
    whole = path.read_bytes()
    wrong = [whole[:end] for end in range(len(whole) - 2)]
    wrong += [
        whole[:at] + byte + whole[at + 1 :] for at in range(len(whole)) for byte in (b"\xff", b"[")
    ]
    wrong += [b"", b"null", b"[" * 100_000, b"1" * 5000, b'{"kind": "ledger of claims"}']
    complaints = [complaint for content in wrong if (complaint := complaint_about(content, ledger))]
    assert all(str(path) in text and "remove it" in text for text in complaints)
    assert not any("\n" in text for text in complaints)
    # Only a changed letter within a text goes unnoticed.
    assert len(complaints) > len(wrong) * 3 // 4


def complaint_about(content, ledger):
    Path(ledger.path).write_bytes(content)
    try:
        ledger.read()
    except HomenodeError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vcpus", True),
        ("vcpus", -1),
        ("vcpus", 1.5),
        ("uuid", 3),
        ("state", "done"),
        ("expires_at", None),
        ("expires_at", float("nan")),
        ("memory", {}),
        ("memory", [{"node": -1, "kib": 1}]),
        ("memory", [{"node": 0, "kib": 10**30}]),
        ("page_kib", 0),
        ("colour", "red"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(tmp_path, field, value):
    path = tmp_path / "claims.json"
    ledger = ledger_at(path)
    with ledger.lock():
        ledger.replace([claim_of(UUIDS[0], {0: 1})])
    content = json.loads(path.read_text())
    content["claims"][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(HomenodeError, match=field):
        ledger.read()


def test_a_later_version_is_refused(tmp_path):
    path = tmp_path / "claims.json"
    path.write_text('{"kind": "ledger of claims", "version": 2, "claims": []}')
    with pytest.raises(HomenodeError, match="version 1"):
        ledger_at(path).read()


HOLD = """
import sys
from homenode.ledger import Ledger
with Ledger(sys.argv[1], boot_id="", clock=lambda: 0.0).lock():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_who_waits_for_the_lock_in_vain_is_told_and_a_dead_holder_holds_nothing(tmp_path):
    path = tmp_path / "claims.json"
    impatient = ledger_at(path, wait_s=0)
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(HomenodeError, match=r"claims\.json\.lock.*try again"), impatient.lock():
            pytest.fail("two hold the lock")
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with impatient.lock():
        impatient.replace([])


def test_what_a_crash_left_half_written_is_not_read_and_not_in_the_way(tmp_path):
    path = tmp_path / "claims.json"
    ledger = ledger_at(path)
    with ledger.lock():
        ledger.replace([claim_of(UUIDS[0], {0: 1})])
    (tmp_path / "claims.json.new").write_text('{"kind": "ledger of cl')
    assert len(ledger.read()) == 1
    with ledger.lock():
        ledger.replace([])
    assert ledger.read() == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claims.json", "claims.json.lock"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(HomenodeError, match="cannot lock it: File exists; is there such"),
        ledger_at(tmp_path / "file/x").lock(),
    ):
        pytest.fail("there is no such folder")


@given(st.permutations(range(4)), st.integers(0, 4))
def test_equal_guests_that_got_each_others_answer_exchange_their_claims(nodes, there):
    # libvirt asks for a size: which of several equal guests an answer went to is seen later.
    claims = [
        Claim(f"u{number}", f"g{number}", 2, {number: 300 << 10}, "boot", expires_at=100.0)
        for number in range(4)
    ]
    guests = [
        Guest(
            f"g{number}",
            vcpus=tuple(Vcpu(vcpu, CpuMap([vcpu]), CpuMap([vcpu])) for vcpu in range(2)),
            id=number + 1,
            uuid=f"u{number}",
            state="building",
            memory_kib=300 << 10,
            node_affinity=NodeMap([nodes[number]]),
            memory_by_node=MemoryByNode({}, "a test"),
        )
        for number in range(there)
    ]
    held = reconciled(claims, guests, now=0.0, boot_id="boot", lives=lambda _: True)
    by_uuid = {claim.uuid: set(claim.memory_kib) for claim in held}
    assert all(by_uuid[guest.uuid] == set(guest.node_affinity) for guest in guests)
    assert sorted(node for claim in held for node in claim.memory_kib) == [0, 1, 2, 3]
    assert reconciled(held, guests, now=0.0, boot_id="boot", lives=lambda _: True) == held


def test_claims_of_guests_by_size_are_adopted_by_who_is_on_their_nodes():
    claims = [
        Claim(None, "asked", 1, {node: 300 << 10}, "boot", expires_at=100.0, after_id=0)
        for node in range(3)
    ]
    guests = [
        Guest(
            f"g{node}",
            vcpus=(Vcpu(0, CpuMap([node]), CpuMap([node])),),
            id=9 - node,
            uuid=f"u{node}",
            memory_kib=300 << 10,
            node_affinity=NodeMap([node]),
        )
        for node in (2, 1)
    ]
    held = reconciled(claims, guests, now=0.0, boot_id="boot", lives=lambda _: True)
    assert {claim.uuid: set(claim.memory_kib) for claim in held} == {
        None: {0},
        "u1": {1},
        "u2": {2},
    }
