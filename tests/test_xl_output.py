"""What xl 4.17 said on a real host when it failed, and what is left of it for people to read."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.drivers.gateway import LocalGateway, Output
from homenode.drivers.xl import Xl, said_by

IN_VAIN = """\
libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain 62:cannot (re-)build domain: -3
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 62:Non-existant domain
libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 62:Unable to destroy guest
libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain 62:Destruction of domain failed
"""
NO_HANDLE = """\
xencall: error: Could not obtain handle on privileged command interface: {0}
libxl: error: libxl.c:102:libxl_ctx_alloc: cannot open libxc handle: {0}
cannot init xl context
"""
RESTORE = """\
Loading new save file lb.sav (new xl fmt info 0x3/0x0/1065)
 Savefile contains xl domain config in JSON format
Parsing config from <saved>
xc: info: Found x86 PV domain from Xen 4.17
xc: info: Restoring domain
xc: error: Failed to populate physmap (16 = Device or resource busy): Internal error
xc: error: Failed to populate pfns for batch of 1024 pages: Internal error
xc: error: Restore failed (16 = Device or resource busy): Internal error
libxl: error: libxl_stream_read.c:850:libxl__xc_domain_restore_done: restoring domain: Device or \
resource busy
"""

REAL = {
    "a name in use": (
        """\
Parsing config from a.cfg
libxl: error: libxl_domain.c:81:libxl__domain_rename: Domain 60:Domain with name "a" already exists.
libxl: error: libxl_create.c:1296:initiate_domain_create: Domain 60:cannot make domain: -6
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 60:Non-existant domain
libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 60:Unable to destroy guest
libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain 60:Destruction of domain failed
""",
        'Domain with name "a" already exists',
    ),
    "too little memory": (
        """\
Parsing config from b.cfg
libxl: notice: libxl_numa.c:518:libxl__get_numa_candidate: NUMA placement failed, performance \
might be affected
xc: error: panic: xg_dom_boot.c:119: xc_dom_boot_mem_init: can't allocate low memory for domain: \
Out of memory
libxl: error: libxl_dom.c:586:libxl__build_dom: xc_dom_boot_mem_init failed: Cannot allocate memory
"""
        + IN_VAIN,
        "can't allocate low memory for domain: Out of memory",
    ),
    "dom0 gives up no more": (
        "Parsing config from b.cfg\nfailed to free memory for the domain\n",
        "failed to free memory for the domain",
    ),
    "no kernel": (
        """\
Parsing config from b.cfg
xc: error: panic: xg_dom_core.c:205: failed to open file '/guest/nosuch': No such file or \
directory: Internal error
libxl: error: libxl_dom.c:646:libxl__build_pv: xc_dom_kernel_file failed: No such file or directory
"""
        + IN_VAIN,
        "failed to open file '/guest/nosuch': No such file or directory",
    ),
    "a config that cannot be read": (
        """\
Parsing config from b.cfg
b.cfg:6: config parsing error near `"node:1': lexical error
Failed to parse config: Invalid argument
""",
        (
            "b.cfg:6: config parsing error near `\"node:1': lexical error;"
            " Failed to parse config: Invalid argument"
        ),
    ),
    "a config that warns first": (
        """\
Parsing config from c.cfg
c.cfg:5: warning: parameter `name' is a list but should be a single value
Domain name must be specified.
""",
        (
            "c.cfg:5: warning: parameter `name' is a list but should be a single value;"
            " Domain name must be specified"
        ),
    ),
    "no such cpupool": (
        """\
Parsing config from b.cfg
libxl: error: libxl_create.c:1134:libxl__domain_config_setdefault: Illegal pool specified: nosuch
""",
        "Illegal pool specified: nosuch",
    ),
    "no such cpu": (
        "Parsing config from b.cfg\nvcpu hard affinity map is empty\n",
        "vcpu hard affinity map is empty",
    ),
    "cpus outside of the cpupool": (
        """\
Parsing config from b.cfg
libxl: error: libxl_sched.c:62:libxl__set_vcpuaffinity: Domain 68:Setting vcpu affinity: Invalid \
argument
libxl: error: libxl_dom.c:350:libxl__build_pre: setting affinity failed on vcpu `0'
"""
        + IN_VAIN,
        "Setting vcpu affinity: Invalid argument; setting affinity failed on vcpu `0'",
    ),
    "all vcpus pinned outside of the cpupool": (
        """\
libxl: error: libxl_sched.c:62:libxl__set_vcpuaffinity: Domain 59:Setting vcpu affinity: Invalid \
argument
libxl: warning: libxl_sched.c:124:libxl_set_vcpuaffinity_all: Domain 59:Failed to set affinity for 0
libxl: error: libxl_sched.c:62:libxl__set_vcpuaffinity: Domain 59:Setting vcpu affinity: Invalid \
argument
libxl: warning: libxl_sched.c:124:libxl_set_vcpuaffinity_all: Domain 59:Failed to set affinity for 1
Could not set affinity.
""",
        "Setting vcpu affinity: Invalid argument; Could not set affinity",
    ),
    "a vcpu that is not there": (
        """\
libxl: error: libxl_sched.c:62:libxl__set_vcpuaffinity: Domain 59:Setting vcpu affinity: Invalid \
argument
Could not set affinity for vcpu `7'.
""",
        "Setting vcpu affinity: Invalid argument; Could not set affinity for vcpu `7'",
    ),
    "a guest that is not there": (
        """\
libxl: error: libxl_domain.c:1183:libxl__destroy_domid: Domain 999:Non-existant domain
libxl: error: libxl_domain.c:1137:domain_destroy_callback: Domain 999:Unable to destroy guest
libxl: error: libxl_domain.c:1064:domain_destroy_cb: Domain 999:Destruction of domain failed
destroy failed (rc=-21)
""",
        "Non-existant domain; destroy failed (rc=-21)",
    ),
    "a name that is nobody's": (
        "nosuch is an invalid domain identifier (rc=-6)\n",
        "nosuch is an invalid domain identifier (rc=-6)",
    ),
    "a guest that dies while it is listed": (
        (
            "libxl: error: libxl_domain.c:2335:retrieve_domain_configuration_lock_acquired: Domain"
            " 40:Fail to get domain configuration\n"
        ),
        "Fail to get domain configuration",
    ),
    "no config": (
        "Failed to read config file: /root/nosuchfile.cfg: No such file or directory\n",
        "Failed to read config file: /root/nosuchfile.cfg: No such file or directory",
    ),
    "an xl without this command": ("command not implemented\n", "command not implemented"),
    "not root": (
        NO_HANDLE.format("Permission denied"),
        "Could not obtain handle on privileged command interface: Permission denied",
    ),
    "no Xen": (
        NO_HANDLE.format("No such file or directory"),
        "Could not obtain handle on privileged command interface: No such file or directory",
    ),
    "no Xen, as Debian's wrapper says": (
        "ERROR:  Can't find hypervisor information in sysfs!\n",
        "Can't find hypervisor information in sysfs!",
    ),
    "a disk that is full": (
        """\
Saving to c.sav new xl format (info 0x3/0x0/1065)
xc: info: Saving domain 32, type x86 PV
xc: progress: Frames: 4096/40960   10%
xc: error: Failed to write page data to stream (28 = No space left on device): Internal error
xc: error: Save failed (28 = No space left on device): Internal error
libxl: error: libxl_stream_write.c:347:libxl__xc_domain_save_done: Domain 32:saving domain: domain \
responded to suspend request: No space left on device
Failed to save domain, resuming domain
""",
        (
            "Failed to write page data to stream (28 = No space left on device);"
            " Save failed (28 = No space left on device);"
            " saving domain: domain responded to suspend request: No space left on device;"
            " Failed to save domain, resuming domain"
        ),
    ),
    "no memory to restore it": (
        RESTORE + IN_VAIN,
        (
            "Failed to populate physmap (16 = Device or resource busy);"
            " Failed to populate pfns for batch of 1024 pages;"
            " Restore failed (16 = Device or resource busy);"
            " restoring domain: Device or resource busy"
        ),
    ),
    "a receiver that is gone": (
        """\
libxl: error: libxl_utils.c:505:libxl_read_exactly: file/stream truncated reading banner from \
migration receiver stream
libxl: info: libxl_exec.c:117:libxl_report_child_exitstatus: migration transport process [997] \
exited with error status 1
""",
        "file/stream truncated reading banner from migration receiver stream",
    ),
}


@pytest.mark.parametrize(("said", "read"), REAL.values(), ids=REAL)
def test_what_xl_said_is_one_line_that_leads_with_the_cause(said, read):
    assert said_by(Output(1, "", said)) == read


def test_what_failed_behind_it_comes_after_the_cause_as_far_as_there_is_room():
    migrated = """\
migration target: Ready to receive domain.
Saving to migration stream new xl format (info 0x3/0x0/927)
Loading new save file <incoming migration stream> (new xl fmt info 0x3/0x0/927)
xc: info: Saving domain 34, type x86 PV
xc: error: Failed to populate physmap (16 = Device or resource busy): Internal error
migration target: Domain creation failed (code -3).
libxl: error: libxl_exec.c:127:libxl_report_child_exitstatus: domain 34 save/restore helper [963] \
died due to fatal signal Broken pipe
migration sender: libxl_domain_suspend failed (rc=-3)
Migration failed, resuming at sender.
"""
    said = said_by(Output(1, "", migrated))
    assert said.startswith("Failed to populate physmap (16 = Device or resource busy); migration")
    assert "Ready to receive" not in said
    assert len(said_by(Output(1, "", migrated.replace("helper", "helper" * 1000)))) <= 300


def test_a_table_that_was_begun_is_no_message():
    heading = "Name                                ID  VCPU   CPU State   Time(s) Affinity\n"
    said = said_by(Output(1, heading, "nosuch is an invalid domain identifier (rc=-6)\n"))
    assert said == "nosuch is an invalid domain identifier (rc=-6)"


def test_who_says_something_on_the_wrong_stream_or_nothing_is_heard_all_the_same():
    assert said_by(Output(1, "Usage: xl list\n", "")) == "Usage: xl list"
    assert "status 143" in said_by(Output(143, "", ""))
    only_a_notice = "libxl: notice: libxl_numa.c:518:f: NUMA placement failed\n"
    assert said_by(Output(1, "", only_a_notice)) == "NUMA placement failed"


@pytest.mark.parametrize("case", ["not root", "no Xen", "no Xen, as Debian's wrapper says"])
def test_where_xl_cannot_reach_xen_it_is_said_who_and_where_can(case):
    refusal = Xl(LocalGateway()).refusal(["list"], Output(1, "", REAL[case][0]))
    assert str(refusal).startswith(f"xl list: {REAL[case][1]}; ")
    assert "root" in refusal.hint
    assert "dom0" in refusal.hint


def test_a_refusal_by_xen_itself_has_no_such_hint():
    refusal = Xl(LocalGateway()).refusal(["create"], Output(1, "", REAL["too little memory"][0]))
    assert refusal.hint is None


noise = re.compile(r"\b\w+\.c:\d|^\w+: (error|notice|info)|Domain \d+:|\n")


@given(st.lists(st.sampled_from(list(REAL.values())), min_size=1, max_size=3), st.integers(0, 255))
def test_no_mixture_of_messages_lets_the_noise_through(several, status):
    said = said_by(Output(status, "", "".join(text for text, _ in several)))
    assert 0 < len(said) <= 300
    assert not noise.search(said)


@given(st.text(), st.text())
def test_whatever_is_printed_becomes_one_line(stdout, stderr):
    said = said_by(Output(1, stdout, stderr))
    assert said
    assert len(said.splitlines()) == 1
