"""The recorded host with guests of tests/data/kvm-captures/n4-guests, as a folder of files."""

import tarfile
from pathlib import Path

CAPTURE = Path(__file__).parent / "data/kvm-captures/n4-guests/tree.tar.gz"
GUESTS = ("strict", "auto", "huge", "cells", "lazy", "paused")


def unpacked(folder: Path) -> Path:
    """Unpack the recording into a folder, and return it as the root of a machine."""
    with tarfile.open(CAPTURE) as archive:
        archive.extractall(folder, filter="data")
    return folder


def process_of(root: Path, name: str) -> int:
    """Return the number of a guest's process."""
    return int((root / f"run/libvirt/qemu/{name}.pid").read_text())


def numastat_mib(root: Path, name: str, row: str) -> dict[int, float]:
    """Return a row of what numastat said of a guest, in MiB by node."""
    lines = (root / f"numastat-{name}.txt").read_text().splitlines()
    (words,) = [line.split()[1:-1] for line in lines if line.startswith(row)]
    return {node: float(word) for node, word in enumerate(words)}
