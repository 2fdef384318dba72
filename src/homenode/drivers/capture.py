"""Saved descriptions of a host, read-only: ``capture:PATH``.

PATH is one of these, recognised by what is in it, not by its name:

=========================================== ====================================================
a folder with ``xl-info-n.txt``             outputs of a Xen host (`homenode.drivers.xen_snapshot`)
a folder with ``sys/devices/system``        a saved tree of a Linux machine (``sys`` and ``proc``)
a file with what ``xl info -n`` prints      the host alone
a file with a JSON document                 homenode's own snapshot (``homenode topology --save``)
a file with TOML                            a made-up host
=========================================== ====================================================
"""

import os

from homenode.drivers.base import Look, ReadOnly, Snapshot
from homenode.errors import HomenodeError
from homenode.placement.view import ShareRule, equal_shares

LARGEST_FILE = 64 << 20
"""In bytes; what Xen prints for the largest host is a hundredth of it."""

_FILES = "a file has the output of `xl info -n`, a homenode snapshot, or a host in TOML"
_XL_INFO_WORDS = ("cpu_topology", "numa_info", "xen_major")


class CaptureDriver(ReadOnly):
    """A host and its guests as files describe them; the files are read once."""

    def __init__(self, path: str) -> None:
        self.uri = f"capture:{path}"
        self._path = path
        self._seen: Snapshot | None = None

    @property
    def share_rule(self) -> ShareRule:
        """Xen's, where the description is of a Xen host; else equal shares."""
        hypervisor = self.snapshot().host.hypervisor or ""
        if not hypervisor.lower().startswith("xen"):
            return equal_shares
        from homenode.rules.xen import memory_shares  # noqa: PLC0415 - only for a Xen host

        return memory_shares

    def snapshot(self, look: Look = "full") -> Snapshot:  # noqa: ARG002 - there is one way to look
        """Return what the files describe; raises `HomenodeError` if they cannot be read."""
        if self._seen is None:
            is_folder = os.path.isdir(self._path)  # noqa: PTH112 - pathlib costs 5 ms at start
            self._seen = _from_folder(self._path) if is_folder else _from_file(self._path)
        return self._seen


def _from_folder(folder: str) -> Snapshot:
    from homenode.drivers import xen_snapshot  # noqa: PLC0415 - not for the other descriptions

    paths = {name: os.path.join(folder, name) for name in xen_snapshot.OUTPUTS}  # noqa: PTH118 - no pathlib: 5 ms
    if os.path.isfile(paths[xen_snapshot.INFO]):  # noqa: PTH113 - no pathlib: 5 ms
        there = {name: path for name, path in paths.items() if os.path.isfile(path)}  # noqa: PTH113 - no pathlib: 5 ms
        texts = {name: read_text(path) for name, path in there.items()}
        source = folder if len(texts) > 1 else paths[xen_snapshot.INFO]
        return xen_snapshot.snapshot_of(texts, source=source)
    if os.path.isdir(os.path.join(folder, "sys/devices/system")):  # noqa: PTH112, PTH118 - no pathlib: 5 ms
        from homenode.drivers.local import read_tree  # noqa: PLC0415 - only for a tree
        from homenode.formats import sysfs  # noqa: PLC0415 - the same

        return Snapshot(sysfs.parse(read_tree(folder), source=folder), ())
    raise HomenodeError(
        f"{folder}: describes no host",
        hint=f"a folder has the output of `xl info -n` as {xen_snapshot.INFO}, or a tree of /sys",
    )


def _from_file(path: str) -> Snapshot:
    text = read_text(path)
    if any(word in text for word in _XL_INFO_WORDS) and not text.lstrip().startswith("{"):
        from homenode.drivers import xen_snapshot  # noqa: PLC0415 - not for other descriptions

        return xen_snapshot.snapshot_of({xen_snapshot.INFO: text}, source=path)
    if text.lstrip().startswith("{"):
        from homenode.formats import snapshot  # noqa: PLC0415 - only for JSON

        return Snapshot(*snapshot.parse(text, source=path))
    if "=" in text:
        from homenode.formats import host_toml  # noqa: PLC0415 - only for TOML

        return Snapshot(host_toml.parse(text, source=path), ())
    raise HomenodeError(f"{path}: describes no host", hint=_FILES)


def read_text(path: str) -> str:
    """Return the text of a file of at most `LARGEST_FILE` bytes of UTF-8."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms at start
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise HomenodeError(f"{path}: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise HomenodeError(f"{path}: is longer than {LARGEST_FILE >> 20} MiB")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HomenodeError(f"{path}: is no text: byte {error.start} is not UTF-8") from None
