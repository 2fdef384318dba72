"""A real KVM host as a scenario: what runs on it, and a change."""

import json

import guests


def test_what_runs_on_libvirt_is_simulated_with_its_memory(lab):
    lab.put(guests.xml("web").encode(), "/root/web.xml")
    lab.run("homenode create /root/web.xml", check=True, timeout_s=300)
    # Its guest halts: nothing would be left to simulate.
    asked = "homenode simulate --now --busy 0.5 --duration 2s --seeds 2 --json"
    asked += " --what-if 'hold web 1'"
    told = lab.run(asked, check=True, timeout_s=300)
    assert "not modelled" in told.stderr
    today, changed = json.loads(told.stdout)["variants"]
    assert today["scheduler"] == "ideal"
    for one in (today, changed):
        (web,) = [guest for guest in one["guests"] if guest["name"] == "web"]
        assert 0.5 < web["values"]["cpu_s"]["mean"] < 2.0 * web["vcpus"]
    assert changed["name"] == "hold web 1"
