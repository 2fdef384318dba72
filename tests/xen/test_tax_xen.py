"""``homenode tax`` in a real dom0: where guests lie in the four cases, never how fast they are."""

import json

import pytest

pytestmark = pytest.mark.xen("n4")

FAR = 2  # the first of two nodes that are equally far from node 1, in n4

GUEST = """\
name = "g"
type = "pv"
kernel = "/guest/nano"
extra = "work 2000000 20000000"
memory = 64
vcpus = 1
"""

# Xen's account of how long the guest ran.
CPU_TIME = r"""
look() { xl list "$GUEST" | awk 'END { print $NF }'; }
before=$(look); sleep 1; echo "$TAX_CASE $(look) $before" | awk '{ print $2 - $3 + 0.1 }'
"""


def put_guest(lab, *lines):
    lab.put((GUEST + "".join(f"{line}\n" for line in lines)).encode(), "/root/g.cfg")
    lab.put(CPU_TIME.encode(), "/root/measure")


def nothing_is_left(lab):
    assert len(lab.run("xl list", check=True).stdout.splitlines()) == 2
    assert json.loads(lab.run("homenode claims --json", check=True).stdout)["claims"] == []
    assert lab.run("ls /run/homenode/*.cfg").status != 0


def test_a_guest_is_measured_in_four_ways_and_nothing_of_it_stays(lab):
    put_guest(lab)
    asked = "homenode tax --guest g.cfg --measure '. /root/measure' --node 1 --runs 1 --json"
    told = lab.run(asked, timeout_s=1200)
    assert told.status == 0, told
    document = json.loads(told.stdout)
    rows = {row["case"]: row for row in document["results"]}
    wanted = {"pinned": [0, 1, 2, 3], "best": [1], "worst": [FAR]}
    for case, nodes in wanted.items():
        row = rows[case]
        assert (row["left_out"], row["ran_on"], row["memory"]) == ([], [1], nodes), row
        assert {share["node"] for share in row["memory_seen"]} == set(nodes)
        assert row["figures"]["figure"]["median"] > 0
    assert rows["default"]["memory_seen"]
    assert document["machine"]["hypervisor"].startswith("Xen")
    assert len(document["machine"]["nodes"]) == 4
    nothing_is_left(lab)


def test_dom0_s_own_processes_measure_nothing(lab):
    told = lab.run("homenode tax")
    assert (told.status, told.stderr.count("\n")) == (2, 1)
    assert "--guest FILE --measure COMMAND" in told.stderr


def test_a_guest_whose_file_says_where_it_is_to_be_is_refused(lab):
    put_guest(lab, 'cpus = "2-3"')
    told = lab.run("homenode tax --guest g.cfg --measure 'echo 1'")
    assert (told.status, told.stderr.count("\n")) == (2, 1)
    assert "says where it is to be" in told.stderr


def test_it_refuses_to_measure_beside_guests(lab):
    put_guest(lab)
    lab.run("xl create g.cfg", check=True, timeout_s=300)
    told = lab.run("homenode tax --guest g.cfg --measure 'echo 1'")
    assert told.status == 2
    assert "guests run here (g)" in told.stderr


@pytest.mark.parametrize(
    ("measure", "status", "said"),
    [
        ("exit 7", 2, "the command ended with status 7"),
        ("kill -TERM $PPID; sleep 60", 130, "interrupted"),
    ],
)
def test_nothing_stays_when_it_fails_or_is_interrupted(lab, measure, status, said):
    put_guest(lab)
    lab.put(measure.encode(), "/root/measure")
    told = lab.run("homenode tax --guest g.cfg --measure '. /root/measure'", timeout_s=300)
    assert (told.status, told.stderr.count("\n")) == (status, 1), told
    assert said in told.stderr
    nothing_is_left(lab)
