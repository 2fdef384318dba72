"""A host behind ssh: libvirt's own transport, and homenode's ledger over there."""

import json
import os
import subprocess
import sys

import guests
import pytest
from kvmlab import Lab

pytest.importorskip("libvirt", reason="the binding of libvirt is not installed")


@pytest.fixture
def homenode(lab):
    """Return a way to run homenode here, on the lab over there."""
    uri = f"qemu+ssh://{lab.name}/system?command={Lab.ssh}"
    environment = {**os.environ, "HOMENODE_URI": uri, "HOMENODE_SSH_COMMAND": Lab.ssh}

    def run(*words):
        return subprocess.run(
            [sys.executable, "-m", "homenode.cli.main", *words],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=300,
        )

    return run


def test_guests_are_created_over_there_and_their_memory_stays_unknown(lab, homenode, tmp_path):
    file = tmp_path / "g.xml"
    file.write_text(guests.xml("g", memory=100, vcpus=2))
    made = homenode("create", str(file))
    assert made.returncode == 0, made.stderr
    assert "where its memory is, nobody says" in made.stdout
    (guest,) = json.loads(homenode("list", "--json", "--sample", "0").stdout)["guests"]
    assert guest["memory"] is None
    assert len(guest["node_affinity"]) == 1
    # What is promised is written down there.
    assert '"g"' in lab.run("cat /run/homenode/ledger.json", check=True).stdout
    moved = homenode("affinity", "g", "1")
    assert moved.returncode == 2
    assert "on its own host only" in moved.stderr
    other = (guest["node_affinity"][0] + 1) % 4
    assert homenode("affinity", "g", str(other), "--stay").returncode == 0
    pins = lab.run("virsh -q vcpupin g", check=True).stdout.split()
    assert pins[1] == f"{2 * other}-{2 * other + 1}"


def test_what_guests_have_is_not_counted_twice(lab, homenode):
    lab.put(guests.xml("g", memory=700).encode(), "/root/g.xml")
    bound = guests.xml("g", memory=700, numatune="<memory mode='strict' nodeset='2'/>")
    lab.put(bound.encode(), "/root/g.xml")
    lab.run("virsh -q create g.xml", check=True)
    host = json.loads(homenode("topology", "--json").stdout)["host"]
    node = next(node for node in host["nodes"] if node["id"] == 2)
    assert node["free_kib"] > 150 << 10
    assert node["committed_kib"] > 700 << 10
    assert node.get("touched_kib") is None


def test_a_host_that_is_not_there_is_told_of_in_one_line():
    uri = f"qemu+ssh://nowhere/system?command={Lab.ssh}"
    done = subprocess.run(
        [sys.executable, "-m", "homenode.cli.main", "list", "-c", uri],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOMENODE_SSH_COMMAND": Lab.ssh},
    )
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
