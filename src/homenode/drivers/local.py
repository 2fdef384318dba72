"""This machine, as its own ``/sys`` and ``/proc`` describe it: ``local:///``, read-only."""

import time
from collections.abc import Callable

from homenode.drivers.base import Look, ReadOnly, Snapshot
from homenode.drivers.trees import FolderTree, read_tree
from homenode.formats import sysfs
from homenode.placement.view import ShareRule, equal_shares


class LocalDriver(ReadOnly):
    """This machine's hardware; it has no guests that homenode knows of."""

    def __init__(
        self, uri: str = "local:///", *, root: str = "/", clock: Callable[[], float] = time.time
    ) -> None:
        self.uri = uri
        self._root = root
        self._clock = clock

    @property
    def share_rule(self) -> ShareRule:
        """Equal shares: what a guest is given that is spread over nodes by interleaving."""
        return equal_shares

    def snapshot(self, look: Look = "full") -> Snapshot:  # noqa: ARG002 - there is one way to look
        """Look at the machine."""
        taken_at = self._clock()
        host = sysfs.parse(read_tree(FolderTree(self._root)), source=self._root)
        return Snapshot(host.replace(taken_at=taken_at), ())
