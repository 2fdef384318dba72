"""The lab itself: sessions with dom0 behave as those of ssh, and Xen is as it was asked for."""

import json
import random
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import wire
from lab import Lab, LabError

MIB = 1 << 20
CLIENTS = wire.PORTS - 1  # one port is left to look through


def ssh(lab, *arguments, **options):
    return subprocess.run(
        [lab.ssh, *arguments], capture_output=True, check=False, timeout=120, **options
    )


def open_ssh(lab, *command):
    return subprocess.Popen(
        [lab.ssh, lab.name, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def noise(seed, size):
    return random.Random(seed).randbytes(size)  # noqa: S311 - the same in every run


@pytest.fixture
def dom0(lab_of):
    """For tests that do not look at Xen: not cleaned first."""
    return lab_of("n4")


def test_sixteen_sessions_at_once_keep_their_megabytes_apart(dom0):
    payloads = [noise(seed, MIB + 7919 * seed) for seed in range(16)]
    with ThreadPoolExecutor(16) as pool:
        results = list(
            pool.map(
                lambda n: dom0._run(f"cat; echo {n} >&2; exit {n}", payloads[n], 300), range(16)
            )
        )
    for number, result in enumerate(results):
        assert result == (number, payloads[number], b"%d\n" % number)


def test_a_file_comes_back_as_it_was_put(dom0):
    data = noise(1, MIB) + bytes(range(256))
    dom0.put(data, "/root/a b/c", 0o750)
    assert dom0.get("/root/a b/c") == data
    assert dom0.run(["stat", "-c", "%a", "/root/a b/c"]).stdout == "750\n"
    dom0.run("rm -r '/root/a b'", check=True)
    with pytest.raises(LabError, match="No such file"):
        dom0.get("/root/a b/c")


def test_more_sessions_than_ports_wait_for_their_turn(dom0):
    with ThreadPoolExecutor(2 * wire.PORTS) as pool:
        results = list(pool.map(lambda n: dom0.run(["echo", str(n)]), range(2 * wire.PORTS)))
    assert [int(result.stdout) for result in results] == list(range(2 * wire.PORTS))


def test_streams_and_status_are_the_command_s(dom0):
    assert dom0.run("echo out; echo err >&2; exit 7") == (7, "out\n", "err\n")
    assert dom0.run(["printf", "%s|", "a b", "$HOME", "'"]).stdout == "a b|$HOME|'|"
    assert dom0.run("kill -TERM $$").status == -signal.SIGTERM
    assert dom0.run(["/no/such/program"]).status == 127
    assert "/no/such/program" in dom0.run(["/no/such/program"]).stderr
    with pytest.raises(LabError, match="status 7: gone wrong"):
        dom0.run("echo gone wrong >&2; exit 7", check=True)


def test_a_command_that_outlives_its_time_is_killed(dom0):
    result = dom0.run("echo begun; sleep 1000 & wait", timeout_s=2)
    assert (result.status, result.stdout) == (124, "begun\n")
    assert dom0.run("pidof sleep").status == 1


def test_a_command_that_reads_nothing_does_not_block_its_client(dom0):
    assert dom0.run("exec 0<&-; echo done", input=bytes(4 * MIB)).stdout == "done\n"


def test_what_a_command_leaves_behind_does_not_hold_its_session_open(dom0):
    assert dom0.run("sleep 1000 & echo $!").stdout.strip().isdigit()
    dom0.run("kill $(pidof sleep)", check=True)


def test_a_shell_answers_line_by_line(dom0):
    shell = open_ssh(dom0, "sh")
    for number in range(20):
        shell.stdin.write(b"echo $((%d * 7)); read x; echo $x\n" % number)
        shell.stdin.flush()
        assert int(shell.stdout.readline()) == number * 7
        shell.stdin.write(b"line %d\n" % number)
        shell.stdin.flush()
        assert shell.stdout.readline() == b"line %d\n" % number
    assert shell.communicate(b"exit 5\n") == (b"", b"")
    assert shell.returncode == 5


def test_clients_that_vanish_free_their_ports_and_take_their_commands_along(dom0):
    clients = [
        open_ssh(dom0, "trap '' HUP; sleep 1000 & yes & echo $$; wait") for _ in range(CLIENTS)
    ]
    for client in clients:
        assert client.stdout.readline() != b""
    assert len(left_over(dom0, wait=False)) == 2 * CLIENTS
    for client in clients:
        client.kill()
        client.communicate()
    assert left_over(dom0, wait=True) == []
    with ThreadPoolExecutor(wire.PORTS) as pool:
        results = list(pool.map(lambda n: dom0.run(["echo", str(n)]), range(wire.PORTS)))
    assert [int(result.stdout) for result in results] == list(range(wire.PORTS))


def left_over(dom0, *, wait):
    """What runs of the commands above, looked at through a session of its own."""
    deadline = time.monotonic() + 60
    while True:
        found = dom0.run("pidof sleep yes").stdout.split()
        if not found or not wait or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def test_a_client_that_is_interrupted_takes_its_command_along(dom0):
    client = open_ssh(dom0, "echo $$; exec sleep 1000")
    assert client.stdout.readline() != b""
    client.send_signal(signal.SIGINT)
    client.communicate()
    assert client.returncode == -signal.SIGINT
    assert left_over(dom0, wait=True) == []


QUOTED = [
    ["echo", "a  b", "c"],
    ["echo", "'a  b'", "c"],
    ["printf", "'%s|'", '"a b"', "$((1+1))", "\\$HOME", "'$HOME'"],
    ["echo", "one;", "echo", "two"],
    ["printf", "'%s|'", "'", "'"],
    ["test", "1", "=", "2"],
    ["echo 'unbalanced"],
    ["printf '%s\\n' 'å\n\x1b\x01\x02'"],
    ["exit", "200"],
]


@pytest.mark.parametrize("command", QUOTED)
def test_ssh_hands_its_words_to_the_shell_there_as_ssh_does(dom0, command):
    # sshd runs `sh -c` with the words joined by blanks: busybox's shell here, dash or bash there.
    there = ssh(dom0, "-o", "BatchMode=yes", "-T", f"root@{dom0.name}", *command)
    here = subprocess.run(["/bin/sh", "-c", " ".join(command)], capture_output=True, check=False)
    assert (there.returncode, there.stdout) == (here.returncode, here.stdout)
    assert bool(there.stderr) == bool(here.stderr)


@pytest.mark.parametrize(
    "options",
    [
        "{0}",
        "-p 22 -l root -oBatchMode=yes -o ConnectTimeout=5 {0}",
        "-p22 -tt -- {0}",
        "-Tp 22 root@{0} -o LogLevel=ERROR",
        "-i -F {0}",  # -F is the file's name
    ],
)
def test_ssh_knows_which_options_take_a_value(dom0, options):
    words = options.format(dom0.name).split()
    assert ssh(dom0, *words, "echo", "-n", "-p", "x").stdout == b"-p x"


def test_ssh_reads_nothing_when_told_so(dom0):
    assert ssh(dom0, "-n", dom0.name, "cat", input=b"unread").stdout == b""
    assert ssh(dom0, dom0.name, "cat", input=b"read").stdout == b"read"


def test_ssh_says_that_there_is_no_such_lab(dom0):
    refused = ssh(dom0, "no-such-lab", "true")
    assert refused.returncode == 255
    assert refused.stderr.startswith(b"ssh: ")
    assert refused.stderr.count(b"\n") == 1
    with pytest.raises(LabError, match="no-such-lab"):
        Lab("no-such-lab").run("true")


def rows(text, first, last):
    """The numbers of each row of a table of `xl info -n`, without the row's own."""
    lines = text.partition(first)[2].partition(last)[0].splitlines()
    numbered = [line.split() for line in lines if re.match(r" +\d+:", line)]
    return [[int(number) for number in ",".join(row[1:]).split(",")] for row in numbered]


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.xen(name)) for name in ("n4", "smt2", "uneven4")],
)
def test_xen_has_the_topology_that_was_asked_for(lab, name):
    topology = lab.topology_of(name)
    text = lab.run(["xl", "info", "-n"], check=True).stdout
    cpus = rows(text, "cpu_topology", "device topology")
    nodes = rows(text, "numa_info", "xen_major")
    counts = [count for _, count in topology["nodes"]]
    assert [node for _, _, node in cpus] == [
        node for node, count in enumerate(counts) for _ in range(count)
    ]
    cores = {(socket, core) for core, socket, _ in cpus}
    assert len(cores) * topology.get("threads", 1) == len(cpus)
    if "dist" in topology:
        assert [row[2:] for row in nodes] == topology["dist"]
    # memsize counts the hole for devices below 4 GiB, which one node has.
    sizes = [mib for mib, _ in topology["nodes"]]
    assert sum(row[0] == mib for row, mib in zip(nodes, sizes, strict=True)) >= len(nodes) - 1


def free_memory(lab):
    return rows(lab.run(["xl", "info", "-n"], check=True).stdout, "numa_info", "xen_major")


def test_cleaning_leaves_no_guest_no_pool_and_all_memory_free(lab):
    before = free_memory(lab)
    for number in range(3):
        text = GUEST.format(name=f"g{number}")
        lab.put(text.encode(), f"/root/g{number}.cfg")
        lab.run(["xl", "create", f"/root/g{number}.cfg"], check=True)
    lab.run("xl cpupool-cpu-remove Pool-0 6-7", check=True)
    lab.run("""xl cpupool-create 'name="p"' 'cpus=["6","7"]'""", check=True)
    lab.put(b"x", "/run/homenode/claims")
    assert free_memory(lab) != before
    lab.clean()
    assert free_memory(lab) == before
    assert len(lab.run("xl list").stdout.splitlines()) == 2
    (pool,) = lab.run("xl cpupool-list").stdout.splitlines()[1:]
    assert pool.split()[:2] == ["Pool-0", "8"]
    assert lab.run("ls /run/homenode").status != 0


GUEST = """\
name = "{name}"
type = "pv"
kernel = "/guest/nano"
memory = 200
vcpus = 2
"""


def test_homenode_runs_in_dom0(lab):
    assert lab.run(["homenode", "--version"], check=True).stdout.startswith("homenode ")
    lab.put(GUEST.format(name="a").encode(), "/root/a.cfg")
    script = (
        "xl info -n >/root/host.txt && homenode place -c capture:/root/host.txt --json /root/a.cfg"
    )
    assert json.loads(lab.run(script, check=True).stdout)["fits"] is True


def test_the_lab_has_util_linux_s_flock(lab):
    assert "util-linux" in lab.run(["flock", "--version"], check=True).stdout
