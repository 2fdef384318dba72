"""Short texts: sets of cpus and nodes, sizes, policies, places, words of a command line."""

import contextlib

from fuzz.oracle import Defect, expect
from fuzz.seeds import argument, chosen, for_each, text
from fuzz.target import Target
from homenode.bitmap import Bitmap, CpuMap, NodeMap, parse_xen, parse_xen_per_vcpu
from homenode.drivers import connect, simulated, ssh, xl
from homenode.drivers.gateway import Output
from homenode.drivers.simulated_load import parse_load
from homenode.errors import HomenodeError, ParseError
from homenode.fleet.policies import fleet_policy, host_policy
from homenode.formats import host_toml
from homenode.formats.xl_cfg import GuestConfig
from homenode.numad import parse as parse_question
from homenode.placement.policies import parse_order, policy
from homenode.rules import wishes
from homenode.simulation import scenario_file
from homenode.simulation.live import what_if
from homenode.units import format_memory, format_page, format_time, parse_memory_kib, parse_time_ns
from homenode.xl_front import Creation, merged, parse_call, parse_creation, placed

CPUS = CpuMap.full(64)
BY_NODE = {node: CpuMap(range(node * 16, node * 16 + 16)) for node in range(4)}
HOST = host_toml.parse("nodes = 4\ncores = 4\nmemory = '4GiB'\nsockets = 2", source="host")
MEMORY_KIB = 4 << 20
_MOST_MEMBERS = 300


def _bitmap(data: bytes) -> None:
    which, rest = chosen(data, 6)
    said = text(rest)
    if which < 3:
        within = CPUS if len(said) % 2 else None
        reader = (CpuMap.parse, CpuMap.parse_mask, CpuMap.parse_libvirt)[which]
        _look_at(reader(said, within=within), within)
    elif which == 3:
        _look_at(NodeMap.parse(said), None)
    elif which == 4:
        found = parse_xen(said, cpus=CPUS, cpus_by_node=BY_NODE)
        _look_at(found, CPUS)
        if found:
            again = parse_xen(str(found), cpus=CPUS, cpus_by_node=BY_NODE)
            expect(again, found, "xl's list")
    else:
        each = parse_xen_per_vcpu(said.split(";"), 3, cpus=CPUS, cpus_by_node=BY_NODE)
        expect(len(each), 3, "maps for three vcpus")


def _look_at(found: Bitmap, within: Bitmap | None) -> None:
    kind = type(found)
    expect(kind.parse(str(found)), found, "a list")
    expect(kind.parse_mask(found.mask()), found, "a mask")
    if len(found) < _MOST_MEMBERS:
        expect(kind(found), found, "the members")
    if found:
        expect(kind.parse_libvirt(str(found)), found, "libvirt's list")
    if within is not None and not found <= within:
        raise Defect(f"{found} has members that are not in {within}")


def _units(data: bytes) -> None:
    which, rest = chosen(data, 3)
    said = text(rest)
    if which == 2:
        ns = parse_time_ns(said)
        expect(parse_time_ns(f"{ns}ns") if ns < 10**18 else ns, ns, "nanoseconds")
        format_time(ns)
        return
    kib = parse_memory_kib(said, bare="M" if which else "")
    expect(parse_memory_kib(f"{kib}KiB") if kib < 10**18 else kib, kib, "KiB")
    format_memory(kib)
    format_page(kib)


def _policies(data: bytes) -> None:
    which, rest = chosen(data, 3)
    said = text(rest)
    if which == 0:
        terms = policy(said).terms
        expect(parse_order(",".join(map(str, terms))), terms, "an order of facts")
    elif which == 1:
        host = host_policy(said)
        if host.terms:
            expect(host_policy(host.order).terms, host.terms, "an order on hosts")
    else:
        both = fleet_policy(said)
        again = fleet_policy(both.name)
        expect((again.host.terms, again.node.terms), (both.host.terms, both.node.terms), both.name)


def _places(data: bytes) -> None:
    """Read what names a host; nothing is connected, and no file is looked for."""
    which, rest = chosen(data, 4)
    said = argument(rest)
    if which == 0:
        destination, port = ssh._parts(said)
        if destination.startswith("-") or not (port == "" or 0 < int(port) < 1 << 16):
            raise Defect(f"ssh is told {destination!r} and {port!r}")
    elif which == 1:
        simulated._parts("sim:" + said)
    elif which == 2:
        parse_load(said)("web", 0, 1.5)
    elif said and not said.startswith(("sim:", "capture:", *_ASKED)):
        connect.driver_for(said)


_ASKED = connect._LIBVIRT
"""The schemes for which libvirt would be asked."""


def _xl_words(data: bytes) -> None:
    words = [argument(word) for word in data.split(b"\n")]
    call = parse_call(words)
    if call is None:
        return
    expect([*call.options, call.command, *call.arguments], words, "the words")
    creation = parse_creation(call.arguments) if call.creates else None
    if creation is not None:
        _read_with_settings(creation)


def _read_with_settings(creation: Creation) -> None:
    config = "name = 'a'"
    whole = merged(config, creation.settings)
    try:
        GuestConfig.parse(whole, source="file")
    except ParseError as error:
        settings = creation.settings
        raise placed(error, source="file", config_text=config, settings=settings) from None


def _xl_said(data: bytes) -> None:
    which, rest = chosen(data, 2)
    said = text(rest)
    line = xl.said_by(Output(1, "", said) if which else Output(1, said, ""))
    if not line or "\n" in line:
        raise Defect(f"not one line: {line!r}")


def _numad(data: bytes) -> None:
    asked = parse_question(argument(data))
    if asked.vcpus < 1:
        raise Defect(f"asked for {asked.vcpus} vcpus")


def _wishes(data: bytes) -> None:
    which, rest = chosen(data, 7)
    said = text(rest)
    if which == 0:
        nodes = wishes.nodes_or_count(said, HOST)
        if isinstance(nodes, NodeMap) and not nodes <= HOST.node_map:
            raise Defect(f"nodes {nodes} are not on the host")
    elif which == 1:
        wishes.listed_nodes(said, HOST)
    elif which == 2:
        wishes.guest_names(said)
    elif which == 3:
        wishes.device_wish(said)
    elif which == 4:
        wishes.near_device(said, HOST, required=True)
    elif which == 5:
        tier = wishes.tier_of(said, MEMORY_KIB)
        if not 0 < tier.kib <= MEMORY_KIB:
            raise Defect(f"{tier} of 4 GiB")
    else:
        wishes.page_size_kib(said, HOST)


def _scenario() -> scenario_file.Scenario:
    guests = "".join(
        f"[[guest]]\nname = '{name}'\nvcpus = 2\nmemory = '1GiB'\n" for name in ("web", "db")
    )
    return scenario_file.parse(
        "duration = '1s'\n" + guests, source="scenario", host_of=lambda _name: HOST
    )


SCENARIO = _scenario()


def _changes(data: bytes) -> None:
    texts = text(data).split("\n")
    for line in texts:
        with contextlib.suppress(HomenodeError):
            scenario_file.scheduler_choice(line)
    changed = what_if(SCENARIO, texts)
    expect(changed.variants[:1], SCENARIO.variants, "what was compared before")


_SETS = (
    "", "0-3,8", "0-31:2/4", "ff,ffffffff", "0-7,^3", "all,^node:1", "nodes:0-1,^5", "0-3,65535",
    "0x3", " 1, 2", "1;all;^0",
)  # fmt: skip
_ORDERS = (
    "balanced", "nodes,distance,-usable~4G", "vcpus_per_core~1/8,nodes", "pack/balanced",
    "-together,empty/nodes,usable~1/8", "spread", "usable~8,usable",
)  # fmt: skip
_HOSTS = (
    "root@host:22", "[fe80::1%eth0]:22", "a?fail=create&load=busy", "b?host=x%20y",
    "web:square/60,0.3", "xen+ssh://root@a.b:22/", "local:///", "xen:///",
)  # fmt: skip
_CALLS = (
    "create\n/a.cfg\nvcpus=2", "-vvv\ncreate\n-f\na.cfg\nname='b'", "cr\n--defconfig=a\n-c",
    "list\n-l", "-N\ncreate\n--quiet\na\nmemory=1;b=2\n--\nx=1",
)  # fmt: skip
_SAID = (
    "libxl: error: libxl_domain.c:76:libxl_domain_info: Domain 7:no such domain\nxl: gone",
    "Parsing config from a.cfg\nxc: error: panic: xc_dom_core.c:1: xc_dom_x: out of memory",
)
_WISHES = (
    "auto", "0-1,^1", "2 nodes", "web, db", "required", "0000:81:00.0", "cxl:2GiB", "any", "2MiB",
    "1G",
)  # fmt: skip
_WHAT_IF = (
    "affinity web 0-1", "hold db 2\nmove web 1", "free web", "without db\nkeeper",
    "scheduler credit2 socket", "scheduler credit 4.18\nfree db", "scheduler ideal",
)  # fmt: skip

TARGETS = (
    Target(
        "bitmap",
        _bitmap,
        ("bitmap",),
        lambda: for_each(6, _SETS),
        "all ^ node: nodes: - , : / 65535 65536 0x ;",
        most_bytes=64,
        share=3,
    ),
    Target(
        "units",
        _units,
        ("units",),
        lambda: for_each(3, ("4GiB", "1.5G", "512", "4096m", "30ms", "1.5 s", "250us", "2min")),
        "KiB MiB GiB T ms us µs ns min .",
        most_bytes=48,
        share=16,
    ),
    Target(
        "policies",
        _policies,
        ("placement.policies", "fleet.policies"),
        lambda: for_each(3, _ORDERS),
        "nodes level distance usable vcpus_per_core hole cores_short balanced first-fit xl pack"
        " preserve spread empty memory wastes ~4G ~1/8 ~8 - , /",
        most_bytes=96,
        share=8,
    ),
    Target(
        "places",
        _places,
        ("drivers.connect", "drivers.ssh", "drivers.simulated", "drivers.simulated_load"),
        lambda: for_each(4, _HOSTS),
        "xen+ssh:// sim: host= load= fail= square/ busy @ [ ] %",
        most_bytes=96,
        share=10,
    ),
    Target(
        "xl_words",
        _xl_words,
        ("xl_front",),
        lambda: [one.encode() for one in _CALLS],
        "create --defconfig --dryrun -f -c = \\n -- vcpus=2 'a' [",
        most_bytes=128,
        share=6,
    ),
    Target(
        "xl_said",
        _xl_said,
        ("drivers.xl",),
        lambda: for_each(2, _SAID),
        "libxl:__error:__ xc:__error:__ panic:__ Domain__1: cannot__ \\n",
        most_bytes=256,
        share=5,
    ),
    Target(
        "numad_question",
        _numad,
        ("numad",),
        lambda: [b"4", b"4:8192", b"0:0"],
        ":",
        most_bytes=24,
        share=12,
    ),
    Target(
        "wishes",
        _wishes,
        ("rules.wishes",),
        lambda: for_each(7, _WISHES),
        "auto nodes node cxl hbm any slow : GiB 0000:00:01.0 ^",
        most_bytes=48,
        share=10,
    ),
    Target(
        "what_if",
        _changes,
        ("simulation.live", "simulation.scenario_file"),
        lambda: [one.encode() for one in _WHAT_IF],
        "affinity hold move free without scheduler keeper web db credit2 credit ideal socket core"
        " all \\n",
        most_bytes=96,
        share=8,
    ),
)
