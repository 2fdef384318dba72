"""Notes of guests that libvirt is about to start, from its hook to the call of numad that follows.

numad is told the number of vcpus and MiB, and no name. The hook, which is called just before it,
has the guest's file; so it leaves that here, and whoever is asked as numad takes the oldest note
that matches. Two equal guests that are started at once may get each other's, which is as good.
"""

import os
from collections.abc import Callable
from typing import NamedTuple

from homenode.drivers.trees import FolderTree
from homenode.errors import HomenodeError
from homenode.formats import libvirt_xml
from homenode.formats.libvirt_xml import DomainXml
from homenode.state_file import LOCAL

FOLDER = "run/homenode/starting"

LASTS_S = 120.0
"""A note that is older is of a guest that was not started after all."""

_MOST = 4096


class Asked(NamedTuple):
    """What numad is asked: vcpus, and the memory in whole MiB (None: not said)."""

    vcpus: int
    mib: int | None


class StartNotes:
    """The notes below `root`; `clock` gives seconds since the epoch, as files are dated."""

    def __init__(self, root: str, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._tree = FolderTree(root)

    def leave(self, config: DomainXml) -> None:
        """Leave a note of a guest with a uuid."""
        folder = os.path.join(self._root, FOLDER)  # noqa: PTH118 - pathlib costs 5 ms at start
        os.makedirs(folder, mode=0o700, exist_ok=True)  # noqa: PTH103 - as above
        LOCAL.replace(f"{folder}/{config.uuid}.xml", config.text.encode())

    def take(self, asked: Asked) -> DomainXml | None:
        """Return the oldest note that matches, which is one no more; None if there is none.

        Only under the ledger's lock: two who ask at once must not get the same.
        """
        for path in self._by_age():
            config = self._read(path)
            if config is not None and matches(config, asked):
                self._remove(path)
                return config
        return None

    @property
    def there_are_any(self) -> bool:
        """Whether anyone has left a note."""
        return bool(self._tree.names(FOLDER))

    def drop(self, uuid: str) -> None:
        """Remove the note of a guest, if there is one."""
        self._remove(f"{FOLDER}/{uuid}.xml")

    def _by_age(self) -> list[str]:
        dated = []
        for name in self._tree.names(FOLDER)[:_MOST]:
            path = f"{FOLDER}/{name}"
            try:
                dated.append((os.stat(os.path.join(self._root, path)).st_mtime, path))  # noqa: PTH116, PTH118 - as above
            except OSError:
                continue
        now = self._clock()
        for written, path in dated:
            if now - written > LASTS_S:
                self._remove(path)
        return [path for written, path in sorted(dated) if now - written <= LASTS_S]

    def _read(self, path: str) -> DomainXml | None:
        text = self._tree.text(path)
        if text is None or not path.endswith(".xml"):
            return None
        try:
            return libvirt_xml.parse(text, source=f"/{path}")
        except HomenodeError:
            return None

    def _remove(self, path: str) -> None:
        try:
            os.unlink(os.path.join(self._root, path))  # noqa: PTH108, PTH118 - as above
        except OSError:
            return


def matches(config: DomainXml, asked: Asked) -> bool:
    """Return whether numad is asked about this guest.

    It is told of the vcpus that are online at the start, and of the memory, or what the balloon
    leaves of it, rounded up to MiB (libvirt, src/util/virnuma.c, virNumaGetAutoPlacementAdvice();
    which of the two depends on the version).
    """
    sizes = {-(-kib // 1024) for kib in (config.memory_kib, config.current_kib)}
    return config.online_vcpus == asked.vcpus and (asked.mib is None or asked.mib in sizes)


def is_left_to_numad(config: DomainXml) -> bool:
    """Return whether libvirt will ask numad where this guest goes."""
    stated = config.memory_nodes
    return config.vcpus_placed_by_numad or (stated is not None and stated.nodes is None)
