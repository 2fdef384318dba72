"""Processes that are killed, and disks that are full: the state of a host is whole all the same."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from homenode.errors import ExitStatus

ROOT = Path(__file__).parent.parent
HOMENODE = [sys.executable, "-m", "homenode.cli.main"]
SMALL = "import resource, sys; from homenode.cli.main import main\n"
SMALL += "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)\n"
SMALL += "sys.exit(main(sys.argv[2:]))"
"""Runs homenode with files that may have so many bytes and no more."""


def test_sixteen_at_a_time_that_are_killed_at_random_promise_nothing_twice():
    command = [sys.executable, "-m", "proof.soak", "--commands", "120", "--seed", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    told = json.loads(done.stdout)
    assert told["complaints"] == []
    assert done.returncode == 0
    assert told["commands"] == 120
    assert told["killed"] > 20
    assert told["cuts"] > 10


def test_the_observer_has_nothing_of_homenode_in_it():
    imports = "import sys, proof.soak_observer; print([m for m in sys.modules if 'homenode' in m])"
    done = subprocess.run(
        [sys.executable, "-S", "-c", imports], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("damage", ["twice", "lost", "owed", "torn", "id"])
def test_the_observer_sees_what_must_not_be(folder, damage):
    """It is of no use if it cannot complain."""
    run("create", "-c", "sim:try", "web.cfg")
    host, ledger = folder / "homenode/sim/try.json", folder / "homenode/sim/try.claims.json"
    words = [sys.executable, "-S", str(ROOT / "proof/soak_observer.py"), str(host.parent), "try"]
    with subprocess.Popen(
        [*words, str(folder / "cuts")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watching:
        watching.stdout.readline()
        while not (folder / "cuts").read_text():
            assert watching.poll() is None
        spoil(damage, host, ledger)
        told = json.loads(watching.communicate()[0])
    assert told["complaints"]


def spoil(damage, host, ledger):
    state, claims = json.loads(host.read_text()), json.loads(ledger.read_text())
    guest, (claim,) = state["snapshot"]["guests"][1], claims["claims"]
    match damage:
        case "twice":
            state["snapshot"]["guests"].append({**guest, "id": 7})
        case "lost":
            state["held"].pop()
        case "owed":
            nodes = [{"node": node["id"], "kib": node["free_kib"]} for node in
                     state["snapshot"]["host"]["nodes"]]  # fmt: skip
            coming = {"uuid": "coming", "state": "pending", "memory": nodes, "expires_at": 1e12}
            claims["claims"].append({**claim, **coming})
        case "id":
            guest["uuid"] = state["held"][-1]["uuid"] = "another"
    text = json.dumps(state)
    replace(ledger, json.dumps(claims))
    replace(host, text[:99] if damage == "torn" else text)


def replace(path, text):
    beside = path.with_suffix(".beside")
    beside.write_text(text)
    beside.rename(path)


# --- disks that are full ---


def run(*words, most_bytes=None):
    command = HOMENODE if most_bytes is None else [sys.executable, "-c", SMALL, str(most_bytes)]
    return subprocess.run([*command, *words], capture_output=True, text=True, check=False)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOMENODE_URI", "sim:try")
    for name in ("web", "other"):
        (tmp_path / f"{name}.cfg").write_text(f'name="{name}"\ntype="pvh"\nmemory=64\nvcpus=1\n')
    return tmp_path


def states(folder):
    found = sorted((folder / "homenode/sim").glob("*.json"))
    return {path.name: path.read_bytes() for path in found}


CHANGES = {
    "create": ("create", "other.cfg"),
    "destroy": ("destroy", "web"),
    "affinity": ("affinity", "web", "2", "--move"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("most_bytes", [0, 400])
def test_what_cannot_be_written_changes_nothing_and_is_one_line(folder, change, most_bytes):
    assert run("create", "web.cfg").returncode == ExitStatus.DONE
    before = states(folder)
    done = run(*CHANGES[change], most_bytes=most_bytes)
    assert done.returncode == ExitStatus.BAD_INPUT
    assert len(done.stderr.splitlines()) == 1
    assert "cannot write it: File too large" in done.stderr
    assert states(folder) == before
    assert run(*CHANGES[change]).returncode == ExitStatus.DONE


@pytest.fixture
def mounted(folder):
    """Return a folder on a disk of its own, which root can make here."""
    if os.geteuid():
        pytest.skip("mounting is for root")
    disk = folder / "homenode"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if subprocess.run(words, check=False, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("change", CHANGES)
def test_a_full_disk_changes_nothing(folder, mounted, change):
    assert run("create", "web.cfg").returncode == ExitStatus.DONE
    filler = mounted / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
    before = states(folder)
    done = run(*CHANGES[change])
    assert done.returncode == ExitStatus.BAD_INPUT
    assert len(done.stderr.splitlines()) == 1
    assert "No space left on device" in done.stderr
    assert states(folder) == before
    assert not list((folder / "homenode/sim").glob("*.new"))
    # What only looks needs no room.
    assert run("list").returncode == run("claims").returncode == ExitStatus.DONE
    filler.unlink()
    assert run(*CHANGES[change]).returncode == ExitStatus.DONE


@pytest.mark.parametrize("change", CHANGES)
def test_a_read_only_disk_changes_nothing(folder, mounted, change):
    assert run("create", "web.cfg").returncode == ExitStatus.DONE
    before = states(folder)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
    done = run(*CHANGES[change])
    assert done.returncode == ExitStatus.BAD_INPUT
    assert len(done.stderr.splitlines()) == 1
    assert "Read-only file system" in done.stderr
    assert states(folder) == before
    assert run("list").returncode == run("place", "other.cfg").returncode == ExitStatus.DONE
    subprocess.run(["mount", "-o", "remount,rw", str(mounted)], check=True)
    assert run(*CHANGES[change]).returncode == ExitStatus.DONE
