"""What the doctor says of a Xen host, by what xl said on real ones and by what its manual says."""

from pathlib import Path

import pytest

from homenode.bitmap import CpuMap
from homenode.doctor import Patient, XenFacts, examine
from homenode.drivers.capture import CaptureDriver
from homenode.drivers.xen_facts import xen_facts_of
from homenode.formats import xl_conf
from homenode.guest import Guest, Vcpu
from homenode.host import Cpu, Cpupool, Host, Node, Reservation
from homenode.rules.xen import UNSCRUBBED

CAPTURES = Path(__file__).parent / "data/xen-captures"
OPTIONS = "dom0_mem=4G,max:4G dom0_max_vcpus=4"


def host(nodes=2, pools=(), **changes):
    cpus = [
        Cpu(number, number // 2, core=number, socket=number // 4) for number in range(2 * nodes)
    ]
    made = [Node(number, present_kib=1 << 20, free_kib=1 << 19) for number in range(nodes)]
    whole = (Cpupool("Pool-0", CpuMap(range(2 * nodes)), "credit"),)
    return Host(**{"cpus": cpus, "nodes": made, "pools": pools or whole, **changes})


def dom0(cpus="0-1", vcpus=2):
    masks = CpuMap.parse(cpus)
    return Guest("Domain-0", tuple(Vcpu(at, masks, masks) for at in range(vcpus)), id=0)


def facts(options="", **changes):
    healthy = XenFacts(
        command_line=f"{OPTIONS} {options}",
        version="4.17.5",
        tools=frozenset({"4.17"}),
        scheduler="credit",
        claimed_kib=0,
    )
    return healthy._replace(**changes)


def told(xen, on=None, guests=None):
    guests = (dom0(),) if guests is None else guests
    found = examine(Patient(on or host(), guests, xen=xen))
    return {one.code: one for one in found if one.state != "fine"}


def test_a_host_that_is_set_up_well_has_nothing_to_know():
    assert told(facts()) == {}


@pytest.mark.parametrize(
    ("options", "code", "state"),
    [
        ("numa=off", "xen-numa", "mend"),
        ("numa=fake=4", "xen-numa", "mend"),
        ("no-numa", "xen-numa", "mend"),
        ("smt=0", "xen-smt", "know"),
        ("no-smt", "xen-smt", "know"),
        ("sched-gran=core", "xen-granularity", "know"),
        ("dom0_mem=4G", "dom0-memory", "know"),
    ],
)
def test_each_option_of_xen_is_found_alone(options, code, state):
    found = told(facts(options))
    assert {code: one.state for code, one in found.items()} == {code: state}
    assert found[code].remedy


@pytest.mark.parametrize("options", ["numa=on", "smt=1", "sched-gran=cpu", "sched=credit numa"])
def test_options_that_do_no_harm_are_fine(options):
    assert told(facts(options)) == {}


def test_the_last_word_counts():
    assert told(facts("numa=off numa=on")) == {}
    assert "xen-numa" in told(facts("numa=on numa=off"))


def test_a_dom0_without_a_size_has_all_memory():
    bare = facts(command_line="console=com1")
    assert told(bare)["dom0-memory"].state == "mend"
    # xl then takes it from dom0, if it may.
    assert "xl-autoballoon" not in told(bare)
    assert told(bare._replace(conf={"autoballoon": "off"}))["xl-autoballoon"].state == "mend"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('autoballoon="on"', "xl-autoballoon"),
        ("autoballoon = 1", "xl-autoballoon"),
        ("claim_mode=0", "xl-claim-mode"),
        ('vm.cpumask="0-1"', "xl-cpumask"),
        ('vm.hvm.cpumask = "0-1" # none but these', "xl-cpumask"),
    ],
)
def test_each_setting_of_xl_is_found_alone(text, code):
    found = told(facts(conf=xl_conf.parse(f"# {text}\nlockfile='/var/lock/xl'\n{text}\n")))
    assert list(found) == [code]
    assert found[code].state == "mend"
    assert told(facts(conf=xl_conf.parse(f"#{text}\n"))) == {}


def test_tools_of_another_version_are_found():
    assert told(facts(tools=frozenset({"4.20"})))["xen-versions"].state == "mend"
    assert told(facts(tools=frozenset({"4.17", "4.20"}))) == {}
    # 4.1 is not 4.17.
    assert "xen-versions" in told(facts(tools=frozenset({"4.1"})))


@pytest.mark.parametrize(
    ("scheduler", "option", "codes"),
    [
        ("credit2", "", {"xen-scheduler", "xen-run-queues"}),
        ("credit2", "credit2_runqueue=node", {"xen-scheduler"}),
        ("credit2", "credit2_runqueue=all", set()),
        ("credit", "", set()),
        ("null", "", {"xen-scheduler"}),
    ],
)
def test_the_scheduler_and_its_run_queues_are_told(scheduler, option, codes):
    # Two nodes of one socket, so a queue for each socket spans them.
    pools = (Cpupool("Pool-0", CpuMap(range(4)), scheduler),)
    found = told(facts(option, scheduler=scheduler), host(pools=pools))
    assert {code for code, one in found.items() if one.state == "know"} == codes


def test_a_queue_for_each_socket_is_fine_where_a_socket_is_a_node():
    cpus = [Cpu(number, number // 2, core=number, socket=number // 2) for number in range(4)]
    pools = (Cpupool("Pool-0", CpuMap(range(4)), "credit2"),)
    found = told(facts(scheduler="credit2"), host(pools=pools, cpus=cpus))
    assert list(found) == ["xen-scheduler"]


def test_a_dom0_on_all_nodes_is_found_and_one_whose_size_is_meant_is_told():
    everywhere = (dom0("0-3", 4),)
    assert told(facts(), guests=everywhere)["dom0-everywhere"].state == "know"
    unsized = facts(command_line="dom0_mem=4G,max:4G")
    assert told(unsized, guests=everywhere)["dom0-everywhere"].state == "mend"


def test_a_pinned_dom0_is_told_if_guests_may_be_on_its_cpus():
    cpus = CpuMap.parse("1-2")
    beside = Guest("web", (Vcpu(0, cpus, cpus),), id=1)
    assert list(told(facts("dom0_vcpus_pin"), guests=(dom0(), beside))) == ["dom0-pinned"]
    away = beside._replace(vcpus=(Vcpu(0, CpuMap([2]), CpuMap([2])),))
    assert told(facts("dom0_vcpus_pin"), guests=(dom0(), away)) == {}


def test_pools_that_cut_through_nodes_and_cpus_without_a_pool_are_found():
    one, other = Cpupool("Pool-0", CpuMap([0, 1, 2]), "credit"), CpuMap([3])
    cut = host(pools=(one, Cpupool("other", other, "credit")))
    assert list(told(facts(), cut)) == ["pool-splits-node"]
    assert list(told(facts(), host(pools=(one,)))) == ["cpus-without-pool"]
    whole = (Cpupool("Pool-0", CpuMap([0, 1]), "credit"), Cpupool("b", CpuMap([2, 3]), "credit"))
    assert told(facts(), host(pools=whole)) == {}


def test_more_nodes_than_xl_places_on_are_told():
    assert "xl-many-nodes" not in told(facts(), host(16))
    assert told(facts(), host(17))["xl-many-nodes"].state == "know"


def test_claims_and_unscrubbed_memory_are_told():
    assert "1024 MiB" in told(facts(claimed_kib=1 << 20))["xen-claims"].text
    dirty = Node(
        1, present_kib=1 << 20, free_kib=1 << 20, reserved=(Reservation(2048, UNSCRUBBED),)
    )
    found = told(facts(), _with(dirty))
    assert "node 1" in found["unscrubbed"].text


def _with(node):
    made = host()
    return made.replace(nodes=[made.nodes[0], node])


def test_xl_that_cannot_be_asked_is_what_is_wrong():
    found = examine(Patient(xen=XenFacts(), refusal="xl list: denied; xl is for root, in a dom0"))
    (first,) = (one for one in found if one.state == "mend")
    assert (first.code, first.remedy) == ("no-answer", "xl is for root, in a dom0")
    assert {one.code for one in found if one.state == "unknown"} >= {"xen-numa", "xen-versions"}


# --- what real hosts said ---

LIBRARIES = "/usr/lib/x86_64-linux-gnu/libxenlight.so.4.17\n/usr/lib/libxenlight.so.4.17.0\n"


def of_capture(name, conf=""):
    text = (CAPTURES.parent / "doctor" / name).read_text()
    return xen_facts_of(text, xl_conf.parse(conf), libraries=LIBRARIES, locks="")


def test_what_a_real_xen_says_is_read():
    seen = of_capture("xen-4.17.txt")
    assert (seen.version, seen.tools, seen.scheduler) == ("4.17.5", {"4.17"}, "credit2")
    assert seen.claimed_kib == 0
    assert seen.option("dom0_mem") == "512M,max:512M"
    host_, guests = CaptureDriver(str(CAPTURES / "n4/empty")).snapshot()
    found = told(seen, host_, guests)
    assert {code for code, one in found.items() if one.state == "mend"} == set()
    assert found["xen-scheduler"].state == "know"


def test_a_real_xen_that_was_booted_with_the_wrong_options_is_found():
    found = told(of_capture("xen-4.17-booted-wrongly.txt"))
    assert {code: one.state for code, one in found.items()} == {
        "xen-numa": "mend", "xen-smt": "know", "dom0-memory": "know", "xen-granularity": "know",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "process"),
    [
        ("", None),
        ("1: POSIX  ADVISORY  WRITE 3568 00:1a:77 0 EOF", 3568),
        ("1: POSIX  ADVISORY  WRITE 3568 00:1a:78 0 EOF", None),
        ("1: -> POSIX  ADVISORY  WRITE 7 00:1a:77 0 EOF", None),
    ],
)
def test_who_has_the_lock_of_xl_is_read_from_what_the_kernel_says(line, process):
    seen = xen_facts_of("", {}, libraries="", locks=f"77\n{line}\n")
    assert seen.xl_held_by == process
    assert ("xl-lock" in told(facts(xl_held_by=process))) == (process is not None)
