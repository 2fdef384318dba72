"""The command as a process: its streams, its signals, its folders, and several at once."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from homenode.errors import ExitStatus

HOMENODE = [sys.executable, "-m", "homenode.cli.main"]
SNOWMAN = "it's \N{SNOWMAN}"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Have simulated hosts of our own, and be in a folder of our own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOMENODE_URI", "sim:try")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(name, memory=64):
    Path("guest.cfg").write_text(f'name = "{name}"\nmemory = {memory}\n', encoding="utf-8")
    return "guest.cfg"


def run(*arguments, **options):
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.run([*HOMENODE, *arguments], check=False, text=True, **options)


def names():
    listed = json.loads(run("list", "--json").stdout)
    return [guest["name"] for guest in listed["guests"] if guest["id"]]


ASCII = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("verb", ["create", "list", "claims", "topology", "destroy"])
def test_a_terminal_of_ascii_alone_is_told_of_any_name(folder, verb):
    environment = {**ASCII, "XDG_STATE_HOME": str(folder / "state"), "HOMENODE_URI": "sim:try"}
    if verb != "create":
        run("create", config(SNOWMAN))
    arguments = {"create": [config(SNOWMAN)], "destroy": [SNOWMAN]}.get(verb, [])
    done = run(verb, *arguments, env=environment)
    assert (done.returncode, done.stderr) == (ExitStatus.DONE, "")
    assert "it's" in done.stdout


def test_a_config_on_standard_input_is_utf8_whatever_the_locale(folder):
    environment = {**ASCII, "XDG_STATE_HOME": str(folder / "state"), "HOMENODE_URI": "sim:try"}
    done = subprocess.run(
        [*HOMENODE, "create", "-"],
        input=f'name = "{SNOWMAN}"\nmemory = 64\n'.encode(),
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == ExitStatus.DONE
    assert names() == [SNOWMAN]


def test_a_picture_is_utf8_whatever_the_locale(folder):
    run("create", config(SNOWMAN))
    latin = {
        **os.environ, "PYTHONIOENCODING": "latin-1", "HOMENODE_URI": "sim:try",
        "XDG_STATE_HOME": str(folder / "state"),
    }  # fmt: skip
    command = [*HOMENODE, "topology", "--format", "svg"]
    done = subprocess.run(command, env=latin, capture_output=True, check=True)
    assert SNOWMAN in "".join(ET.fromstring(done.stdout).itertext())  # noqa: S314 - our own


def test_closed_streams_change_nothing_but_what_is_heard():
    shell = '"$@" >&- 2>&- <&-'
    command = ["sh", "-c", shell, "sh", *HOMENODE]
    assert subprocess.run([*command, "create", config("web1")], check=False).returncode == 0
    assert names() == ["web1"]
    assert subprocess.run([*command, "place", "-"], check=False).returncode == ExitStatus.BAD_INPUT


def test_standard_input_that_is_closed_is_one_line():
    done = run("place", "-", preexec_fn=lambda: os.close(0))
    assert done.returncode == ExitStatus.BAD_INPUT
    assert done.stderr.count("\n") == 1
    assert "standard input" in done.stderr


def test_a_standard_input_that_cannot_be_read_is_said_in_one_line(tmp_path):
    with (tmp_path / "written").open("w") as file:  # for writing alone
        done = run("create", "-", stdin=file)
    assert done.returncode == ExitStatus.BAD_INPUT
    assert done.stderr == "homenode: standard input: Bad file descriptor\n"


@pytest.mark.parametrize("arguments", [["list"], ["policies"], ["--help"], ["--version"]])
def test_a_full_disk_behind_the_output_is_one_line(arguments):
    with Path("/dev/full").open("w") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == ExitStatus.BAD_INPUT
    assert done.stderr == (
        "homenode: standard output: cannot write to it: No space left on device\n"
    )


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["--version"]])
def test_a_reader_that_leaves_is_no_error(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*arguments, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (ExitStatus.DONE, "")


def test_an_error_is_one_line_whatever_is_named():
    for arguments in (["place", "a\nb\x1b[31m"], ["list", "-c", "capture:a\nb"]):
        done = run(*arguments)
        assert done.returncode == ExitStatus.BAD_INPUT
        assert done.stderr.count("\n") == 1
        assert "\x1b" not in done.stderr
        assert "a\\nb" in done.stderr


@pytest.mark.parametrize("arguments", [["topology"], ["top", "--once", "--interval", "0.1"]])
def test_what_is_drawn_by_rich_says_so_where_it_is_not_installed(folder, arguments):
    (folder / "rich").mkdir()
    (folder / "rich" / "__init__.py").write_text("raise ModuleNotFoundError(name='rich.box')\n")
    config("web")
    assert run("create", "guest.cfg").returncode == 0
    told = run(*arguments, env={**os.environ, "PYTHONPATH": str(folder)})
    assert told.returncode == ExitStatus.BAD_INPUT
    assert "pip install rich" in told.stderr
    assert len(told.stderr.splitlines()) == 1
    assert run(*arguments, "--json", env={**os.environ, "PYTHONPATH": str(folder)}).stdout


def test_an_endless_guest_config_is_refused():
    done = run("place", "/dev/zero", timeout=20)
    assert done.returncode == ExitStatus.BAD_INPUT
    assert done.stderr.startswith("homenode: /dev/zero: is longer than")


def test_help_on_a_verb_and_options_before_it():
    assert run("help", "list").stdout == run("list", "--help").stdout
    assert "after" in run("--json", "list", "-c", "sim:try").stderr


def test_a_value_for_an_option_that_takes_none_is_refused_in_plain_words():
    said = run("topology", "-c", "sim:try", "--json=3").stderr
    assert "argument --json: takes no value, and '3' was given" in said


def test_a_value_that_begins_with_a_minus_is_explained():
    assert "--policy=-usable" in run("place", "--policy", "-usable", "x.cfg").stderr


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_create_that_is_stopped_says_what_it_did_and_leaves_no_claim(folder, sent):
    files = []
    for number in range(100):
        path = folder / f"g{number}.cfg"
        path.write_text(f'name = "g{number}"\nmemory = 64\n')
        files.append(path.name)
    with subprocess.Popen(
        [*HOMENODE, "create", "--json", *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        ledger = folder / "state/homenode/sim/try.claims.json"
        while process.poll() is None and not ledger.exists():
            time.sleep(0.005)
        process.send_signal(sent)
        out, error = process.communicate()
    assert process.returncode == ExitStatus.INTERRUPTED
    assert error.startswith("homenode: interrupted; ")
    assert error.count("\n") == 1
    done = [guest["created"]["name"] for guest in json.loads(out)["guests"]]
    assert set(done) == set(names())
    assert "pending" not in run("claims").stdout


def test_an_end_that_is_ignored_stays_ignored():
    told = (
        "import os, signal; from homenode.cli.common import end_as_interrupted\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN); end_as_interrupted()\n"
        "os.kill(os.getpid(), signal.SIGHUP)"
    )
    assert subprocess.run([sys.executable, "-c", told], check=False).returncode == 0


@pytest.mark.parametrize("lost_in", ["exec of text", "an import"])
def test_an_interrupt_is_seen_wherever_python_is(lost_in):
    """In either place a plain KeyboardInterrupt kills Python later, or is printed and lost."""
    told = {
        "exec of text": "exec('os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)')",
        "an import": (
            "callback = 'lambda _: os.kill(os.getpid(), signal.SIGTERM)'\n"
            " callback = eval(compile(callback, '<frozen importlib._bootstrap>', 'eval'))\n"
            " kept = weakref.ref(lock := type('Lock', (), {})(), callback)\n"
            " del lock; time.sleep(9)"
        ),
    }[lost_in]
    code = (
        "import os, signal, time, weakref; from homenode.cli.common import end_as_interrupted\n"
        f"end_as_interrupted()\ntry:\n {told}\nexcept KeyboardInterrupt: print('seen')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "seen\n", "")


def killed_in(method, *words):
    """Run homenode, which kills itself where its driver is to do that."""
    code = (
        "import os, sys; import homenode.cli.main as command\n"
        "from homenode.drivers.simulated import SimulatedDriver as Driver\n"
        f"Driver.{method} = lambda *_: os.kill(os.getpid(), 9)\n"
        "command.main(sys.argv[1:])"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], check=False)
    assert done.returncode == -signal.SIGKILL


def test_a_guest_whose_creator_was_killed_can_be_created_again():
    killed_in("create", "create", config("web1"))
    assert "pending" in run("claims").stdout
    assert run("create", "guest.cfg").returncode == ExitStatus.DONE
    assert names() == ["web1"]
    assert "pending" not in run("claims").stdout


def test_a_move_that_was_killed_promises_nothing_any_more():
    run("create", config("web1", memory=4096), "--nodes", "0")
    killed_in("move", "affinity", "web1", "1", "--move", "--yes")
    claims = json.loads(run("claims", "--json").stdout)
    assert claims["outstanding"] == []
    assert [claim["state"] for claim in claims["claims"]] == ["seen"]
    moved = run("affinity", "web1", "1", "--move", "--yes")
    assert moved.returncode == ExitStatus.DONE, moved.stderr
    (claim,) = json.loads(run("claims", "--json").stdout)["claims"]
    assert (claim["state"], [part["node"] for part in claim["memory"]]) == ("seen", [1])


def test_eight_at_once_share_a_host_and_promise_nothing_twice(folder):
    for number in range(16):
        text = f'name = "g{number}"\nmemory = 40960\nnodes = 1\n'
        (folder / f"g{number}.cfg").write_text(text)
    commands = [[*HOMENODE, "create", f"g{at}.cfg", f"g{at + 8}.cfg"] for at in range(8)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for command in commands]
    for process in processes:
        process.communicate()
    assert {process.returncode for process in processes} <= {
        ExitStatus.DONE, ExitStatus.DOES_NOT_FIT,
    }  # fmt: skip
    guests = [guest for guest in json.loads(run("list", "--json").stdout)["guests"] if guest["id"]]
    # A node has 64 GiB: there is room for one of them on each, and it is all there.
    assert sorted(guest["node_affinity"] for guest in guests) == [[node] for node in range(8)]
    assert {guest["match"] for guest in guests} == {100}


def test_a_full_disk_leaves_neither_half_a_file_nor_a_claim(folder):
    run("create", config("web1"))
    limited = ["sh", "-c", 'ulimit -f 8; exec "$@"', "sh", *HOMENODE]
    done = subprocess.run(
        [*limited, "create", config("web2")], capture_output=True, text=True, check=False
    )
    assert done.returncode == ExitStatus.BAD_INPUT
    assert "cannot write it" in done.stderr
    assert not list((folder / "state/homenode/sim").glob("*.new"))
    assert names() == ["web1"]
    assert "web2" not in run("claims").stdout


def test_a_state_folder_is_absolute(folder, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    monkeypatch.setenv("HOME", str(folder / "home"))
    run("list")
    assert not (folder / "here").exists()
    assert (folder / "home/.local/state/homenode/sim/try.json").exists()


def terminal(*arguments, columns, **environment):
    """Return what a command prints on a terminal of so many columns."""
    ours, theirs = pty.openpty()
    size = (f'stty cols {columns}; exec "$@"', "sh")
    with subprocess.Popen(
        ["sh", "-c", *size, *HOMENODE, *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm", **environment},
    ):  # fmt: skip
        os.close(theirs)
        said = b""
        try:
            while some := os.read(ours, 65536):
                said += some
        except OSError:
            pass  # how Linux says that the other end is closed
    os.close(ours)
    return said.decode()


@pytest.mark.parametrize("columns", [300, 80, 40, 1])
def test_names_and_nodes_are_whole_on_any_terminal(columns):
    run("create", config("a-guest-with-a-name"))
    assert "a-guest-with-a-name" in terminal("list", columns=columns)
    assert "a-guest-with-a-name" in terminal("claims", columns=columns)


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
@pytest.mark.parametrize("verb", ["list", "claims", "topology"])
def test_colours_are_for_those_who_want_them(verb, plain):
    run("create", config("web1"))
    assert "\x1b" in terminal(verb, columns=80)
    assert "\x1b" not in terminal(verb, columns=80, **plain)
    assert "\x1b" not in run(verb).stdout
