"""A real Xen beside a simulated host: which of the two, and which nodes there."""

import json

import pytest

pytestmark = pytest.mark.xen("n4")

GUEST = """\
name = "{name}"
type = "pv"
kernel = "/guest/nano"
extra = "work 1 0"
memory = {memory}
vcpus = 1
"""


def test_a_guest_is_placed_on_xen_or_beside_it(lab):
    lab.put(GUEST.format(name="there", memory=64).encode(), "/root/there.cfg")
    lab.put(GUEST.format(name="new", memory=64).encode(), "/root/new.cfg")
    lab.put(GUEST.format(name="huge", memory=20000).encode(), "/root/huge.cfg")
    lab.put(b'nodes = 2\ncores = 2\nmemory = "8GiB"\n', "/root/host.toml")
    lab.run("homenode create /root/there.cfg", check=True, timeout_s=300)
    hosts = "-c xen:/// -c 'sim:beside?host=/root/host.toml'"

    def placed(options, status=0):
        told = lab.run(f"homenode {hosts} place --json {options}", timeout_s=300)
        assert told.status == status, told.stderr
        return json.loads(told.stdout)

    beside = placed("--with there /root/new.cfg")
    assert (beside["fits"], beside["host"]) == (True, "xen:///")
    assert len(beside["decision"]["nodes"]) == 1
    apart = placed("--not-with there /root/new.cfg")
    assert apart["host"].startswith("sim:beside")
    refused = placed("/root/huge.cfg", 1)
    assert {one["host"] for one in refused["rejected"]} == {"xen:///", apart["host"]}
