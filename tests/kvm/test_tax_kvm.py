"""``homenode tax`` on a real Linux with several nodes: where things lie, never how fast."""

import json

import guests
import pytest

TINY = "--size 4MiB --seconds 0.1"
FAR = 2  # the first of two nodes that are equally far from node 0, in n4


def documented(result):
    assert result.status == 0, result
    document = json.loads(result.stdout)
    return document, {(row["case"], row["copies"]): row for row in document["results"]}


def nodes_of(row):
    return {share["node"]: share["kib"] for share in row["memory_seen"]}


def test_memory_and_cpus_of_processes_are_those_of_the_four_cases(lab):
    told = lab.run(f"homenode tax {TINY} --runs 2 --copies 1,2 --json -o /root/a.json")
    document, rows = documented(told)
    assert set(rows) == {
        (case, copies) for case in ("default", "pinned", "best", "worst") for copies in (1, 2)
    }
    for (case, copies), row in rows.items():
        assert row["left_out"] == []
        assert len(row["figures"]["walk_ns"]["values"]) == 2
        seen = nodes_of(row)
        assert sum(seen.values()) >= copies * 8 << 10
        if case == "default":
            continue
        assert (row["cpus"], row["ran_on"]) == ("0-1", [0])
        wanted = {"pinned": [0, 1, 2, 3], "best": [0], "worst": [FAR]}[case]
        assert row["memory"] == wanted
        assert set(seen) == set(wanted)
        assert max(seen.values()) * 10 <= min(seen.values()) * 11
    assert (document["protocol"]["farthest"], document["protocol"]["distance"]) == (FAR, 22)
    assert document["machine"]["virtual"] is True
    assert lab.get("/root/a.json").decode() == told.stdout
    shown = lab.run("homenode tax --show /root/a.json /root/a.json", check=True).stdout
    assert shown.count("x2 walk, worst") == 1


def test_a_document_names_neither_the_machine_nor_its_user(lab):
    lab.run("hostname secretly-named", check=True)
    told = lab.run(f"homenode tax {TINY} --runs 1 --json", check=True)
    assert "secretly" not in told.stdout
    assert "root" not in told.stdout


@pytest.mark.parametrize(("mask", "home", "cpus"), [("4-5,7", 2, "4-5"), ("7", 3, "7")])
def test_home_is_where_the_process_may_run(lab, mask, home, cpus):
    told = lab.run(f"taskset -c {mask} homenode tax {TINY} --runs 1 --json")
    _, rows = documented(told)
    best = rows["best", 1]
    assert (best["cpus"], best["memory"], best["ran_on"]) == (cpus, [home], [home])
    refused = lab.run(f"taskset -c {mask} homenode tax --node 0 {TINY}")
    assert refused.status == 2
    assert "--node 0: it has no memory, or no cpu that may be used" in refused.stderr


def test_memory_that_a_control_group_keeps_away_is_no_place(lab):
    group = "/sys/fs/cgroup/few"
    script = f"""
    mkdir -p {group} && echo +cpuset >/sys/fs/cgroup/cgroup.subtree_control
    echo 0-1 >{group}/cpuset.mems && echo $$ >{group}/cgroup.procs
    homenode tax {TINY} --runs 1 --json
    """
    _, rows = documented(lab.run(script))
    assert rows["worst", 1]["memory"] == [1]
    assert set(nodes_of(rows["pinned", 1])) == {0, 1}
    alone = lab.run(script.replace("0-1 >", "1 >"))
    assert (alone.status, alone.stderr) == (
        2,
        "homenode: what may be used here has one node with memory: there is nothing to misplace\n",
    )


@pytest.mark.kvm("memonly3")
def test_the_farthest_memory_may_be_of_a_node_without_cpus(lab):
    _, rows = documented(lab.run(f"homenode tax {TINY} --runs 1 --json"))
    assert rows["worst", 1]["memory"] == [2]
    assert set(nodes_of(rows["worst", 1])) == {2}


def test_what_does_not_fit_is_said_before_anything_is_done(lab):
    told = lab.run("homenode tax --size 700MiB")
    assert told.status == 1
    assert "--size and --copies ask for less" in told.stderr
    assert told.stderr.count("\n") == 1


def test_interrupted_it_ends_its_processes(lab):
    told = lab.run(f"timeout -s TERM 15 homenode tax {TINY} --seconds 60 --copies 3", timeout_s=60)
    assert "interrupted" in told.stderr
    assert told.stderr.count("\n") == 1
    assert lab.run("pgrep -f '[h]omenode.tax.worker'").status == 1


CPU_TIME = r"""
look() { virsh -q domstats --cpu-total "$GUEST" | sed -n 's/.*cpu.time=//p'; }
before=$(look); sleep 1; echo "$TAX_CASE $(($(look) - before))"
"""


def put_guest(lab, **options):
    options = {"memory": 64, "vcpus": 2, "rom": "burn"} | options
    lab.put(guests.xml("g", **options).encode(), "/root/g.xml")
    lab.put(CPU_TIME.encode(), "/root/measure")


def nothing_is_left(lab):
    assert lab.run("virsh -q list --all", check=True).stdout.strip() == ""
    assert json.loads(lab.run("homenode claims --json", check=True).stdout)["claims"] == []
    assert lab.run("pgrep qemu-system").status == 1


def test_a_guest_is_measured_in_four_ways_and_nothing_of_it_stays(lab):
    put_guest(lab)
    told = lab.run(
        "homenode tax --guest g.xml --measure 'sh /root/measure' --runs 1 --json",
        timeout_s=400,
    )
    document, rows = documented(told)
    assert document["machine"]["hypervisor"].startswith("QEMU 7.2.")
    assert " by libvirt 9.0." in document["machine"]["hypervisor"]
    wanted = {"pinned": [0, 1, 2, 3], "best": [0], "worst": [FAR]}
    for case, nodes in wanted.items():
        row = rows[case, 1]
        assert (row["left_out"], row["ran_on"]) == ([], [0]), row
        # QEMU fills the memory with threads of its own, page by page of two MiB.
        assert set(nodes_of(row)) == set(nodes)
        assert row["figures"]["figure"]["median"] > 0
    nothing_is_left(lab)


def test_a_guest_that_is_defined_stays_as_it_is(lab):
    put_guest(lab)
    lab.run("virsh -q define g.xml", check=True)
    before = lab.run("virsh dumpxml g", check=True).stdout
    asked = "homenode tax --guest g.xml --measure 'echo $GUEST 1' --runs 1"
    assert "figure" in lab.run(asked, timeout_s=400, check=True).stdout.lower()
    assert lab.run("virsh dumpxml g", check=True).stdout == before
    assert lab.run("virsh -q list --all --name", check=True).stdout.split() == ["g"]


def test_it_refuses_to_measure_beside_guests(lab):
    put_guest(lab)
    lab.run("virsh -q create g.xml", check=True)
    for asked in (f"homenode tax {TINY}", "homenode tax --guest g.xml --measure 'echo 1'"):
        told = lab.run(asked)
        assert told.status == 2
        assert "guests run here (g)" in told.stderr
    documented(lab.run(f"homenode tax {TINY} --runs 1 --beside-guests --json"))
    assert lab.run("virsh -q list --name", check=True).stdout.split() == ["g"]


@pytest.mark.parametrize(
    ("measure", "status", "said"),
    [
        ("echo nothing", 2, "'nothing' is no number above 0"),
        ("exit 7", 2, "the command ended with status 7"),
        ("kill -TERM $PPID; sleep 60", 130, "interrupted"),
    ],
)
def test_nothing_stays_when_it_fails_or_is_interrupted(lab, measure, status, said):
    put_guest(lab)
    lab.put(measure.encode(), "/root/measure")
    told = lab.run("homenode tax --guest g.xml --measure '. /root/measure'", timeout_s=200)
    assert (told.status, told.stderr.count("\n")) == (status, 1), told
    assert said in told.stderr
    nothing_is_left(lab)
