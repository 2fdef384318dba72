"""The doctor in the dom0 of a real Xen: what is wrong with it is found, and nothing else."""

import json
from contextlib import contextmanager

import pytest

AS_NOBODY = (
    "import os; os.setgid(65534); os.setuid(65534);"
    "os.execvp('homenode', ['homenode', 'doctor', '-c', 'xen:///', '--json'])"
)


def found(lab):
    result = lab.run("homenode doctor --json", timeout_s=300)
    assert result.status in (0, 4), result
    findings = json.loads(result.stdout)["findings"]
    assert result.status == (4 if any(one["state"] == "mend" for one in findings) else 0)
    return {one["code"]: one for one in findings}


def states(lab):
    return {code: one["state"] for code, one in found(lab).items() if one["state"] != "fine"}


@contextmanager
def settings_of_xl(lab, text):
    lab.run("cp /etc/xen/xl.conf /root/xl.conf", check=True)
    lab.put(text.encode(), "/etc/xen/xl.conf")
    try:
        yield
    finally:
        lab.run("cp /root/xl.conf /etc/xen/xl.conf", check=True)


def test_a_host_as_it_was_booted_has_nothing_to_mend(lab):
    told = states(lab)
    assert "mend" not in told.values()
    assert {"xen-scheduler", "dom0-everywhere"} <= told.keys()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('autoballoon="on"\n', "xl-autoballoon"),
        ("claim_mode=0\n", "xl-claim-mode"),
        ('vm.cpumask="0-1"\n', "xl-cpumask"),
    ],
)
def test_what_xl_is_told_is_found(lab, text, code):
    with settings_of_xl(lab, text):
        told = found(lab)
    assert [one for one in told if told[one]["state"] == "mend"] == [code]
    assert told[code]["remedy"]


def test_pools_that_cut_through_nodes_and_cpus_without_a_pool_are_found(lab):
    lab.run("xl cpupool-cpu-remove Pool-0 6-7", check=True)
    try:
        assert states(lab)["cpus-without-pool"] == "mend"
        words = """xl cpupool-create 'name="other"' 'cpus=["7"]' && xl cpupool-cpu-add Pool-0 6"""
        lab.run(words, check=True)
        told = states(lab)
        assert told["pool-splits-node"] == "know"
        assert "cpus-without-pool" not in told
    finally:
        lab.run("xl cpupool-destroy other; xl cpupool-cpu-add Pool-0 6-7")


def test_a_guest_that_may_not_run_where_its_memory_is_is_found(lab):
    text = 'name="g"\ntype="pv"\nkernel="/guest/nano"\nmemory=64\nvcpus=1\nnodes="1"\n'
    lab.put(text.encode(), "/root/g.cfg")
    lab.run("homenode create /root/g.cfg", check=True, timeout_s=300)
    try:
        assert "guests-apart" not in states(lab)
        lab.run("xl vcpu-pin g all 6-7", check=True)
        assert states(lab)["guests-apart"] == "mend"
    finally:
        lab.run("homenode destroy g")


def test_who_is_not_root_is_told_so(lab):
    result = lab.run(["python3", "-c", AS_NOBODY], timeout_s=300)
    told = {one["code"]: one for one in json.loads(result.stdout)["findings"]}
    assert result.status == 4
    assert told["no-answer"]["state"] == "mend"
    assert "root" in told["no-answer"]["remedy"]


@pytest.mark.xen(
    "n4", xen_args="numa=fake=2 sched=credit sched-gran=core dom0_vcpus_pin dom0_mem=512M smt=0"
)
def test_a_xen_that_was_booted_with_the_wrong_options_is_found(lab):
    told = states(lab)
    assert [code for code, state in told.items() if state == "mend"] == ["xen-numa"]
    assert {"xen-smt", "dom0-memory", "xen-granularity"} <= told.keys()
    # It is pinned, and to one node; and credit heeds what vcpus prefer.
    assert not {"dom0-everywhere", "xen-scheduler", "xen-run-queues"} & told.keys()
