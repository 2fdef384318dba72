"""`homenode xl` beside the real xl: what is xl's stays xl's, and guests go where they should."""

import json
import os
import shlex
import signal
import subprocess
import sys

import pytest

from homenode.formats.xen_debug_keys import parse_numa

GUEST = """\
name = "a"
type = "pv"
kernel = "/guest/nano"
memory = 64
vcpus = 2
"""

TERMINAL = r"""
import json, os, pty, signal, subprocess, sys, threading, time

words, steps = json.loads(sys.argv[1])
child, terminal = pty.fork()
if not child:
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # the lab starts its commands without
    os.execvp(words[0], words)
said = bytearray()

def read():
    try:
        while data := os.read(terminal, 4096):
            said.extend(data)
    except OSError:
        pass  # all of them have closed it

reader = threading.Thread(target=read, daemon=True)
reader.start()
for probe, keys in steps:
    while subprocess.run(probe, shell=True, stdout=-3, stderr=-3).returncode:
        time.sleep(0.2)
    os.write(terminal, keys.encode())
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
reader.join(5)
print(json.dumps([status, said.decode(errors="replace")]))
"""
"""Runs words on a terminal; types the keys of each step as soon as its shell command succeeds."""

CONTROL_C = "\x03"
LEAVE_CONSOLE = "\x1d"


@pytest.fixture
def front(lab):
    lab.put(GUEST.encode(), "/root/a.cfg")
    lab.put(TERMINAL.encode(), "/root/terminal.py")
    # xenconsole's lock has to go somewhere; a kernel that nobody writes is read for ever.
    lab.run("mkdir -p /var/lock; test -p /root/pipe || mkfifo /root/pipe", check=True)
    return lab


def on_terminal(lab, words, *steps):
    """Return the exit status (negative: the signal) and what was on the terminal."""
    done = lab.run(["python3", "/root/terminal.py", json.dumps([words, steps])], check=True)
    return json.loads(done.stdout)


def guest_names(lab):
    rows = lab.run(["xl", "list"], check=True).stdout.splitlines()[1:]
    return [row.split()[0] for row in rows][1:]


def listed(lab):
    document = json.loads(lab.run(["homenode", "list", "--json"], check=True).stdout)
    return {guest["name"]: guest for guest in document["guests"]}


def claims(lab):
    return json.loads(lab.run(["homenode", "claims", "--json"], check=True).stdout)["claims"]


def memory_of(lab, name):
    """Return the nodes that have the guest's memory, as Xen itself counts its pages."""
    identity = int(lab.run(["xl", "domid", name], check=True).stdout)
    text = lab.run("xl debug-keys u; sleep 1; xl dmesg", check=True).stdout
    pages = parse_numa(text).domains[identity].by_node
    return {node for node, count in pages.items() if count}


UUID = """'uuid="00000000-0000-4000-8000-000000000001"'"""
AS_XL = [
    "",
    "-x",
    "-N list",
    "help create",
    "cpupool-li -c",
    "list nosuch",
    "nosuch",
    "vcpu-pin nosuch 0 all",
    "create",
    "create -h",
    "create -z /root/a.cfg",
    "create --vnc /root/a.cfg",
    "create /root/a.cfg /root/b.cfg",
    "create -f",
    f"create -n /root/a.cfg memory=80 {UUID}",
    f"-N cr --defconfig=/root/a.cfg memory=80 {UUID}",
    f"create -nq /root/a.cfg {UUID} 'name=\"b c\"'",
]


def test_what_is_not_ours_is_as_xl_does_it(front):
    def outcomes(*program):
        return {words: front.run([*program, *shlex.split(words)]) for words in AS_XL}

    assert outcomes("homenode", "xl") == outcomes("xl")
    assert guest_names(front) == []


def test_create_goes_where_the_arguments_say_and_nothing_is_owed(front):
    done = front.run(["homenode", "xl", "create", "/root/a.cfg", "memory=96", 'nodes="2"'])
    assert (done.status, done.stdout) == (0, "")
    assert "Parsing config from " in done.stderr
    assert "a: created on node 2 (as nodes says); 100 % of its memory is there" in done.stderr
    assert memory_of(front, "a") == {2}
    assert listed(front)["a"]["memory_kib"] == 96 << 10
    assert [claim["state"] for claim in claims(front)] == ["seen"]


def test_create_hands_options_on_and_a_paused_guest_is_settled(front):
    done = front.run(["homenode", "xl", "-vvv", "cr", "-dpf", "/root/a.cfg", 'nodes="1"'])
    assert (done.status, done.stdout) == (0, "")
    assert "libxl: debug: " in done.stderr
    assert '"c_info"' in done.stderr
    assert listed(front)["a"]["state"] == "paused"
    assert memory_of(front, "a") == {1}
    assert [claim["state"] for claim in claims(front)] == ["seen"]


def test_a_quiet_create_says_nothing_and_leaves_no_xl_behind(front):
    done = front.run(["homenode", "xl", "create", "-qe", "/root/a.cfg"])
    assert done == (0, "", "")
    assert front.run(["pidof", "xl"]).status == 1
    assert guest_names(front) == ["a"]


def test_xl_refuses_with_its_own_words_and_status_and_nothing_stays(front):
    setting = 'kernel="/no/such"'
    plain = front.run(["xl", "create", "/root/a.cfg", setting])
    done = front.run(["homenode", "xl", "create", "/root/a.cfg", setting])
    assert done.status == plain.status != 0
    assert "failed to open file '/no/such'" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("homenode: xl create ended with status")
    assert guest_names(front) == []
    assert claims(front) == []
    assert front.run("ls /run/homenode | grep cfg").stdout == ""


def test_what_does_not_fit_never_reaches_xl(front):
    done = front.run(["homenode", "xl", "create", "/root/a.cfg", "memory=999999"])
    assert (done.status, done.stdout) == (1, "")
    assert "does not fit" in done.stderr
    assert "Parsing config" not in done.stderr
    assert claims(front) == []


def test_control_c_while_xl_builds_takes_the_guest_away(front):
    words = ["xl", "create", "/root/a.cfg", 'kernel="/root/pipe"']
    assert on_terminal(front, words, ["xl list a", CONTROL_C])[0] == -signal.SIGINT
    assert guest_names(front) == ["a"]  # xl itself leaves the half of it
    front.run(["xl", "destroy", "a"], check=True)
    # The one that was destroyed may be listed for a moment yet.
    building = "ls /run/homenode/*.pid && xl list a"
    for option in ("-q", "-F"):
        ours = ["homenode", *words, option]
        status, said = on_terminal(front, ours, [building, CONTROL_C])
        assert "homenode: interrupted" in said.splitlines()[-1]
        assert status == 128 + signal.SIGINT
        assert guest_names(front) == []
        assert claims(front) == []
        assert front.run(["pidof", "xl"]).status == 1


RUNS = "homenode list | grep -q 'a .* 100 %'"


def test_control_c_ends_an_xl_in_the_foreground_and_the_guest_runs_on(front):
    words = ["homenode", "xl", "create", "-F", "/root/a.cfg"]
    status, said = on_terminal(front, words, [RUNS, CONTROL_C])
    assert status == -signal.SIGINT
    assert "a: created on node" in said
    assert guest_names(front) == ["a"]
    assert [claim["state"] for claim in claims(front)] == ["seen"]


def test_a_signal_for_us_is_one_for_the_xl_in_the_foreground(front):
    script = f"""
        homenode xl create -F /root/a.cfg 2>/dev/null & ours=$!
        until {RUNS}; do sleep 0.2; done
        kill -TERM $ours; wait $ours; echo $?; pidof xl"""
    assert front.run(script).stdout.split() == [str(128 + signal.SIGTERM)]
    assert guest_names(front) == ["a"]


def test_xl_in_the_foreground_ends_with_its_guest(front):
    words = ["homenode", "xl", "create", "-F", "/root/a.cfg"]
    front.run(f"(until {RUNS}; do sleep 0.2; done; xl destroy a) >/dev/null 2>&1 &", check=True)
    assert front.run(words).status == 0
    assert guest_names(front) == []


def test_the_console_is_the_guests_until_it_is_left(front):
    words = ["homenode", "xl", "create", "-c", "/root/a.cfg"]
    # xl starts the guest when the console has taken the terminal.
    status, said = on_terminal(front, words, [RUNS, CONTROL_C], ["sleep 1", LEAVE_CONSOLE])
    assert status == 0
    assert said.splitlines()[-1].startswith("a: created on node")
    assert guest_names(front) == ["a"]


def test_node_affinity_is_shown_and_set_as_xl_lists_it(front):
    front.run(["homenode", "xl", "create", "/root/a.cfg", 'nodes="1"'], check=True)
    identity = front.run(["xl", "domid", "a"], check=True).stdout.strip()
    for domain, nodes in (("a", "2"), (identity, "0-1"), ("a", "all")):
        done = front.run(["homenode", "xl", "node-affinity", domain, nodes])
        assert (done.status, done.stdout) == (0, "")
        row = front.run(["xl", "list", "-n", "a"], check=True).stdout.splitlines()[1]
        shown = front.run(["homenode", "xl", "node-affinity", domain], check=True).stdout
        assert shown.splitlines()[1].split() == ["a", identity, row.split()[-1]]
        assert row.split()[-1] == nodes
    assert memory_of(front, "a") == {1}
    gone = front.run(["homenode", "xl", "node-affinity", "77"])
    assert (gone.status, gone.stdout) == (2, "")
    assert "no domain '77'" in gone.stderr


def from_here(lab, *words):
    """Run homenode xl on this machine, with the lab behind ssh."""
    return subprocess.run(
        [sys.executable, "-m", "homenode.cli.main", "xl", "-c", f"xen+ssh://{lab.name}/", *words],
        env={**os.environ, "HOMENODE_SSH_COMMAND": shlex.quote(lab.ssh)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_behind_ssh_it_is_the_same_with_a_config_of_this_machine(front, tmp_path):
    (tmp_path / "b.cfg").write_text(GUEST.replace('"a"', '"b"'))
    done = from_here(front, "create", str(tmp_path / "b.cfg"), 'nodes="3"')
    assert (done.returncode, done.stdout) == (0, "")
    assert "b: created on node 3 (as nodes says); 100 % of its memory is there" in done.stderr
    assert memory_of(front, "b") == {3}
    refused = from_here(front, "create", str(tmp_path / "b.cfg"), 'name="c d"', 'kernel="/no"')
    assert refused.returncode == front.run(["xl", "create", "/root/a.cfg", 'kernel="/no"']).status
    assert "xl create ended with status" in refused.stderr.splitlines()[-1]
    plain = front.run(["xl", "list", "a  b"])
    done = from_here(front, "list", "a  b")
    assert (done.returncode, done.stdout, done.stderr) == plain
    assert guest_names(front) == ["b"]
