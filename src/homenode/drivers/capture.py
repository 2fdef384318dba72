"""Saved descriptions of a host, read-only: ``capture:PATH``.

PATH is one of these, recognised by what is in it, not by its name:

=========================================== ====================================================
a folder with ``xl-info-n.txt``             outputs of a Xen host (`homenode.drivers.xen_snapshot`)
a folder with ``virsh-capabilities.xml``    outputs of a libvirt host; with ``virsh-freepages.txt``
                                            (``virsh freepages --all``) what is free, too
a folder with ``sys`` or ``proc``           a saved tree of a Linux machine
a tar file of such a tree                   the same; plain, or packed by gzip, bzip2 or xz
a file with hwloc XML (version 2 or 3)      the host alone (``lstopo --of xml FILE``)
a file with libvirt XML                     the host alone (``virsh capabilities``)
a file with what ``xl info -n`` prints      the host alone
a file with a JSON document                 homenode's own snapshot (``homenode topology --save``)
a file with TOML                            a made-up host
=========================================== ====================================================
"""

import os
from typing import TYPE_CHECKING

from homenode.drivers.base import Look, ReadOnly, Snapshot
from homenode.errors import HomenodeError
from homenode.placement.view import ShareRule, equal_shares

if TYPE_CHECKING:
    from homenode.drivers.trees import Tree

LARGEST_FILE = 64 << 20
"""In bytes; what Xen prints for the largest host is a hundredth of it."""

CAPABILITIES = "virsh-capabilities.xml"
FREE_PAGES = "virsh-freepages.txt"

_FILES = (
    "a file has the output of `xl info -n` or of `virsh capabilities`, hwloc XML (`lstopo --of"
    " xml`), a tar archive of /sys and /proc, a homenode snapshot, or a host in TOML"
)
# The beginnings of homenode.drivers.archive, whose import is worth 10 ms to an archive alone.
_PACKED = (b"BZh", b"\x1f\x8b", b"\xfd7zXZ\0")
_TAR, _TAR_AT = b"ustar", 257
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
    if os.path.isfile(os.path.join(folder, CAPABILITIES)):  # noqa: PTH113, PTH118 - no pathlib: 5 ms
        return _from_capabilities(folder)
    if any(os.path.isdir(os.path.join(folder, name)) for name in ("sys", "proc")):  # noqa: PTH112, PTH118 - no pathlib: 5 ms
        from homenode.drivers.trees import FolderTree  # noqa: PLC0415 - only for a tree

        return _from_tree(FolderTree(folder), folder)
    raise HomenodeError(
        f"{folder}: describes no host",
        hint=f"a folder has the output of `xl info -n` as {xen_snapshot.INFO}, that of"
        f" `virsh capabilities` as {CAPABILITIES}, or sys/ and proc/ of a Linux machine",
    )


def _from_capabilities(folder: str) -> Snapshot:
    from homenode.formats import libvirt_capabilities  # noqa: PLC0415 - only for libvirt

    paths = [os.path.join(folder, name) for name in (CAPABILITIES, FREE_PAGES)]  # noqa: PTH118 - no pathlib: 5 ms
    free = None
    if os.path.isfile(paths[1]):  # noqa: PTH113 - no pathlib: 5 ms
        text = read_text(paths[1])
        free = libvirt_capabilities.parse_free_pages(text, source=paths[1])
    host = libvirt_capabilities.parse(read_text(paths[0]), source=paths[0], free=free)
    return Snapshot(host, ())


def _from_tree(tree: "Tree", source: str) -> Snapshot:
    from homenode.drivers.trees import read_tree  # noqa: PLC0415 - only for a tree
    from homenode.formats import sysfs  # noqa: PLC0415 - the same

    return Snapshot(sysfs.parse(read_tree(tree), source=source), ())


def _from_xml(text: str, path: str) -> Snapshot:
    from homenode.formats import hwloc_xml, libvirt_capabilities, xml_tree  # noqa: PLC0415 - only for XML

    root = xml_tree.parse(text, source=path)
    if root.tag == hwloc_xml.ROOT:
        return Snapshot(hwloc_xml.parse_root(root, source=path), ())
    if root.tag == libvirt_capabilities.ROOT:
        return Snapshot(libvirt_capabilities.parse_root(root, source=path), ())
    raise HomenodeError(f"{path}: describes no host, but is XML of <{root.tag:.40}>", hint=_FILES)


def _from_file(path: str) -> Snapshot:
    content = _read(path)
    if content.startswith(_PACKED) or content[_TAR_AT:].startswith(_TAR):
        from homenode.drivers.archive import ArchiveTree  # noqa: PLC0415 - only for an archive

        return _from_tree(ArchiveTree(content, source=path), path)
    text = _decode(content, path)
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return _from_xml(text.lstrip("\ufeff \t\r\n"), path)
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
    return _decode(_read(path), path)


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms at start
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise HomenodeError(f"{path}: {error.strerror}") from None
    if len(content) > LARGEST_FILE:
        raise HomenodeError(f"{path}: is longer than {LARGEST_FILE >> 20} MiB")
    return content


def _decode(content: bytes, path: str) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise HomenodeError(f"{path}: is no text: byte {error.start} is not UTF-8") from None
