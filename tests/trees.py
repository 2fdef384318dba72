"""A small made-up tree of /sys and /proc, as files and as a tar archive."""

import io
import os
import tarfile
from pathlib import Path

import pytest

DATA = os.environ.get("HOMENODE_DATA")
TOPOLOGIES = Path(DATA or "no-data") / "topologies"
TREES = TOPOLOGIES / "hwloc-linux"
needs_trees = pytest.mark.skipif(
    not TREES.is_dir(), reason="HOMENODE_DATA names no folder with topologies/hwloc-linux"
)
NODE = "sys/devices/system/node/"
CPU = "sys/devices/system/cpu/"


def small_tree(**changes):
    """Two nodes with cpus and one without, threads, huge pages, devices, HMAT, tiers and dax."""
    files = {
        NODE + "online": "0-2\n",
        NODE + "node0/cpulist": "0-1\n",
        NODE + "node0/distance": "10 21 28\n",
        NODE + "node0/meminfo": "Node 0 MemTotal:  8192 kB\nNode 0 MemFree:  4096 kB\n",
        NODE + "node0/hugepages/hugepages-2048kB/nr_hugepages": "8\n",
        NODE + "node0/hugepages/hugepages-2048kB/free_hugepages": "3\n",
        NODE + "node0/access1/initiators/node0": "../../../node0",
        NODE + "node0/access1/initiators/read_bandwidth": "1000\n",
        NODE + "node0/access1/initiators/read_latency": "80\n",
        NODE + "node1/cpumap": "c\n",
        NODE + "node1/distance": "21 10 28\n",
        NODE + "node2/cpulist": "\n",
        NODE + "node2/distance": "28 28 10\n",
        NODE + "node2/access0/initiators/node0": "../../../node0",
        NODE + "node2/access0/initiators/read_bandwidth": "4000\n",
        NODE + "node2/access0/initiators/read_latency": "0\n",
        CPU + "online": "0-2\n",
        CPU + "present": "0-3\n",
        "sys/devices/virtual/memory_tiering/memory_tier4/nodelist": "0-1\n",
        "sys/bus/dax/devices/dax0.0": "../../../devices/platform/hmem.0/dax0.0",
        "sys/bus/dax/devices/dax0.0/target_node": "2\n",
        "proc/driver/nvidia/gpus/0000:09:00.0/numa_status": "Node:\t\t9\nStatus:\tonline\n",
        "sys/bus/pci/devices/0000:00:01.0/numa_node": "1\n",
        "sys/bus/pci/devices/0000:00:01.0/class": "0x020000\n",
        "sys/bus/pci/devices/0000:00:02.0/numa_node": "-1\n",
        "sys/bus/pci/devices/0000:00:03.0/numa_node": "7\n",
    }
    for cpu in range(4):
        files[f"{CPU}cpu{cpu}/topology/core_id"] = f"{cpu // 2}\n"
        files[f"{CPU}cpu{cpu}/topology/physical_package_id"] = "0\n"
        files[f"{CPU}cpu{cpu}/topology/thread_siblings_list"] = f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}"
        files[f"{CPU}cpu{cpu}/cache/index2/level"] = "2\n"
        files[f"{CPU}cpu{cpu}/cache/index2/shared_cpu_list"] = files[
            f"{CPU}cpu{cpu}/topology/thread_siblings_list"
        ]
    return {**files, **{NODE + name.replace("__", "/"): text for name, text in changes.items()}}


def packed(files, *, mode="w:", links=(), folder="machine/"):
    """Return a tar archive of `files`, in a folder, with links as (path, target)."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode=mode) as archive:
        for path, target in links:
            link = tarfile.TarInfo(folder + path)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
        for path, text in files.items():
            member = tarfile.TarInfo(folder + path)
            member.size = len(text.encode())
            archive.addfile(member, io.BytesIO(text.encode()))
    return made.getvalue()
