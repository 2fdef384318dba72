"""What xl and Xen print, what a trace of Xen holds, and guests' config files."""

import struct

from fuzz import seeds
from fuzz.oracle import Defect, expect
from fuzz.saved import expect_saved
from fuzz.seeds import chosen, for_reader, parted, text
from fuzz.target import Target
from homenode.asking import ask, handed_over
from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers import xen_snapshot
from homenode.formats import host_toml, xen_debug_keys, xentrace, xl_cfg, xl_conf, xl_info, xl_list
from homenode.formats.xl_cfg import GuestConfig
from homenode.placement import Decision, View, place

CAPTURES = seeds.RECORDED / "xen-captures"
HOST = host_toml.parse(
    "name = 'x'\nhypervisor = 'Xen 4.17'\nnodes = 4\ncores = 4\nthreads_per_core = 2\n"
    "memory = '4GiB'\nsockets = 2",
    source="host",
)
CPUS = CpuMap.full(64)
SETTINGS = (
    "name memory maxmem vcpus maxvcpus cpus cpus_soft nodes nodes_policy vnuma pnode=0 size=512"
    " vcpus=0-1 vdistances=10,20 pool pci type pvh hvm builder uuid nodes_exclude virtual_nodes"
    " nodes_tier all,^node:1 [ ] += ; \" ' \\\\x41 \\n"
)
_OURS = frozenset(
    ("uuid", "nodes", "cpus", "cpus_soft", "vnuma", "virtual_nodes", "nodes_tier")
)  # fmt: skip
"""What a decision changes in a config."""


def _settings_of_xl(data: bytes) -> None:
    told = xl_conf.parse(text(data))
    if any(not key.strip() or key != key.strip() for key in told):
        raise Defect(f"a key that is none: {told}")


def _config(data: bytes) -> None:
    said = text(data)
    config = GuestConfig.parse(said, source="guest.cfg")
    expect(config.edited({}), said, "a config without a change")
    kind = len(said) % 4
    if kind == 3:
        whole = GuestConfig.parse(xl_cfg.render(config.values))
        expect(whole.values, config.values, "settings written and read again")
        return
    value = ("7", ("0", "1"), None)[kind]
    name = next(iter(config.values), "nodes")
    changed = GuestConfig.parse(config.edited({name: value}))
    wanted = {**config.values, name: value}
    if value is None:
        del wanted[name]
    expect(dict(changed.values), wanted, f"the config with another {name}")


def _placed(data: bytes) -> None:
    """Read a config, decide, write the decision and read it again."""
    config = GuestConfig.parse(text(data), source="guest.cfg")
    asked = ask(config, HOST)
    decision = place(View(HOST, ()), asked.request, asked.policy)
    written = handed_over(config, asked.request, decision, HOST)
    if not decision.fits:
        expect(written, config.text, "the config of a guest that does not fit")
        return
    again = GuestConfig.parse(written, source="written")
    for name in config.values.keys() - _OURS:
        expect(again.values.get(name), config.values[name], f"{name}, which is none of ours,")
    later = ask(again, HOST).request
    expect(later.vcpus, asked.request.vcpus, "vcpus")
    expect(later.memory_kib, asked.request.memory_kib, "memory")
    if decision.nodes and later.explicit is None:
        raise Defect("the written config leaves the nodes open")
    if "nodes" in again and decision.nodes:
        expect(later.explicit.nodes, decision.nodes, "the nodes that were decided on")
    if len(data) % 3 == 0:
        decided = place(View(HOST, ()), later, asked.policy)
        expect(where(decided), where(decision), "what was decided on")


def where(decision: Decision) -> tuple[object, ...]:
    """Return what a decision is about: how much memory comes from each node.

    Its cpu nodes may be fewer when it is read again: a virtual node without vcpus has some at
    first, and masks keep vcpus from them afterwards.
    """
    return decision.fits, *((share.node, share.kib) for share in decision.memory)


def _info(data: bytes) -> None:
    info = xl_info.parse(text(data))
    expect(len(info.distances), len(info.nodes), "rows of distances")


def _list(data: bytes) -> None:
    which, rest = chosen(data, 5)
    said = text(rest)
    if which == 0:
        xl_list.parse_list(said, nodes=NodeMap.full(4))
    elif which == 1:
        xl_list.parse_vcpu_list(said, cpus=CPUS)
    elif which == 2:
        xl_list.parse_running(said)
    elif which == 3:
        xl_list.parse_cpupool_cpus(said)
    else:
        xl_list.parse_cpupools(said)


def _list_json(data: bytes) -> None:
    xl_list.parse_configured(text(data))


def _debug_keys(data: bytes) -> None:
    which, rest = chosen(data, 4)
    said = text(rest)
    if which == 0:
        xen_debug_keys.parse_numa(said)
    elif which == 1:
        xen_debug_keys.parse_heap(said)
    elif which == 2:
        xen_debug_keys.parse_unscrubbed(said)
    else:
        xen_debug_keys.dumped_at(said, "Dumping")


def _host(data: bytes) -> None:
    seen = xen_snapshot.snapshot_of(parted(data), source="x")
    expect_saved(seen.host, seen.guests, data=data)


def _trace(data: bytes) -> None:
    for record in xentrace.parse(data, mhz=1000):
        expect(bool(record.name), wanted=True, what="whether a record has a name")
        expect(len(record.numbers) >= 0, wanted=True, what="whether it has numbers")
        xentrace.run_state_change(record)


def configs() -> list[bytes]:
    """Return guests' config files."""
    folders = (CAPTURES, seeds.EXAMPLES, seeds.OTHERS / "xen-captures")
    return [one for folder in folders for one in seeds.files(folder, "*.cfg")] + seeds.own("xl_cfg")


def _lists() -> list[bytes]:
    names = (
        "xl-list-n.txt", "xl-vcpu-list.txt", "xl-vcpu-list.txt", "xl-cpupool-list-c.txt",
        "xl-cpupool-list.txt",
    )  # fmt: skip
    return [
        for_reader(reader, len(names), found)
        for reader, name in enumerate(names)
        for found in seeds.files(CAPTURES, name)
    ]


def hosts() -> list[bytes]:
    """Return what was saved of Xen hosts: all of a host's files as one input."""
    found = []
    for path in sorted(CAPTURES.rglob("xl-info-n.txt")):
        there = {name: path.parent / name for name in xen_snapshot.OUTPUTS}
        # JSON has a target of its own, and would be most of this.
        parts = {
            name: file.read_text()
            for name, file in there.items()
            if file.is_file() and file.suffix != ".json"
        }
        found.append(seeds.joined(parts))
    return seeds.own("xen_host") + [one for one in found if len(one) <= 12_000]


def _debug_key_seeds() -> list[bytes]:
    found = {path: path.read_bytes() for path in sorted(CAPTURES.rglob("debug-keys-*.txt"))}
    return [
        for_reader(which, 4, content)
        for path, content in found.items()
        for which in ((0, 3) if path.stem.endswith("u") else (1, 2))
    ]


def _windows() -> list[bytes]:
    """Return what was recorded on one cpu after the other: whole records alone are read."""
    found = []
    for content in seeds.files(CAPTURES, "*.bin", most_bytes=1 << 20):
        at = 0
        while at + 12 <= len(content):
            end = at + 12 + struct.unpack_from("<I", content, at + 8)[0]
            found.append(content[at:end])
            at = end
    return sorted((one for one in found if 60 < len(one) <= 2048), key=len)[:24]


TARGETS = (
    Target(
        "xl_cfg",
        _config,
        ("formats.xl_cfg",),
        configs,
        SETTINGS,
        shape="settings",
        most_bytes=256,
    ),
    Target(
        "xl_cfg_placed",
        _placed,
        (
            "rules.xen_request",
            "rules.xen_config",
            "rules.xen_vnuma",
            "asking",
        ),
        configs,
        SETTINGS,
        shape="settings",
        most_bytes=256,
    ),
    Target(
        "xl_conf",
        _settings_of_xl,
        ("formats.xl_conf",),
        lambda: [b'# comment\nautoballoon="off"\nvm.cpumask = 0-3 # all\nclaim_mode=1\n'],
        "autoballoon claim_mode vm.cpumask = # \" '",
        shape="lines",
        most_bytes=300,
        share=2,
    ),
    Target(
        "xl_info",
        _info,
        ("formats.xl_info", "formats.columns"),
        lambda: seeds.own("xl_info") + seeds.files(CAPTURES, "xl-info-n.txt"),
        "cpu: numa_info node: memsize memfree distances cpu_topology nr_cpus",
        shape="lines",
        most_bytes=1100,
    ),
    Target(
        "xl_list",
        _list,
        ("formats.xl_list", "formats.columns"),
        _lists,
        "Name ID State VCPU -b- r-- all / Pool-0 any__cpu",
        shape="lines",
        most_bytes=600,
    ),
    Target(
        "xl_list_json",
        _list_json,
        ("formats.xl_list",),
        lambda: seeds.files(CAPTURES, "xl-list-l.json", most_bytes=12_000),
        "domid config vcpu_hard_affinity vnuma_nodes nodemap",
        shape="json",
        most_bytes=1000,
    ),
    Target(
        "xen_debug_keys",
        _debug_keys,
        ("formats.xen_debug_keys",),
        _debug_key_seeds,
        "(XEN)__ NODE Domain start-> size-> free-> Node heap[node=",
        shape="lines",
        most_bytes=1000,
    ),
    Target(
        "xen_host",
        _host,
        ("drivers.xen_snapshot", "formats.doubts"),
        hosts,
        "===__ Pool-0 node: cpu:",
        shape="lines",
        most_bytes=2600,
    ),
    Target(
        "xentrace",
        _trace,
        ("formats.xentrace",),
        _windows,
        most_bytes=512,
    ),
)
