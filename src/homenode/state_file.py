"""One file of state that several processes share: locked, versioned, replaced as a whole.

A file is JSON with its ``kind`` and ``version``. It is written beside its place, flushed to the
disk and renamed into it, so a reader sees the old state or the new one and a crash leaves one of
them. The lock is a file of its own (``FILE.lock``): a lock on the state itself would be lost with
each replacement. The ledger of claims and the simulated host are kept this way.
"""

import os
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from homenode.errors import HomenodeError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

LARGEST_BYTES = 64 << 20
"""A state file that is larger is not ours: it is refused, not read."""

_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.05


class Storage(Protocol):
    """Where state files are: this machine (`LOCAL`), or one behind a gateway.

    Every method raises `HomenodeError` with the path for what cannot be done.
    """

    def read(self, path: str, *, most: int) -> bytes | None:
        """Return the first `most` bytes of the file, None if there is none."""

    def replace(self, path: str, data: bytes) -> None:
        """Put `data` in place of the file, wholly or not at all."""

    def lock(self, path: str, *, wait_s: float) -> "AbstractContextManager[None]":
        """Return an exclusive lock (flock) on the file at `path`, to be entered by ``with``."""


class LocalStorage:
    """The files of this machine."""

    __slots__ = ()

    def read(self, path: str, *, most: int) -> bytes | None:
        """Return the first `most` bytes of the file, None if there is none."""
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms at start
                return file.read(most)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _cannot("read", path, error) from None

    def replace(self, path: str, data: bytes) -> None:
        """Put `data` in place of the file, wholly or not at all."""
        beside = path + ".new"
        try:
            # The lock makes one name enough: what a crash left there is overwritten.
            with open(beside, "wb") as file:  # noqa: PTH123 - as above
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)  # noqa: PTH105 - as above
            _flush_folder(path)
        except OSError as error:
            _remove(beside)
            raise _cannot("write", path, error) from None

    def lock(self, path: str, *, wait_s: float) -> "Lock":
        """Return an exclusive lock (flock) on the file at `path`, to be entered by ``with``."""
        return Lock(path, wait_s=wait_s)


LOCAL = LocalStorage()


class StateFile(NamedTuple):
    """Where a state is kept, what it is, and what a user does with one that is broken.

    `remedy` ends the message about a file that cannot be read. `wait_s` bounds the waiting for
    another process that has the lock. `storage` is the machine that the file is on.
    """

    path: str
    kind: str
    version: int
    remedy: str
    wait_s: float = 10.0
    storage: Storage = LOCAL

    def lock(self) -> "AbstractContextManager[None]":
        """Return the lock, to be entered by ``with``; it is not re-entrant.

        Entering raises `HomenodeError` after `wait_s`. A process that ends lets go of it.
        """
        return self.storage.lock(self.path + ".lock", wait_s=self.wait_s)

    def read(self) -> dict[str, object] | None:
        """Return what the file holds, None if there is none. Whole without the lock too."""
        import json  # noqa: PLC0415 - a read-only look at a host needs neither

        data = self.storage.read(self.path, most=LARGEST_BYTES + 1)
        if data is None:
            return None
        if len(data) > LARGEST_BYTES:
            raise self.broken(f"is larger than {LARGEST_BYTES >> 20} MiB")
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            raise self.broken("is not whole JSON") from None
        if not isinstance(document, dict) or document.get("kind") != self.kind:
            raise self.broken(f"is no {self.kind}")
        if document.get("version") != self.version:
            raise self.broken(f"is not of version {self.version}, which this homenode reads")
        return document

    def write(self, content: dict[str, object]) -> None:
        """Replace the file by `content`; only under the lock."""
        import json  # noqa: PLC0415 - as above

        document = {"kind": self.kind, "version": self.version, **content}
        data = (json.dumps(document, indent=1) + "\n").encode()
        if len(data) > LARGEST_BYTES:
            # Written, it would never be read again.
            raise HomenodeError(f"{self.path}: would become larger than {LARGEST_BYTES >> 20} MiB")
        self.storage.replace(self.path, data)

    def broken(self, what: str) -> HomenodeError:
        """Return the error about a file that cannot be used as it is."""
        return HomenodeError(f"{self.path}: {what}", hint=self.remedy)


class Lock:
    """An exclusive lock on a file, held from entering to leaving ``with``."""

    __slots__ = ("_descriptor", "path", "wait_s")

    def __init__(self, path: str, *, wait_s: float) -> None:
        self.path = path
        self.wait_s = wait_s
        self._descriptor = -1

    def __enter__(self) -> None:
        try:
            os.makedirs(os.path.dirname(self.path) or ".", mode=0o700, exist_ok=True)  # noqa: PTH103, PTH120 - as above
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            self._wait()
        except OSError as error:
            self._close()
            raise _cannot("lock", self.path, error) from None
        except BaseException:
            self._close()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1

    def _wait(self) -> None:
        from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: PLC0415 - only where something changes
        from time import monotonic, sleep  # noqa: PLC0415 - the same

        until, pause = monotonic() + self.wait_s, _FIRST_PAUSE_S
        while True:
            try:
                flock(self._descriptor, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                if monotonic() >= until:
                    raise HomenodeError(
                        f"{self.path}: another process has held this lock for {self.wait_s:g} s",
                        hint=f"try again; `fuser {self.path}` names the process",
                    ) from None
                sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_S)
            else:
                return


def _remove(path: str) -> None:
    # On a full disk, half a file takes the room that others need.
    try:
        os.unlink(path)  # noqa: PTH108 - as above
    except OSError:
        return


def _flush_folder(path: str) -> None:
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)  # noqa: PTH120 - as above
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


_NO_PLACE = FileNotFoundError, FileExistsError, NotADirectoryError, PermissionError


def _cannot(do: str, path: str, error: OSError) -> HomenodeError:
    lost = isinstance(error, _NO_PLACE)
    hint = "is there such a folder, and may you write there?" if do != "read" and lost else None
    return HomenodeError(f"{path}: cannot {do} it: {error.strerror or error}", hint=hint)
