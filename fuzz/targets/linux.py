"""Files of Linux: of processes, of control groups, and the tree that describes a machine."""

import io
import tarfile

from fuzz import seeds
from fuzz.oracle import Defect
from fuzz.saved import expect_saved
from fuzz.seeds import chosen, for_reader, parted, text
from fuzz.target import Target
from homenode.drivers.archive import ArchiveTree
from homenode.drivers.trees import read_tree
from homenode.formats import cgroup, numa_maps, process_stat, sysfs

CAPTURES = seeds.RECORDED / "kvm-captures"
_LARGEST_TREE = 20_000


def _process(data: bytes) -> None:
    which, rest = chosen(data, 5)
    said = text(rest)
    if which == 0:
        _refuse_below_nothing(process_stat.busy_ticks(said))
    elif which == 1:
        process_stat.last_cpu(rest)
    elif which == 2:
        process_stat.started_at(said)
    elif which == 3:
        numa_maps.value_kib(said, "VmPin")
    else:
        _refuse_below_nothing(numa_maps.free_blocks(said))


def _cgroup(data: bytes) -> None:
    which, rest = chosen(data, 2)
    said = text(rest)
    if which:
        cgroup.paths(said)
    else:
        _refuse_below_nothing(cgroup.memory_kib(said))


def _refuse_below_nothing(found: dict[int, int]) -> None:
    if any(number < 0 for pair in found.items() for number in pair):
        raise Defect(f"a number below 0: {found}")


def _numa_maps(data: bytes) -> None:
    parts = parted(data)
    found = numa_maps.parse(parts.get("numa_maps", ""), parts.get("maps", ""))
    own = numa_maps.of_guest(found, frozenset((65536, 131072)))
    if any(mapped not in found for mapped in own):
        raise Defect("mappings of the guest that the process has not")
    _refuse_below_nothing(numa_maps.sum_kib(found))


def _sysfs(data: bytes) -> None:
    _look_at(parted(data), data)


def _archive(data: bytes) -> None:
    _look_at(read_tree(ArchiveTree(data, source="a.tar")), data)


def _look_at(found: dict[str, str], data: bytes) -> None:
    host = sysfs.parse(found, source="tree")
    if sum(len(own) for own in host.cpus_by_node.values()) > len(host.cpu_map):
        raise Defect("a cpu is on two nodes")
    expect_saved(host, data=data)


def _recorded(name: str) -> str:
    with tarfile.open(CAPTURES / "n4-guests" / "tree.tar.gz") as archive:
        member = next(one for one in archive.getmembers() if one.name.endswith(name))
        file = archive.extractfile(member)
        return "" if file is None else file.read().decode()


def _process_seeds() -> list[bytes]:
    readers = {"cpus": 0, "stat": 1, "stat-again": 2, "status": 3, "pinned": 3, "buddyinfo": 4}
    folder = seeds.OWN / "process"
    return [
        for_reader(reader, 5, (folder / name.removesuffix("-again")).read_bytes())
        for name, reader in readers.items()
    ]


def _cgroup_seeds() -> list[bytes]:
    folder = seeds.OWN / "cgroup"
    readers = {"version-1": 0, "version-2": 0, "paths-1": 1, "paths-2": 1}
    return [for_reader(which, 2, (folder / name).read_bytes()) for name, which in readers.items()]


def _numa_maps_seeds() -> list[bytes]:
    """Return some lines of a recorded process, and one that was made up."""
    lines = _recorded("273/numa_maps").splitlines()
    kept = [line for line in lines if "anon" in line or "huge" in line][:12]
    starts = {int(line.split()[0], 16) for line in kept}
    ends = [
        line
        for line in _recorded("273/maps").splitlines()
        if int(line.partition("-")[0], 16) in starts
    ]
    parts = {"maps": "\n".join(ends), "numa_maps": "\n".join(kept)}
    return [seeds.joined(parts), *seeds.own("numa_maps")]


def _trees() -> list[bytes]:
    """Return a made-up tree, and what is small enough of those that were recorded."""
    paths = sorted((seeds.OTHERS / "topologies" / "hwloc-linux").glob("*.tar.bz2"))
    paths = [path for path in paths if path.stat().st_size < 4000]
    trees = [read_tree(ArchiveTree(path.read_bytes(), source=path.name)) for path in paths]
    found = [*seeds.own("sysfs"), *map(seeds.joined, trees)]
    return [one for one in found if len(one) <= _LARGEST_TREE]


def archives() -> list[bytes]:
    """Return trees of a machine in archives of every kind, without what fills a tape."""
    tree = parted((seeds.OWN / "sysfs" / "small").read_bytes())
    made = [_packed(tree, "w:", step).rstrip(b"\0") + bytes(1024) for step in (16, 4)]
    return made + [_packed(tree, f"w:{kind}", step) for kind, step in _COMPRESSED.items()]


_COMPRESSED = {"gz": 2, "bz2": 5, "xz": 5}


def _packed(tree: dict[str, str], mode: str, step: int) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for path, content in list(tree.items())[::step]:
            member = tarfile.TarInfo("machine/" + path)
            member.size = len(content.encode())
            archive.addfile(member, io.BytesIO(content.encode()))
        link = tarfile.TarInfo("machine/sys/devices/system/node/node7")
        link.type, link.linkname = tarfile.SYMTYPE, "node0"
        archive.addfile(link)
    return file.getvalue()


TARGETS = (
    Target(
        "process",
        _process,
        ("formats.process_stat", "formats.numa_maps"),
        _process_seeds,
        "cpu Node zone VmPin: ) ( __",
        most_bytes=512,
        share=8,
    ),
    Target(
        "cgroup",
        _cgroup,
        ("formats.cgroup",),
        _cgroup_seeds,
        "anon shmem unevictable hierarchical_anon total= N0= N1= :/",
        most_bytes=256,
        share=8,
    ),
    Target(
        "numa_maps",
        _numa_maps,
        ("formats.numa_maps",),
        _numa_maps_seeds,
        "anon= huge N0= N1= file=/dev/shm kernelpagesize_kB= ===__maps\\n ===__numa_maps\\n bind:0"
        " prefer__(many):1",
        shape="lines",
        most_bytes=800,
    ),
    Target(
        "sysfs",
        _sysfs,
        ("formats.sysfs", "formats.described"),
        _trees,
        "===__sys/devices/system/node/node3/ ===__sys/devices/system/cpu/cpu9/topology/ 0-3 cpulist"
        " distance meminfo numa_node class nr_hugepages core_id thread_siblings_list"
        " shared_cpu_list read_bandwidth initiators target_node nodelist online",
        shape="lines",
        most_bytes=1600,
    ),
    Target(
        "archive",
        _archive,
        ("drivers.archive", "drivers.trees"),
        archives,
        "ustar sys/ ../ node0/ 0000644",
        shape="tar",
        most_bytes=5000,
    ),
)
