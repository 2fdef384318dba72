"""Commands on this machine, the URIs that name another one, and xl as far as it can be had here."""

import getpass
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homenode.cli.main import main
from homenode.drivers import gateway, xen, xen_snapshot
from homenode.drivers.capture import CaptureDriver
from homenode.drivers.gateway import LocalGateway
from homenode.drivers.ssh import SshGateway
from homenode.drivers.xen import XenDriver
from homenode.errors import ExitStatus, HomenodeError, HypervisorError

HERE = LocalGateway()

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
COUNT = 'printf "%s\\0" "$#" "$@"'


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """Have a folder at the head of the search path; return what puts a program there."""
    folder = tmp_path / "tools"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        return folder / name

    return put


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Be in a folder of our own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def number_in(path):
    """Wait for a process to tell its number."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        told = path.read_text() if path.exists() else ""
        if told.endswith("\n"):
            return int(told)
        time.sleep(0.01)
    return pytest.fail(f"nobody wrote {path}")


def is_gone(process):
    """Wait for a process to be gone; a dead one that nobody has waited for is."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


# --- this machine ---


@settings(max_examples=30)
@given(words=st.lists(text, max_size=5), stdin=text)
def test_any_words_and_any_input_arrive_as_they_are(words, stdin):
    output = HERE.run(["sh", "-c", f"{COUNT}; exec cat", "sh", *words], stdin=stdin)
    assert output == (0, "\0".join([str(len(words)), *words, stdin]), "")


def test_words_arrive_in_utf_8_whatever_the_locale():
    script = (
        "from homenode.drivers.gateway import LocalGateway\n"
        "print(ascii(LocalGateway().run(['printf', '%s', '\\u6f22\\udcff'], stdin='\\u6f22')))"
    )
    for locale in ("C", "POSIX", "en_US.ISO-8859-1", "C.UTF-8"):
        done = subprocess.run(
            [sys.executable, "-X", "utf8=0", "-c", script],
            env={**os.environ, "LC_ALL": locale, "PYTHONCOERCECLOCALE": "0"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        assert r"stdout='\u6f22\ufffd'" in done.stdout


def test_output_that_is_no_utf_8_and_much_of_it_is_read():
    output = HERE.run(["sh", "-c", r"printf 'a\377b'; printf '\377\n' >&2; exit 3"])
    assert output == (3, "a\ufffdb", "\ufffd\n")
    much = HERE.run(["sh", "-c", "head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2"])
    assert (len(much.stdout), len(much.stderr)) == (5_000_000, 5_000_000)


def test_a_program_that_does_not_read_its_input_is_no_error():
    assert HERE.run(["true"], stdin="much to say\n" * 100_000).status == 0


def test_what_ended_by_a_signal_says_which():
    assert HERE.run(["sh", "-c", "kill -TERM $$"]).status == -signal.SIGTERM


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("no-such-program", "No such file or directory"),
        ("/etc/passwd", "Permission denied"),
        ("/etc/passwd/xl", "Not a directory"),
    ],
)
def test_a_program_that_cannot_be_run_is_named_with_the_reason(program, reason):
    with pytest.raises(HypervisorError, match=f"cannot run {program}: {reason}; is this a Xen"):
        HERE.run([program])


def test_the_folder_we_are_in_is_not_searched(folder, monkeypatch):
    (folder / "planted").write_text("#!/bin/sh\necho planted\n")
    (folder / "planted").chmod(0o755)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HypervisorError, match="cannot run planted"):
        HERE.run(["planted"])


STUBBORN = "trap '' TERM; echo $$ > {}; while :; do sleep 0.1; done"


@pytest.mark.parametrize("with_our_pipes", [True, False])
@pytest.mark.parametrize("parent", ["exec sleep 60", "wait", "trap '' TERM; wait; sleep 60"])
def test_when_the_time_is_up_all_that_a_command_started_is_ended(
    tmp_path, monkeypatch, parent, with_our_pipes
):
    monkeypatch.setattr(gateway, "GRACE_S", 0.3)
    away = "" if with_our_pipes else "</dev/null >/dev/null 2>&1"
    child = STUBBORN.format(tmp_path / "child")
    script = f"sh -c {shlex.quote(child)} {away} & echo $$ > {tmp_path}/parent; {parent}"
    with pytest.raises(HypervisorError, match=r"did not answer within 0\.3 s, and was ended"):
        HERE.run(["sh", "-c", script], timeout_s=0.3)
    assert is_gone(number_in(tmp_path / "parent"))
    assert is_gone(number_in(tmp_path / "child"))


def test_who_left_with_our_pipes_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(gateway, "GRACE_S", 0.2)
    script = f"setsid sh -c 'echo $$ > {tmp_path}/away; exec sleep 60' & wait"
    with pytest.raises(HypervisorError, match="was ended"):
        HERE.run(["sh", "-c", script], timeout_s=0.3)
    os.kill(number_in(tmp_path / "away"), signal.SIGKILL)


# Who runs the tests may have SIGINT ignored, and children inherit that.
WAITING = """
import signal, sys
from homenode.drivers.gateway import LocalGateway
signal.signal(signal.SIGINT, signal.default_int_handler)
LocalGateway().run(["sh", "-c", "echo $$ > " + sys.argv[1] + "; exec sleep 60"])
"""


def test_ctrl_c_ends_what_is_run(tmp_path):
    path = tmp_path / "child"
    with subprocess.Popen([sys.executable, "-c", WAITING, path], stderr=subprocess.PIPE) as running:
        child = number_in(path)
        running.send_signal(signal.SIGINT)
        assert running.communicate(timeout=60)[1].rstrip().endswith(b"KeyboardInterrupt")
    assert is_gone(child)


def test_ctrl_c_on_a_terminal_is_for_homenode_alone(tmp_path):
    # The terminal sends it to the whole group in the foreground; the child is in none of ours.
    path = tmp_path / "child"
    script = f"echo $$ > {path}; ps -o pgid= -p $$"
    group = HERE.run(["sh", "-c", script]).stdout.strip()
    assert int(group) == number_in(path) != os.getpgrp()


@settings(max_examples=15)
@given(words=st.lists(text, max_size=4))
def test_the_trace_can_be_pasted_into_a_shell_and_does_the_same(words):
    script = (
        "import json, sys; from homenode.drivers.gateway import LocalGateway\n"
        "sys.stdout.write(LocalGateway().run(json.load(sys.stdin)).stdout)"
    )
    command = ["sh", "-c", COUNT, "sh", *words]
    traced = subprocess.run(
        [sys.executable, "-X", "utf8", "-c", script],
        input=json.dumps(command).encode(), capture_output=True, check=True,
        env={**os.environ, "HOMENODE_TRACE": "1"},
    )  # fmt: skip
    assert traced.stderr.startswith(b"+ ")
    pasted = subprocess.run(["sh"], input=traced.stderr[2:], capture_output=True, check=True)
    assert pasted.stdout == traced.stdout
    assert pasted.stdout.decode() == "\0".join([str(len(words)), *words, ""])


# --- the names of other machines ---

HOSTS = st.from_regex(r"[a-z]([a-z0-9.-]{0,10}[a-z0-9])?", fullmatch=True)
ADDRESSES = st.ip_addresses(v=6).map(str)
USERS = st.none() | st.from_regex(r"[a-z_][a-z0-9._-]{0,10}", fullmatch=True)
PORTS = st.none() | st.integers(1, 65535)


def asked_of(destination):
    """Return what ssh itself understands of a connection to `destination`: user, host and port."""
    words = SshGateway(destination)._command("-T")
    told = subprocess.run(
        [words[0], "-F", "none", "-G", *words[1:], "sh"], capture_output=True, text=True, check=True
    )
    keys = dict(line.partition(" ")[::2] for line in told.stdout.splitlines())
    return keys["user"], keys["hostname"], int(keys["port"])


@pytest.fixture
def plain_ssh(monkeypatch):
    if not shutil.which("ssh"):
        pytest.skip("there is no ssh")
    monkeypatch.delenv("HOMENODE_SSH_COMMAND", raising=False)


@pytest.mark.usefixtures("plain_ssh")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(user=USERS, host=HOSTS | ADDRESSES, port=PORTS)
def test_ssh_goes_to_the_user_host_and_port_that_were_named(user, host, port):
    place = f"[{host}]" if ":" in host else host
    destination = f"{user}@" * (user is not None) + place + f":{port}" * (port is not None)
    asked_user, asked_host, asked_port = asked_of(destination)
    assert (asked_user, asked_port) == (user or getpass.getuser(), port or 22)
    assert asked_host == host or ip_address(asked_host) == ip_address(host)


@pytest.mark.usefixtures("plain_ssh")
def test_an_ipv6_address_without_a_port_needs_no_brackets():
    assert asked_of("web@fe80::1%eth0")[:2] == ("web", "fe80::1%eth0")


BAD = [
    "-oProxyCommand=touch planted", "-oProxyCommand=touch${IFS}planted", "[-Fplanted]", "-Fplanted",
    "[-V]", "[-V]:22", "web@-V", "-V@host", "-lweb@host", "web@[-Eplanted]", "$(touch planted)",
    "`id`", "host;id", "host id", "web user@host", "we'b@host", "web\n@host", "@host", "web@", "",
    ":22", "host:", "host:0", "host:65536", "host:-1", "host:22x", "host:²", "[::1", "::1]",
    "[::1]22", "[::1]:", "[]", "[host]", "host/path", "h\0st", "h\u00f6st", "web:secret@host",
    "%h@host", "h[o]st",
]  # fmt: skip


@pytest.mark.parametrize("destination", BAD)
@pytest.mark.parametrize("verb", [["list"], ["place", "guest.cfg"]])
def test_what_names_no_host_is_refused_before_anything_is_run(
    destination, verb, folder, tools, capsys
):
    tools("ssh", f"touch {folder}/planted; exit 1")
    (folder / "guest.cfg").write_text('name = "web"\nmemory = 64\n')
    uri = f"xen+ssh://{destination}"
    assert main([verb[0], "-c", uri, *verb[1:]]) == ExitStatus.BAD_INPUT
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "names no host; xen+ssh://[user@]host[:port]/" in said
    assert not (folder / "planted").exists()


def destination_of(destination):
    try:
        return SshGateway(destination)._command("-T")[-1]
    except HomenodeError:
        return "refused"


@given(st.text(alphabet="-[]:@%.a1/ =$\0\n", max_size=12))
def test_no_destination_is_ever_taken_for_an_option_of_ssh(destination):
    user, _, host = destination_of(destination).rpartition("@")
    for name in (user, host):
        assert not name.startswith("-")
        assert not set(name) & set("[]@/ =$\0\n")


# --- xl ---

CAPTURE = Path(__file__).parent / "data" / "xen-captures" / "n4" / "pools"


@pytest.fixture
def xl(tmp_path, tools, monkeypatch):
    """Have an xl that prints what a real one printed; return the folder that it prints from.

    An executable file beside an output is run in its stead.
    """
    folder = tmp_path / "xl"
    shutil.copytree(CAPTURE, folder)
    commands = "\n".join(
        f'"{command.removeprefix("xl ")}") name={name} ;;'
        for name, command in xen_snapshot.OUTPUTS.items()
        if (folder / name).exists()
    )
    tools(
        "xl",
        f'cd {folder}; echo "$*" >> calls\n'
        f'case "$*" in\n{commands}\n*) echo "command not implemented" >&2; exit 1 ;;\nesac\n'
        '[ -x "./$name.do" ] && exec "./$name.do"\nexec cat "$name"',
    )
    monkeypatch.setattr(xen, "STATE", str(tmp_path / "run"))
    return folder


def do(path, script):
    program = path.with_name(path.name + ".do")
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


def driver():
    return XenDriver(HERE, uri="xen:///")


@pytest.mark.usefixtures("xl")
def test_a_snapshot_of_the_living_is_that_of_what_was_saved():
    seen, saved = driver().snapshot(), CaptureDriver(str(CAPTURE)).snapshot()
    assert seen.guests == saved.guests
    assert seen.host.replace(taken_at=None, source=saved.host.source) == saved.host
    assert time.time() - seen.host.taken_at < 60


@pytest.mark.usefixtures("xl")
def test_a_snapshot_has_what_xl_told_of_pools_masks_and_time():
    host, guests = driver().snapshot()
    assert [(pool.name, str(pool.cpus), pool.scheduler) for pool in host.pools] == [
        ("Pool-0", "0-5", "credit2"),
        ("p1", "6-7", "credit"),
    ]
    told = {guest.name: guest for guest in guests}
    assert list(told) == ["Domain-0", "a", "b", "c", "d", "e web"]
    assert (told["d"].pool, str(told["d"].node_affinity), len(told["d"].vcpus)) == ("p1", "3", 1)
    assert {str(vcpu.hard) for vcpu in told["c"].vcpus} == {"4-5"}
    assert {str(vcpu.soft) for vcpu in told["e web"].vcpus} == {"0-3"}
    assert [vcpu.time_ns for vcpu in told["a"].vcpus] == [100_000_000, 0]
    assert told["b"].memory_kib == 64 << 10
    assert told["b"].memory_by_node is None


def edited(path, column, edit):
    """Let `edit` change the words of each row of a real table, given the place of `column`."""
    lines = path.read_text().replace("Security Label", "Security-Label").splitlines()
    at = next(number for number, line in enumerate(lines) if column in line.split())
    where = lines[at].split().index(column)
    for number, line in enumerate(lines[at:], at):
        words = line.split()
        # One guest has a name of two words; the tables of xl info end with lines of their own.
        if line.startswith(("device", "numa_info", "xen_")):
            break
        edit(words, where + line.startswith("e web"))
        lines[number] = " ".join(words)
    path.write_text("\n".join(lines).replace("Security-Label", "Security Label") + "\n")


@pytest.mark.parametrize(
    ("name", "column"),
    [
        (xen_snapshot.LIST, "ID"), (xen_snapshot.LIST, "Mem"), (xen_snapshot.LIST, "VCPUs"),
        (xen_snapshot.LIST, "State"), (xen_snapshot.CLAIMS, "ID"), (xen_snapshot.VCPUS, "ID"),
        (xen_snapshot.VCPUS, "VCPU"), (xen_snapshot.VCPUS, "CPU"),
        (xen_snapshot.INFO, "node"), (xen_snapshot.INFO, "core"), (xen_snapshot.INFO, "socket"),
        (xen_snapshot.INFO, "memsize"), (xen_snapshot.INFO, "memfree"),
        (xen_snapshot.INFO, "distances"),
    ],
)  # fmt: skip
def test_an_xl_that_lacks_a_column_is_refused_by_its_name(xl, capsys, name, column):
    edited(xl / name, column, lambda words, at: words.pop(at))
    assert main(["list", "-c", "xen:///"]) != ExitStatus.DONE
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert column in said.err
    assert name in said.err or xen_snapshot.OUTPUTS[name] in said.err


def test_columns_and_lines_of_a_later_version_are_passed_over(xl):
    before = driver().snapshot()
    for name, column, value in (
        (xen_snapshot.LIST, "Mem", "256"), (xen_snapshot.LIST, "UUID", "x y"),
        (xen_snapshot.CLAIMS, "VCPUs", "256"), (xen_snapshot.VCPUS, "ID", "256"),
        (xen_snapshot.VCPUS, "Affinity", "x-y"),
        (xen_snapshot.INFO, "core", "7"), (xen_snapshot.INFO, "memfree", "7"),
    ):  # fmt: skip
        edited(xl / name, column, lambda words, at: words.insert(at, value))  # noqa: B023 - called at once
    for name in (xen_snapshot.LIST, xen_snapshot.CLAIMS, xen_snapshot.VCPUS, xen_snapshot.INFO):
        path = xl / name
        path.write_text("WARNING: a word of warning: yes\n\n" + path.read_text())
    with (xl / xen_snapshot.INFO).open("a") as info:
        info.write("colour_map             : 1\nno key here\n")
    after = driver().snapshot()
    assert after.guests == before.guests
    assert after.host.replace(taken_at=None) == before.host.replace(taken_at=None)


def calls(xl):
    return (xl / "calls").read_text().splitlines()


@pytest.mark.parametrize("name", [xen_snapshot.LIST, xen_snapshot.VCPUS, xen_snapshot.INFO])
def test_an_xl_that_fails_is_heard_in_one_line(xl, capsys, name):
    reason = "libxl: error: libxl_domain.c:339:libxl_list_domain: getting domain info list: ..."
    do(xl / name, f"head -n 2 {name}; echo '{reason}' >&2; exit 1")
    assert main(["list", "-c", "xen:///"]) == ExitStatus.HYPERVISOR
    said = capsys.readouterr()
    command = xen_snapshot.OUTPUTS[name].split()[1]
    assert said.out == ""
    assert said.err == f"homenode: xl {command}: getting domain info list: ..\n"


def test_a_guest_that_dies_while_it_is_looked_at_does_no_harm(xl):
    # As xl did: it ends with 0, says so, and leaves the guest out.
    gone = "libxl: error: libxl_domain.c:1667:libxl_list_vcpu: Domain 3:Getting infolist: Success"
    do(xl / xen_snapshot.VCPUS, f"grep -v '^c ' {xen_snapshot.VCPUS}; echo '{gone}' >&2")
    configured = json.loads((xl / xen_snapshot.LIST_CONFIGURED).read_text())
    left = [guest for guest in configured if guest["domid"] != 3]
    (xl / xen_snapshot.LIST_CONFIGURED).write_text(json.dumps(left))
    guests = {guest.name: guest for guest in driver().snapshot().guests}
    assert list(guests) == ["Domain-0", "a", "b", "c", "d", "e web"]
    assert guests["c"].type is None
    assert guests["a"] == CaptureDriver(str(CAPTURE)).snapshot().guest("a")


def test_a_guest_that_appears_between_two_lists_is_looked_at_again(xl):
    undisturbed = driver().snapshot("guests").guests[-1]
    first = xl / xen_snapshot.LIST
    whole, early = first.read_text(), "".join(first.read_text().splitlines(keepends=True)[:-1])
    (xl / "whole").write_text(whole)
    first.write_text(early)
    do(first, f"cat {first.name}; mv whole {first.name}; rm {first.name}.do")
    assert driver().snapshot("guests").guests[-1] == undisturbed
    assert calls(xl).count("list -v -c -n") == calls(xl).count("info -n") == 3


def test_a_host_that_never_rests_is_not_looked_at_for_ever(xl):
    listed = xl / xen_snapshot.LIST
    listed.write_text(listed.read_text().replace("e web", "f web").replace(" 5    64", " 9    64"))
    guests = {guest.name: guest for guest in driver().snapshot("guests").guests}
    assert guests["f web"].memory_kib == 64 << 10
    assert guests["e web"].memory_kib is None
    assert calls(xl).count("info -n") == 3


@pytest.mark.parametrize("name", [xen_snapshot.LIST, xen_snapshot.INFO])
def test_an_xl_that_hangs_is_ended_and_named(xl, tmp_path, name):
    do(xl / name, f"echo $$ > {tmp_path}/number; sleep 60")
    hasty = driver()
    hasty._xl.timeout_s = 0.5
    with pytest.raises(HypervisorError) as caught:
        hasty.snapshot()
    command = xen_snapshot.OUTPUTS[name]
    assert str(caught.value).startswith(f"`{command}` did not answer within 0.5 s, and was ended;")
    assert is_gone(number_in(tmp_path / "number"))


WHAT_IT_SAYS = {
    "not root": "Could not obtain handle on privileged command interface: Permission denied",
    "no Xen": "Could not obtain handle on privileged command interface: No such file or directory",
}


@pytest.mark.parametrize("case", WHAT_IT_SAYS)
def test_an_xl_that_cannot_reach_xen_is_heard_and_there_is_a_remedy(xl, capsys, case):
    words = WHAT_IT_SAYS[case]
    do(
        xl / xen_snapshot.LIST,
        f"echo 'xencall: error: {words}' >&2\n"
        f"echo 'libxl: error: libxl.c:102:libxl_ctx_alloc: cannot open libxc handle: x' >&2\n"
        "echo cannot init xl context >&2; exit 1",
    )
    assert main(["list", "-c", "xen:///"]) == ExitStatus.HYPERVISOR
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"homenode: xl list: {words}; xl is for root, in a Xen dom0\n"


@pytest.mark.skipif(
    shutil.which("xl", path=gateway.environment()["PATH"]) is not None, reason="there is an xl"
)
@pytest.mark.parametrize("verb", [["list"], ["create", "guest.cfg"], ["destroy", "web"]])
def test_without_an_xl_every_verb_says_so_in_one_line(folder, monkeypatch, capsys, verb):
    monkeypatch.setattr(xen, "STATE", str(folder / "run"))
    (folder / "guest.cfg").write_text('name = "web"\nmemory = 64\n')
    assert main([verb[0], "-c", "xen:///", *verb[1:]]) == ExitStatus.HYPERVISOR
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("homenode: cannot run xl: No such file or directory; is this a Xen")
    assert said.err.count("\n") == 1
