"""A real Xen as a scenario: what runs on it, and a change."""

import json

import pytest

pytestmark = pytest.mark.xen("n4")

BUSY = """\
name = "busy"
type = "pv"
kernel = "/guest/nano"
extra = "work 1000000000000000 0"
memory = 64
vcpus = 2
cpus = ["2", "3"]
"""


def test_what_runs_on_xen_is_simulated_with_its_masks_memory_and_load(lab):
    lab.put(BUSY.encode(), "/root/busy.cfg")
    lab.run("xl create /root/busy.cfg", check=True, timeout_s=300)
    asked = "homenode simulate --now --duration 1s --seeds 2 --json --what-if 'hold busy 3'"
    told = lab.run(asked, check=True, timeout_s=300)
    document = json.loads(told.stdout)
    today, changed = document["variants"]
    assert today["scheduler"] == "credit2 socket"
    busy, moved = (
        next(guest for guest in one["guests"] if guest["name"] == "busy")["values"]
        for one in (today, changed)
    )
    # Held to cpus of node 1, which its memory followed. Domain-0 may be as busy as it likes: by
    # their weights half of the two cpus is left, at the least.
    assert 1.0 < busy["cpu_s"]["mean"] < 2.01
    assert busy["locality"]["mean"] == pytest.approx(1.0, abs=0.01)
    assert moved["locality"]["mean"] < 0.5
    assert "Domain-0" in [guest["name"] for guest in today["guests"]]
