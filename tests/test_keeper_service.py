"""The keeper as a process: what it tells systemd, and that it gives back whatever ends it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from homenode.bitmap import CpuMap
from test_keeper import World, of

UNIT = Path(__file__).parent.parent / "packaging" / "homenode-keeper.service"
PATIENCE_S = 60


@pytest.fixture
def world(tmp_path):
    folder = tmp_path / "homenode" / "sim"
    folder.mkdir(parents=True)
    users = CpuMap.parse("7")
    return World(folder, [of("a", 0, vcpus=2), of("b", 1), of("mine", 2, hard=users)])


@pytest.fixture
def service(tmp_path, world):  # noqa: ARG001 - the host that it keeps
    """Return what starts a keeper, and the socket on which it tells how it is."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.settimeout(PATIENCE_S)
    (tmp_path / "homenode.toml").write_text("[keeper]\nround_s = 0.2\nown_cpu_share = 1\n")
    environment = {
        **os.environ,
        "XDG_STATE_HOME": str(tmp_path),
        "HOMENODE_CONFIG": str(tmp_path / "homenode.toml"),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
    }
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "homenode.cli.main", "keep", "-c", "sim:host?load=busy"]
        process = subprocess.Popen(
            [*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start, told
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()
    told.close()


HELD = {"a": ["0-1", "0-1"], "b": ["2-3"], "mine": ["7"]}
BEFORE = {"a": ["0-7", "0-7"], "b": ["0-7"], "mine": ["7"]}


def wait_until_held(world):
    until = time.monotonic() + PATIENCE_S
    while world.masks() != HELD:
        assert time.monotonic() < until, world.masks()
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_is_ready_it_is_alive_and_it_ends_in_peace(world, service, number):
    start, told = service
    process = start()
    assert told.recv(1000).startswith(b"READY=1\n")
    assert told.recv(1000).startswith(b"WATCHDOG=1\nSTATUS=2 guests kept, 1 left alone")
    wait_until_held(world)
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert world.masks() == BEFORE
    assert "release: a: its masks are as before" in output
    told.setblocking(False)  # noqa: FBT003 - the socket's own
    messages = []
    while not messages or messages[-1] != b"STOPPING=1":
        messages.append(told.recv(1000))
    assert messages[0].startswith((b"WATCHDOG=1", b"STOPPING=1"))


@pytest.mark.parametrize("mend", ["restart", "release"])
def test_killed_its_masks_are_given_back_by_the_next_or_by_release(world, service, mend):
    start, _ = service
    process = start()
    wait_until_held(world)
    process.kill()
    process.wait()
    assert world.masks() == HELD
    if mend == "release":
        assert start("--release").wait(timeout=PATIENCE_S) == 0
        assert world.masks() == BEFORE
        return
    again = start()
    for line in again.stdout:
        if line.startswith("start"):
            break
        assert line.startswith("release: ")
    wait_until_held(world)
    again.terminate()
    again.communicate(timeout=PATIENCE_S)
    assert world.masks() == BEFORE


def test_who_reads_its_output_may_go_away(world, service):
    start, _ = service
    process = start("--json")
    wait_until_held(world)
    process.stdout.close()
    process.terminate()
    assert process.wait(timeout=PATIENCE_S) == 0
    assert world.masks() == BEFORE


def test_nobody_hears_it_where_nobody_listens(world, service):
    start, told = service
    told.close()
    process = start()
    wait_until_held(world)
    process.terminate()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd-analyze")
def test_the_unit_is_one(tmp_path):
    # The program is not installed there where systemd looks.
    text = UNIT.read_text().replace("=homenode ", f"={sys.executable} ")
    unit = tmp_path / UNIT.name
    unit.write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert UNIT.name not in done.stderr, done.stderr
