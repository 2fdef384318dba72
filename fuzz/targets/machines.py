"""Descriptions of hosts, in any of the forms that ``capture:`` reads."""

from fuzz import seeds
from fuzz.oracle import expect
from fuzz.saved import expect_saved
from fuzz.seeds import text
from fuzz.target import Target
from fuzz.targets import libvirt, linux, xen
from fuzz.workplace import FOLDER
from homenode.drivers.capture import CaptureDriver
from homenode.drivers.xen_snapshot import snapshot_of
from homenode.formats import host_toml, hwloc_xml, snapshot

_FILE = FOLDER / "host"
_LARGEST = 16_000
_SMALL = b"nodes = 2\nmemory = '4GiB'\n[[cpupool]]\nname = 'p'\nnodes = '0-1'\n"


def _hwloc(data: bytes) -> None:
    expect_saved(hwloc_xml.parse(text(data), source="x.xml"), data=data)


def _toml(data: bytes) -> None:
    expect_saved(host_toml.parse(text(data), source="x.toml"), data=data)


def _snapshot(data: bytes) -> None:
    host, guests = snapshot.parse(text(data), source="x.json")
    again = snapshot.parse(snapshot.dump(host, guests), source="saved")
    expect(again, (host, guests), "a snapshot that was written and read again")
    expect(snapshot.digest(*again), snapshot.digest(host, guests), "its digest")


def _capture(data: bytes) -> None:
    _FILE.write_bytes(data)
    seen = CaptureDriver(str(_FILE)).snapshot()
    expect_saved(seen.host, seen.guests, data=data)


def _hwloc_seeds() -> list[bytes]:
    folder = seeds.OTHERS / "topologies" / "hwloc-xml"
    return seeds.own("hwloc_xml") + seeds.files(folder, "*.xml", most_bytes=_LARGEST)


def _tomls() -> list[bytes]:
    found = seeds.files(seeds.EXAMPLES / "hosts", "*.toml")
    found += seeds.files(seeds.ROOT / "src" / "homenode" / "drivers", "*.toml")
    return found + seeds.own("host_toml")


def _snapshots() -> list[bytes]:
    seen = [snapshot_of(seeds.parted(data), source="x") for data in xen.hosts()]
    dumps = [snapshot.dump(one.host, one.guests, indent=None) for one in seen]
    made = [host_toml.parse(text(data), source="x") for data in (_SMALL, *_tomls())]
    dumps += [snapshot.dump(host, (), indent=None) for host in made]
    return [one.encode() for one in dumps if len(one) <= _LARGEST]


def any_host() -> list[bytes]:
    """Return something of every form that describes a host."""
    kinds = (
        _hwloc_seeds()[:1],
        _tomls()[-1:],
        _snapshots()[-1:],
        linux.archives(),
        libvirt.capabilities()[:1],
        seeds.files(xen.CAPTURES, "xl-info-n.txt")[:2],
    )
    return [one for kind in kinds for one in kind if len(one) <= _LARGEST]


TARGETS = (
    Target(
        "hwloc_xml",
        _hwloc,
        ("formats.hwloc_xml",),
        _hwloc_seeds,
        "NUMANode Package Core PU L3Cache Die 0xf...f NUMALatency PCIDev complete_cpuset Bandwidth"
        " os_index",
        shape="xml",
        most_bytes=1900,
    ),
    Target(
        "host_toml",
        _toml,
        ("formats.host_toml", "formats.toml_text"),
        _tomls,
        "cores memory free cores_per_llc cores_per_die huge_pages name hypervisor sockets nodes"
        " threads_per_core threads distances [[node]] [[cpupool]] [[device]] [distances] groups"
        " 4GiB",
        shape="settings",
        most_bytes=700,
    ),
    Target(
        "snapshot",
        _snapshot,
        ("formats.snapshot",),
        _snapshots,
        "0-3 dram cxl running KiB",
        shape="json",
        most_bytes=2000,
    ),
    Target(
        "capture",
        _capture,
        ("drivers.capture",),
        any_host,
        "<topology <capabilities cpu_topology numa_info { ustar BZh =",
        shape="lines",
        most_bytes=1100,
    ),
)
