"""In numad's place, and libvirt's hook, on a recorded host that may be written to."""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.bitmap import NodeMap
from homenode.claims import Claim
from homenode.cli import hook
from homenode.cli import numad as command
from homenode.drivers import trees
from homenode.drivers.start_notes import LASTS_S, Asked, StartNotes, is_left_to_numad, matches
from homenode.errors import HomenodeError
from homenode.formats import libvirt_xml
from homenode.hook import called
from homenode.local_host import LocalHost
from homenode.numad import advise, parse
from homenode.rules.qemu import overhead_kib
from homenode.rules.qemu_guest import with_commitments
from kvm_tree import unpacked

UUID = "11111111-2222-3333-4444-{:012d}"


def file(name="web", *, number=1, memory=200, vcpus=2, more="", placement="auto"):
    return f"""<domain type='kvm'>
  <name>{name}</name>
  <uuid>{UUID.format(number)}</uuid>
  <memory unit='MiB'>{memory}</memory>
  {more}
  <vcpu placement='{placement}'>{vcpus}</vcpu>
  <os><type>hvm</type></os>
</domain>
"""


@pytest.fixture
def here(tmp_path):
    return LocalHost(str(unpacked(tmp_path)), time.time)


def test_equal_guests_that_are_asked_about_one_after_the_other_go_apart(here):
    nodes = [advise(here, Asked(2, 250)).nodes for _ in range(2)]
    assert all(len(one) == 1 for one in nodes)
    assert nodes[0] != nodes[1]


def test_what_is_promised_is_never_promised_again(here):
    # Whatever is asked, what the nodes are promised altogether is there.
    usable = {node.id: node.usable_kib for node in here.host().nodes}
    for _ in range(30):
        advise(here, Asked(1, 150))
    promised = dict.fromkeys(usable, 0)
    for claim in here.ledger.read():
        for node, kib in claim.memory_kib.items():
            promised[node] += kib
    assert sum(promised.values()) > 1000 << 10
    assert all(promised[node] <= usable[node] for node in usable)


def test_those_who_ask_at_once_are_told_apart(here):
    with ThreadPoolExecutor(3) as pool:
        advice = list(pool.map(lambda _: advise(here, Asked(2, 400)), range(3)))
    fitting = [one.nodes for one in advice if one.fits]
    assert len(fitting) == len(set(fitting))
    assert len(fitting) >= 2


def test_a_guest_that_fits_nowhere_is_told_all_nodes_and_promised_nothing(here):
    advice = advise(here, Asked(2, 999_999))
    assert (str(advice.nodes), advice.fits) == ("0-3", False)
    assert here.ledger.read() == ()


def test_the_claim_of_an_unknown_guest_is_of_its_own_size(here):
    advise(here, Asked(2, 250))
    (claim,) = here.ledger.read()
    assert claim.uuid is None
    assert sum(claim.memory_kib.values()) == 250 << 10


@pytest.mark.parametrize(
    "text", ["", "x", "1:", ":1", "-1:5", "1:2:3", "1.5:6", "9" * 13, "\uff11:\uff12"]
)
def test_what_is_no_question_is_refused(text):
    with pytest.raises(HomenodeError):
        parse(text)


@given(st.integers(0, 10**6), st.none() | st.integers(0, 10**9))
def test_a_question_is_read_as_numad_reads_it(vcpus, mib):
    text = str(vcpus) if mib is None else f"{vcpus}:{mib}"
    assert parse(text) == Asked(max(1, vcpus), mib)


def test_a_guest_whose_file_cannot_be_read_is_told_of_and_stops_nobody(here):
    torn = Path(here.root) / "run/libvirt/qemu/torn.xml"
    torn.write_text("<domstatus state='running'")
    advice = advise(here, Asked(2, 250))
    assert (advice.fits, len(advice.nodes)) == (True, 1)
    (doubt,) = advice.doubts
    assert "torn.xml" in doubt


# --- notes ---


def test_the_oldest_note_that_matches_is_taken_and_only_once(here):
    for number, name in enumerate(("first", "other", "second")):
        size = 300 if name == "other" else 200
        called(here, "prepare", file(name, number=number, memory=size))
        note = f"{here.root}/run/homenode/starting/{UUID.format(number)}.xml"
        os.utime(note, (time.time() - 60 + number,) * 2)
    notes = StartNotes(here.root, time.time)
    taken = [notes.take(Asked(2, 200)) for _ in range(3)]
    assert [one and one.name for one in taken] == ["first", "second", None]
    assert notes.take(Asked(2, 300)).name == "other"


def test_a_note_does_not_last(here):
    called(here, "prepare", file())
    later = StartNotes(here.root, lambda: time.time() + LASTS_S + 1)
    assert later.take(Asked(2, 200)) is None


def test_a_guest_that_says_itself_where_it_goes_leaves_no_note(here):
    called(here, "prepare", file(placement="static"))
    assert StartNotes(here.root, time.time).take(Asked(2, 200)) is None


@given(st.integers(1, 8), st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 8))
def test_a_note_matches_what_libvirt_asks_about_it(vcpus, memory_kib, current_kib, online):
    online, current_kib = min(online, vcpus), min(current_kib, memory_kib)
    text = f"""<domain type='kvm'><name>g</name><memory unit='KiB'>{memory_kib}</memory>
      <currentMemory unit='KiB'>{current_kib}</currentMemory>
      <vcpu placement='auto' current='{online}'>{vcpus}</vcpu><os><type>hvm</type></os></domain>"""
    config = libvirt_xml.parse(text)
    assert is_left_to_numad(config)
    assert matches(config, Asked(online, -(-memory_kib // 1024)))
    assert matches(config, Asked(online, -(-current_kib // 1024)))
    assert not matches(config, Asked(online + 1, -(-memory_kib // 1024)))
    assert not matches(config, Asked(online, -(-memory_kib // 1024) + 9))


def test_a_note_has_the_wishes_that_the_question_leaves_out(here):
    wish = "<metadata><h:placement xmlns:h='urn:homenode:placement:1' nodes='3'/></metadata>"
    called(here, "prepare", file(more=wish))
    assert advise(here, Asked(2, 200)).nodes == NodeMap([3])
    (claim,) = here.ledger.read()
    assert (claim.name, claim.uuid) == ("web", UUID.format(1))


# --- the hook ---


def test_a_release_ends_the_claim_and_the_note(here):
    called(here, "prepare", file())
    advise(here, Asked(2, 200))
    called(here, "prepare", file())
    called(here, "release", file())
    assert here.ledger.read() == ()
    assert StartNotes(here.root, time.time).take(Asked(2, 200)) is None


NAMED = "<numatune><memory mode='strict' nodeset='{nodes}'/></numatune>"


@pytest.mark.parametrize("operation", ["migrate", "restore"])
@pytest.mark.parametrize("nodes", ["2", "7", "0-63"])
def test_a_guest_from_elsewhere_is_given_nodes_of_this_host(here, operation, nodes):
    pins = "<cputune><vcpupin vcpu='0' cpuset='90'/><emulatorpin cpuset='88-91'/></cputune>"
    text = file(more=NAMED.format(nodes=nodes) + pins, placement="static")
    printed = called(here, operation, text)
    now = libvirt_xml.parse(printed)
    host = here.host()
    assert now.memory_nodes.nodes <= host.node_map
    assert len(now.memory_nodes.nodes) == 1
    home = host.cpus_of(now.memory_nodes.nodes)
    assert (now.cpuset or now.pins[0]) == home
    assert now.emulator_pin == home
    assert (now.uuid, now.memory_kib) == (UUID.format(1), 200 << 10)
    (claim,) = here.ledger.read()
    assert set(claim.memory_kib) == set(now.memory_nodes.nodes)


def test_a_guest_that_names_no_nodes_is_left_as_it_is(here):
    assert called(here, "migrate", file(placement="static")) == ""
    assert here.ledger.read() == ()


def test_a_guest_from_elsewhere_that_fits_nowhere_is_bound_to_nothing(here):
    text = file(memory=90_000, more=NAMED.format(nodes="9"), placement="static")
    now = libvirt_xml.parse(called(here, "migrate", text))
    assert now.memory_nodes is None
    assert here.ledger.read() == ()


def test_operations_that_are_none_of_ours_say_nothing(here):
    for operation in ("start", "stopped", "attach", "reconnect", ""):
        assert called(here, operation, file()) == ""


# --- the command ---


@pytest.fixture
def hanging(here, monkeypatch):
    """Have the commands look at the recorded host, where the kernel is slow to give one file."""
    reads, read = [], trees._read

    def slow(handle):
        reads.append(handle)
        if len(reads) == 1:
            time.sleep(20)
        return read(handle)

    monkeypatch.setattr(trees, "_read", slow)
    monkeypatch.setattr("homenode.local_host.LocalHost", lambda _root, _clock: here)
    return here


def test_a_wrong_question_is_told_as_such(capsys):
    assert command.run(["-w", "x"]) == 0
    assert "homenode-numad: all nodes: -w 'x' is not VCPUS or VCPUS:MIB" in capsys.readouterr().err


def test_what_hangs_ends_at_the_deadline(hanging, monkeypatch, capsys):
    monkeypatch.setattr(command, "DEADLINE_S", 0.5)
    assert command.run(["-w", "2:200"]) == 0
    told = capsys.readouterr()
    assert re.fullmatch(r"\d+([,-]\d+)*\n", told.out)
    assert "all nodes: LateError: no answer within 0.5 s" in told.err
    assert hanging.ledger.read() == ()


def test_a_hook_that_hangs_ends_at_the_deadline(hanging, monkeypatch, capsys):
    monkeypatch.setattr(hook, "DEADLINE_S", 0.5)
    text = file(more=NAMED.format(nodes="2"), placement="static")
    with (Path(hanging.root) / "file.xml").open("w+") as given:
        given.write(text)
        given.seek(0)
        monkeypatch.setattr("sys.stdin", given)
        assert hook.run(["libvirt", "web", "restore", "begin", "-"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "LateError: no answer within 0.5 s" in told.err


def test_the_hook_to_install_lets_guests_start_without_homenode(tmp_path):
    script = Path(__file__).parent.parent / "examples/kvm/hook"
    for status in (None, 1):
        if status is not None:
            (tmp_path / "homenode").write_text(f"#!/bin/sh\nexit {status}\n")
            (tmp_path / "homenode").chmod(0o755)
        done = subprocess.run(
            ["/bin/sh", script, "web", "prepare", "begin", "-"],
            input=file(),
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": str(tmp_path)},
        )
        assert (done.returncode, done.stdout) == (0, "")


def run(*words, env=None):
    return subprocess.run(
        [sys.executable, "-m", "homenode.cli.numad", *words],
        capture_output=True,
        text=True,
        check=False,
        env=env,
    )


def test_the_command_answers_on_this_machine():
    # Its ledger may not be ours to write: then all nodes are the answer, and why is said.
    done = run("-w", "1:16")
    assert done.returncode == 0
    assert re.fullmatch(r"\d+([,-]\d+)*\n", done.stdout)


def test_a_package_that_is_broken_still_answers(tmp_path):
    source, origin = tmp_path / "homenode", Path(command.__file__).parent.parent
    (source / "cli").mkdir(parents=True)
    for name in ("__init__.py", "cli/__init__.py", "cli/numad.py"):
        (source / name).write_text((origin / name).read_text())
    done = run("-w", "4:1000", env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0
    assert re.fullmatch(r"\d+([,-]\d+)*\n", done.stdout)
    assert "ModuleNotFoundError" in done.stderr


@settings(max_examples=60)
@given(st.sets(st.integers(0, 70), max_size=12), st.sets(st.integers(0, 70), max_size=12))
def test_all_nodes_are_those_with_cpus_and_memory(tmp_path_factory, cpus, memory):
    folder = tmp_path_factory.mktemp("node")
    for name, nodes in (("has_cpu", cpus), ("has_memory", memory)):
        (folder / name).write_text(str(NodeMap(nodes)) + "\n")
    before, command._NODES = command._NODES, str(folder)
    try:
        told = NodeMap.parse(command._every_node())
    finally:
        command._NODES = before
    both = NodeMap(cpus & memory) or NodeMap(cpus) or NodeMap(memory) or NodeMap([0])
    assert told == both


def test_options_that_are_not_ours_are_numads():
    done = run("-i", "5")
    assert done.returncode == 2
    assert "numad.distrib" in done.stderr


def test_a_guest_that_is_being_built_is_not_counted_twice(here):
    path = Path(here.root) / "run/libvirt/qemu/lazy.xml"
    text = path.read_text()
    uuid = re.search(r"<uuid>(.*)</uuid>", text)[1]
    path.write_text(
        text.replace("<domstatus state='running' reason='booted'", "<domstatus state='paused'"
        " reason='starting up'")
    )  # fmt: skip
    ledger = here.ledger
    promised = {1: 400 << 10}
    claim = Claim(uuid, "lazy", 1, promised, ledger.boot_id, time.time() + 60)
    (Path(here.root) / "run/homenode").mkdir(exist_ok=True)
    with ledger.lock():
        ledger.replace([claim])
    free = next(node for node in here.host().nodes if node.id == 1)
    # All but what it is promised, and what the guests on the node may still touch, is to be had.
    others = [guest for guest in here.guests(here.host()) if guest.name != "lazy"]
    node = with_commitments(here.host(), others).nodes_by_id[1]
    lazy = next(guest for guest in here.guests(here.host()) if guest.name == "lazy")
    seen_kib = lazy.memory_by_node.kib.get(1, 0)
    room_kib = node.usable_kib - (promised[1] - seen_kib)
    assert free.free_kib > room_kib
    own_mib = (room_kib - overhead_kib(room_kib, 4)) >> 10
    wish = "<metadata><h:placement xmlns:h='urn:homenode:placement:1' nodes='1'/></metadata>"
    for number, (size, fits) in enumerate(((own_mib - 1, True), (own_mib + 64, False))):
        called(here, "prepare", file(number=number, memory=size, more=wish))
        advice = advise(here, Asked(2, size))
        assert advice.fits == fits
        here.ledger.drop(UUID.format(number))
