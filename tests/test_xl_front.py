import getopt
import os
import pty
import select
import shlex
import signal
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from homenode.cli.main import main
from homenode.errors import ExitStatus, ParseError
from homenode.formats.xl_cfg import GuestConfig, render
from homenode.xl_front import merged, parse_call, parse_creation, placed

HOMENODE = [sys.executable, "-m", "homenode.cli.main", "xl"]

LONG = {
    "defconfig": "f",
    "dryrun": "n",
    "help": "h",
    "ignore-global-affinity-masks": "i",
    "quiet": "q",
    "vncviewer": "V",
    "vncviewer-autopass": "A",
}

WORDS = st.one_of(
    st.sampled_from(
        ["a.cfg", "b.cfg", "memory=64", "", "-", "--", "-f", "-p", "-n", "-h", "--defconfig", "--q"]
    ),
    st.text("FnqfpcdeVAihz=", min_size=1, max_size=4).map("-{}".format),
    st.sampled_from(sorted(LONG)).flatmap(
        lambda name: st.integers(0, len(name)).map(lambda end: f"--{name[:end]}")
    ),
    st.sampled_from(["--defconfig=b.cfg", "--def=", "--quiet=x", "--vnc"]),
)


def as_getopt_reads_it(words):
    """Return path, settings and letters of a call of xl create; None for what creates nothing."""
    first = words[:1] if words and not words[0].startswith("-") and "=" not in words[0] else []
    long = [f"{name}=" if letter == "f" else name for name, letter in LONG.items()]
    try:
        found, others = getopt.gnu_getopt(words[len(first) :], "Fnqf:pcdeVAih", long)
    except getopt.GetoptError:
        return None
    letters, path = set(), (first or [None])[0]
    for option, value in found:
        letter = LONG.get(option[2:], option[1:])
        path = value if letter == "f" else path
        letters.add(letter)
    settings = tuple(word for word in others if "=" in word)
    paths = [word for word in others if "=" not in word]
    if letters & {"h", "n"} or len(paths) + (path is not None) != 1:
        return None
    return (paths[0] if path is None else path), settings, letters - {"f"}


@given(st.lists(WORDS, max_size=6))
@example(["a.cfg", "-f", "b.cfg"])
@example(["-pf", "a.cfg", "-c"])
@example(["-f", "b.cfg", "a.cfg"])
def test_create_is_read_as_getopt_reads_it(words):
    read = parse_creation(words)
    expected = as_getopt_reads_it(words)
    assert (read and (read.path, read.settings, set(read.letters))) == expected


@given(st.lists(WORDS, max_size=6))
def test_options_that_are_not_ours_come_out_as_they_were_typed_and_in_order(words):
    read = parse_creation(words)
    if read is None:
        return
    again = parse_creation([*read.options, "-f", read.path, "--", *read.settings])
    assert again == read
    kept = iter("".join(words))
    assert all(letter in kept for letter in "".join(read.options).replace("-", ""))


@given(
    st.lists(st.sampled_from(["-v", "-vvv", "-f", "-tTN", "-N"])),
    st.sampled_from(["create", "cr", "crea", "c", "creates", "list", "help"]),
    st.lists(st.text()),
)
def test_a_call_has_all_words_in_their_places(options, command, arguments):
    call = parse_call([*options, command, *arguments])
    assert (call.options, call.command, call.arguments) == (
        tuple(options),
        command,
        tuple(arguments),
    )
    assert call.creates == (command in ("create", "cr", "crea"))
    assert call.is_dry == ("N" in "".join(options))


@pytest.mark.parametrize("words", [[], ["-v"], ["-x", "create"], ["--help"], ["-h"], ["-v", "--"]])
def test_what_xl_knows_no_command_in_is_no_call(words):
    assert parse_call(words) is None


VALUES = st.dictionaries(
    st.sampled_from(["memory", "name", "nodes", "vif", "cpus"]),
    st.one_of(st.text("ab 'é=#\n"), st.lists(st.text("ab"), max_size=3).map(tuple)),
)


@given(VALUES, VALUES, st.booleans())
def test_settings_of_the_command_line_outrank_those_of_the_file(in_file, on_line, ended):
    text = render(in_file) if ended else render(in_file).rstrip("\n")
    settings = render(on_line).splitlines()
    read = GuestConfig.parse(merged(text, settings), source="a.cfg")
    assert dict(read.values) == {**in_file, **on_line}


@pytest.mark.parametrize("text", ["", "memory = 64", "memory = 64\n", "# ends in a comment"])
def test_an_error_in_an_argument_is_said_to_be_there(text):
    settings = ["vif=['a',\n'b']", "nodes=0-1", "x=1"]
    with pytest.raises(ParseError) as raised:
        GuestConfig.parse(merged(text, settings), source="a.cfg")
    error = placed(raised.value, source="a.cfg", config_text=text, settings=settings)
    assert str(error).startswith("the argument 'nodes=0-1': ")
    assert "quotes" in str(error)


def test_an_error_in_the_file_or_elsewhere_stays_there():
    with pytest.raises(ParseError) as raised:
        GuestConfig.parse(merged("\nmemory = \n", ["x=1"]), source="a.cfg")
    there = {"config_text": "\nmemory = \n", "settings": ["x=1"]}
    assert str(placed(raised.value, source="a.cfg", **there)).startswith("a.cfg:2: ")
    other = ParseError("odd", source="xl list", line=4)
    assert placed(other, source="a.cfg", **there) is other


# --- words, streams, signals and the terminal reach xl: here a program of that name ---

ODD = ["a b", "", "'", '"$HOME"', "*", "å\n", "-x", "--", "=", os.fsdecode(b"\xff")]


@pytest.fixture
def xl(tmp_path, monkeypatch):
    """Put a program named xl first on the path: it is the shell script that is given."""

    def write(script):
        (tmp_path / "xl").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "xl").chmod(0o755)

    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HOMENODE_URI", raising=False)
    return write


def run(*words, uri="xen:///", **options):
    command = [*HOMENODE, "-c", uri, *words]
    return subprocess.run(command, capture_output=True, check=False, **options)


PRINT_WORDS = "printf '%s\\0' \"$@\"; exit 7"


@pytest.mark.parametrize(
    "words",
    [
        ["list", *ODD],
        ["-vvv", "-f", "list", "-c", "xen:///", "-h"],
        ["node-affinities"],
        ["cr", "-h"],
        ["create", "-n", "a.cfg", "nodes=1"],
        ["-N", "create", "a.cfg"],
        ["create", "a.cfg", "b.cfg"],
        ["create", "memory=64"],
        ["create", "-p", "-z", "a.cfg"],
        ["destroy", "a"],
        ["-x"],
        [],
    ],
)
def test_words_that_are_not_ours_reach_xl_unchanged_and_its_status_us(xl, words):
    xl(PRINT_WORDS)
    done = run(*words)
    printed = "".join(f"{word}\0" for word in words) or "\0"
    assert (done.returncode, done.stdout, done.stderr) == (7, os.fsencode(printed), b"")


def test_words_after_two_dashes_are_xls_and_the_host_may_come_from_the_environment(xl, monkeypatch):
    xl(PRINT_WORDS)
    assert run("--", "--", "-c", "x").stdout == b"--\0-c\0x\0"
    monkeypatch.setenv("HOMENODE_URI", "xen:///")
    done = subprocess.run([*HOMENODE, "list", "-c"], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (7, b"list\0-c\0")
    for word in ("-cxen:///", "--connect=xen:///"):
        done = subprocess.run([*HOMENODE, word, "-v"], capture_output=True, check=False)
        assert done.stdout == b"-v\0"


def test_this_process_becomes_xl_with_its_streams_and_environment(xl, monkeypatch):
    # Without the two signals that are the C library's own: it ignores them when it starts programs.
    ignored = "$((0x$(sed -n 's/^SigIgn:.//p' /proc/$$/status) & ~0x180000000))"
    xl(f'echo $$; cat; echo "$LC_ALL" >&2; echo {ignored}; exit 3')
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    plain = subprocess.run(["xl", "list"], input=b"in\n", capture_output=True, check=False)
    process = subprocess.Popen(
        [*HOMENODE, "-c", "xen:///", "list"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = process.communicate(b"in\n")
    assert out.splitlines()[0] == str(process.pid).encode()
    assert (process.returncode, out.splitlines()[1:], err) == (
        plain.returncode,
        plain.stdout.splitlines()[1:],
        plain.stderr,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGPIPE, signal.SIGKILL])
def test_a_signal_that_ends_xl_is_what_ended_us(xl, number):
    xl(f"kill -{number} $$")
    assert run("list").returncode == -number


def read_all(terminal):
    text = b""
    while select.select([terminal], [], [], 60)[0]:
        try:
            text += os.read(terminal, 1 << 16)
        except OSError:
            break
    return text


def test_the_terminal_and_its_control_c_are_xls(xl):
    xl("trap 'echo caught; exit 9' INT; test -t 0 && test -t 1 && test -t 2 && echo ready; read x")
    child, terminal = pty.fork()
    if not child:
        os.execv(HOMENODE[0], [*HOMENODE, "-c", "xen:///", "console", "a"])  # noqa: S606 - no shell
    text = b""
    while b"ready" not in text:
        text += os.read(terminal, 1 << 16)
    os.write(terminal, b"\x03")
    assert b"caught" in read_all(terminal)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def test_words_reach_xl_behind_ssh_unchanged(xl, tmp_path, monkeypatch):
    xl(PRINT_WORDS)
    ssh = tmp_path / "hop"
    ssh.write_text('#!/bin/sh\nfor word do :; done\nexec sh -c "$word"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("HOMENODE_SSH_COMMAND", shlex.quote(str(ssh)))
    done = run("list", *ODD, uri="xen+ssh://host/")
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in ["list", *ODD])
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("uri", "complaint"),
    [("xen:///", "cannot run xl"), ("xen+ssh://host/", "cannot run no-such-ssh")],
)
def test_a_program_that_is_missing_is_said_in_one_line(monkeypatch, uri, complaint):
    monkeypatch.setenv("PATH", "/var/empty")
    monkeypatch.setenv("HOMENODE_SSH_COMMAND", "no-such-ssh")
    done = run("list", uri=uri)
    assert (done.returncode, done.stdout) == (ExitStatus.HYPERVISOR, b"")
    assert complaint in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1


# --- what is ours, on a simulated host ---


@pytest.fixture
def sim(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.cfg").write_text('name = "web"\nmemory = 1024\nvcpus = 2\n')

    def run_one(*words):
        status = main(["xl", "-c", "sim:try", *words])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run_one


def nodes_of(sim, domain):
    status, out, _ = sim("node-affinity", domain)
    assert status == ExitStatus.DONE
    return out.splitlines()[1].split()[-1]


def test_create_places_the_guest_as_its_file_and_the_arguments_say(sim):
    status, out, err = sim("create", "web.cfg", 'nodes="3"')
    assert (status, out) == (ExitStatus.DONE, "")
    assert "web: created on node 3 (as nodes says)" in err
    assert nodes_of(sim, "web") == "3"
    status, out, err = sim("cr", "-qf", "web.cfg", 'name="other"', 'nodes_policy="spread"')
    assert (status, out, err) == (ExitStatus.DONE, "", "")
    assert nodes_of(sim, "other") != "3"


def test_create_from_the_command_line_alone(sim):
    assert sim("create", "/dev/null", 'name="x"', "memory=64", 'nodes="1"')[0] == ExitStatus.DONE
    assert nodes_of(sim, "x") == "1"


def test_what_does_not_fit_is_not_created_and_said_on_standard_error(sim):
    status, out, err = sim("create", "web.cfg", "memory=9999999")
    assert (status, out) == (ExitStatus.DOES_NOT_FIT, "")
    assert "does not fit" in err


def test_node_affinity_is_set_by_name_and_by_id(sim):
    sim("create", "web.cfg")
    status, out, _ = sim("node-affinity", "web", "2-3")
    assert (status, out) == (ExitStatus.DONE, "")
    heading, row = sim("node-affinity", "web")[1].splitlines()
    assert heading.split() == ["Name", "ID", "NODE", "Affinity"]
    assert row.split()[-1] == "2-3"
    assert sim("node-affinity", row.split()[1], "all")[0] == ExitStatus.DONE
    assert nodes_of(sim, "web") == "all"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["list"], "no xl"),
        ([], "no xl"),
        (["create", "-n", "web.cfg"], "no xl"),
        (["create", "-pc", "web.cfg"], "no xl to take -pc"),
        (["create", "no.cfg"], "no.cfg: No such file"),
        (["create", "web.cfg", "nodes=0-1"], "the argument 'nodes=0-1'"),
        (["create", "web.cfg", 'nodes="99"'], "99"),
        (["create", "web.cfg", 'nodes_policy="luck"'], "the argument"),
        (["create", "web.cfg", "name='" + os.fsdecode(b"\xff") + "'"], "not UTF-8"),
        (["node-affinity"], "DOMAIN"),
        (["-N", "node-affinity", "web"], "DOMAIN"),
        (["node-affinity", "web"], "no domain 'web'"),
        (["node-affinity", "77"], "no domain '77'"),
        (["node-affinity", "Domain-0", "99"], "99"),
        (["node-affinity", "Domain-0", "0,^0"], "no node"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(sim, words, complaint):
    status, out, err = sim(*words)
    assert (status, out, err.count("\n")) == (ExitStatus.BAD_INPUT, "", 1)
    assert complaint in err


def test_a_host_that_is_missing_or_without_a_value_is_said(capsys):
    assert main(["xl", "-c"]) == ExitStatus.BAD_INPUT
    assert "URI" in capsys.readouterr().err
