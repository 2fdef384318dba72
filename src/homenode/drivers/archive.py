"""A tree of ``/sys`` and ``/proc`` in a tar file, plain or compressed, never unpacked to disk.

The archive is decompressed into memory as a whole, up to `LARGEST_ARCHIVE`, since links lead back
and forth in it. Links are followed within the archive only, as if its top were the root: an
absolute one begins there, and one that leads out of it leads nowhere.
"""

import io
import re
import tarfile
from typing import Protocol

from homenode.drivers.trees import LARGEST_FILE, too_long
from homenode.errors import HomenodeError

LARGEST_ARCHIVE = 256 << 20
"""Decompressed, in bytes; a machine with 256 cpus makes 30 MB of small files."""

MOST_MEMBERS = 100_000
"""A machine with 256 cpus makes 16,000."""

_MOST_LINKS = 16
_LONGEST_NAME = 4096  # Linux, PATH_MAX
_DEEPEST_NAME = 64
_XZ_MEMORY = 128 << 20
_BLOCK = 512
_MAGIC_AT = 257

COMPRESSIONS = {b"BZh": "bzip2", b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz"}


def _is_tar(content: bytes) -> bool:
    return content[_MAGIC_AT : _MAGIC_AT + 5] == b"ustar"


class ArchiveTree:
    """The files of an archive that has ``sys`` or ``proc`` at its top, or in one top folder.

    Raises `HomenodeError` for what is no such archive, is damaged, or is beyond the bounds.
    """

    def __init__(self, content: bytes, *, source: str) -> None:
        self._source = source
        self._content = _decompressed(content, source)
        if not _is_tar(self._content.read(_BLOCK)):
            raise HomenodeError(
                f"{source}: holds no tar archive", hint="pack a tree of /sys and /proc with tar"
            )
        self._content.seek(0)
        self._members = _members(self._content, source)
        self._names: dict[str, dict[str, None]] = {}
        for path in self._members:
            self._enter(path)
        self._root = self._find_root()

    def _enter(self, path: str) -> None:
        """Enter a member, and the folders above it, into the lists of names."""
        while path:
            folder, _, name = path.rpartition("/")
            names = self._names.setdefault(folder, {})
            if name in names:
                return
            names[name] = None
            path = folder

    def _find_root(self) -> str:
        tops = self._names.get("", {})
        if "sys" in tops or "proc" in tops:
            return ""
        for top in tops:
            if len(tops) == 1 and not self._names.get(top, {}).keys().isdisjoint(("sys", "proc")):
                return top
        raise HomenodeError(
            f"{self._source}: is an archive without sys/ or proc/ at its top or in one folder",
            hint="pack the folder that has them, or tell tar -C that folder",
        )

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, sorted."""
        found = self._resolve(folder)
        return [] if found is None else sorted(self._names.get(found, ()))

    def link(self, path: str) -> str | None:
        """Return where a link leads, as it is written."""
        folder, _, name = path.rpartition("/")
        there = self._resolve(folder)
        if there is None or name not in self._names.get(there, ()):
            return None
        member = self._members.get(_join(there, name))
        is_link = member is not None and member.issym()
        return member.linkname[:_LONGEST_NAME] if member is not None and is_link else ""

    def text(self, path: str) -> str | None:
        """Return the text of a regular file."""
        found = self._resolve(path)
        member = None if found is None else self._members.get(found)
        for _hop in range(_MOST_LINKS):
            if member is None or not member.islnk():
                break
            member = self._members.get(_clean(member.linkname))
        if member is None or not member.isreg() or member.issparse():
            return None
        if member.size > LARGEST_FILE:
            raise too_long(f"{self._source}: {path}")
        self._content.seek(member.offset_data)
        return self._content.read(member.size).decode("utf-8", errors="replace")

    def _resolve(self, path: str) -> str | None:
        """Return the member's own path, with every link on the way followed; None if outside."""
        left = [part for part in path.split("/") if part][::-1]
        found: list[str] = []
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                if not found:
                    return None
                found.pop()
                continue
            if part == ".":
                continue
            member = self._members.get("/".join([self._root, *found, part]).lstrip("/"))
            if member is None or not member.issym():
                found.append(part)
                continue
            links += 1
            if links > _MOST_LINKS or len(member.linkname) > _LONGEST_NAME:
                return None
            if member.linkname.startswith("/"):
                found = []
            left += [name for name in member.linkname.split("/") if name][::-1]
        return "/".join([self._root, *found]).strip("/")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _clean(name: str) -> str:
    """Return a member's name without what tar may write around it; empty for what is no path."""
    if len(name) > _LONGEST_NAME:
        return ""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return "" if ".." in parts or len(parts) > _DEEPEST_NAME else "/".join(parts)


def _decompressed(content: bytes, source: str) -> io.BytesIO:
    for magic, name in COMPRESSIONS.items():
        if content.startswith(magic):
            return _read_bounded(_opened(name, content), name, source)
    return io.BytesIO(content)


def _opened(name: str, content: bytes) -> _Readable:
    raw = io.BytesIO(content)
    if name == "bzip2":
        import bz2  # noqa: PLC0415 - one of three

        return bz2.BZ2File(raw)
    if name == "gzip":
        import gzip  # noqa: PLC0415 - one of three

        return gzip.GzipFile(fileobj=raw)
    return _Xz(raw)


class _Xz:
    """An xz file whose dictionary may not be larger than `_XZ_MEMORY` (LZMAFile has no bound)."""

    def __init__(self, raw: io.BytesIO) -> None:
        import lzma  # noqa: PLC0415 - one of three

        self._raw = raw
        self._made = lzma.LZMADecompressor(memlimit=_XZ_MEMORY)

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes; none at the end."""
        while not self._made.eof:
            given = self._raw.read(1 << 16) if self._made.needs_input else b""
            if self._made.needs_input and not given:
                raise EOFError
            if found := self._made.decompress(given, max_length=size):
                return found
        return b""


def _read_bounded(file: _Readable, name: str, source: str) -> io.BytesIO:
    import lzma  # noqa: PLC0415 - for its exception
    import zlib  # noqa: PLC0415 - the same

    content = io.BytesIO()
    try:
        while part := file.read(1 << 20):
            if content.tell() + len(part) > LARGEST_ARCHIVE:
                raise HomenodeError(
                    f"{source}: is longer than {LARGEST_ARCHIVE >> 20} MiB when decompressed"
                )
            content.write(part)
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError):
        raise HomenodeError(
            f"{source}: cannot be unpacked as {name}", hint="is it whole?"
        ) from None
    content.seek(0)
    return content


class _Member(tarfile.TarInfo):
    """A member whose names are bounded.

    `tarfile` searches a header of names with a pattern that takes quadratic time in its digits
    (CVE-2024-6232, in Python before 3.11.10), and reads all of the archive where the header's size
    is below zero.
    """

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        # Of what is no name the size is looked at when it was read; a name is read at once.
        if self.type in _NAMES and archive.fileobj is not None:
            if not 0 <= self.size <= 4 * _LONGEST_NAME:
                raise tarfile.ReadError
            begin = archive.fileobj.tell()
            if _MANY_DIGITS.search(archive.fileobj.read(self.size)):
                raise tarfile.ReadError
            archive.fileobj.seek(begin)
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]


_MANY_DIGITS = re.compile(rb"[0-9]{64}")
_NAMES = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip


def _members(content: io.BytesIO, source: str) -> dict[str, tarfile.TarInfo]:
    """Return the members by their names; of two of one name, the later, as tar has it."""
    members: dict[str, tarfile.TarInfo] = {}
    try:
        archive = tarfile.TarFile(fileobj=content, tarinfo=_Member)
        offset, count = -1, 0
        while (member := archive.next()) is not None:
            # A size below zero would lead back to a member that was read.
            if member.size < 0 or archive.offset <= offset:
                raise tarfile.ReadError
            offset, count = archive.offset, count + 1
            if count > MOST_MEMBERS:
                raise HomenodeError(f"{source}: has more than {MOST_MEMBERS} members")
            if name := _clean(member.name):
                members[name] = member
        # What is no header ends the archive for tarfile; only zeros, or nothing, end it for us.
        content.seek(archive.offset)
        if content.read(_BLOCK).strip(b"\0"):
            raise tarfile.ReadError
    # RecursionError: tarfile reads a header of names that follows another one from within it.
    # IndexError: it takes the map of a sparse file to be whole.
    except (
        tarfile.TarError, OSError, ValueError, OverflowError, EOFError, RecursionError, IndexError,
    ):  # fmt: skip
        raise HomenodeError(f"{source}: is damaged: not whole as a tar archive") from None
    return members
