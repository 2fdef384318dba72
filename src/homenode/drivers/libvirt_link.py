"""The line to a libvirt daemon: the official binding, and its errors in one line each.

The binding (``libvirt`` of libvirt-python, LGPL) is imported where a line is opened, for most hosts
have none; `opened` says what to install. Every call passes through `Link.do`, so that what goes
wrong is told in libvirt's own words with the remedy, and a daemon that went away is found out as
such.
"""

import os
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, TypeVar

from homenode.errors import HomenodeError, HypervisorError

if TYPE_CHECKING:
    import libvirt

_T = TypeVar("_T")

_GONE = (
    "client socket is closed",
    "End of file while reading data",
    "Cannot recv data",
    "Broken pipe",
    "Connection reset by peer",
)
"""What libvirt says, in one of its texts, when the daemon ended (src/rpc/virnetclient.c)."""

_NO_SOCKET = ("Failed to connect socket", "Cannot connect", "unable to connect to server")
_DENIED = ("Permission denied", "authentication unavailable", "access denied", "polkit")


class GoneError(HypervisorError):
    """The daemon went away while it was asked; what it had begun may be done or not."""


class MissingError(HypervisorError):
    """What was asked about is not there (any more)."""


class Link:
    """An open line to the daemon at `uri`; threads may share it."""

    def __init__(self, uri: str, binding: ModuleType, connection: "libvirt.virConnect") -> None:
        self.uri = uri
        self.binding = binding
        self.connection = connection

    def do(self, what: str, call: Callable[[], _T]) -> _T:
        """Return what `call` of the binding returns; `HypervisorError` says that `what` failed."""
        try:
            return call()
        except self.binding.libvirtError as error:
            raise self._told(what, error) from None

    def maybe(self, call: Callable[[], _T]) -> _T | None:
        """Return the same; None where this daemon cannot say, or what is asked about is gone."""
        try:
            return call()
        except self.binding.libvirtError as error:
            told = self._told("look", error)
            if isinstance(told, GoneError):
                raise told from None
            return None

    def _told(self, what: str, error: "libvirt.libvirtError") -> HypervisorError:
        text = one_line(str(error))
        if any(words in text for words in _GONE) or not self._is_alive():
            return GoneError(
                f"{self.uri}: libvirtd went away: cannot {what}: {text}",
                hint="its log tells why; homenode list shows what came of it, once it is back",
            )
        if error.get_error_code() == self.binding.VIR_ERR_NO_DOMAIN:
            return MissingError(f"{self.uri}: cannot {what}: {text}", hint="see homenode list")
        hint = None
        if error.get_error_code() == self.binding.VIR_ERR_OPERATION_DENIED or _is_denied(text):
            hint = "root, or a member of the group libvirt, may"
        return HypervisorError(f"{self.uri}: cannot {what}: {text}", hint=hint)

    def _is_alive(self) -> bool:
        try:
            return bool(self.connection.isAlive())
        except self.binding.libvirtError:
            return False


def binding_or_none() -> ModuleType | None:
    """Return the binding, None where it is not installed."""
    try:
        import libvirt  # noqa: PLC0415 - most hosts have none
    except ImportError:
        return None
    binding: ModuleType = libvirt
    return binding


def opened(uri: str) -> Link:
    """Return a line to the daemon at `uri`.

    Raises `HomenodeError` without the binding, `HypervisorError` if nobody answers.
    """
    binding = binding_or_none()
    if binding is None:
        raise HomenodeError(
            f"{uri}: the binding of libvirt is not installed",
            hint="apt install python3-libvirt, or pip install 'homenode[libvirt]'",
        )
    # It prints every error itself, unless told not to; they are told once, by us.
    binding.registerErrorHandler(lambda *_: None, None)
    try:
        connection = binding.open(_asking_nobody(uri))
    except binding.libvirtError as error:
        raise _unopened(uri, one_line(str(error))) from None
    return Link(uri, binding, connection)


def _asking_nobody(uri: str) -> str:
    """Return the URI such that ssh asks for no password where nobody could type one."""
    if "+ssh:" not in uri or "no_tty" in uri or os.isatty(0):
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}no_tty=1"


def _unopened(uri: str, text: str) -> HypervisorError:
    if _is_denied(text):
        return HypervisorError(
            f"{uri}: {text}", hint="root, or a member of the group libvirt, may; try sudo"
        )
    if any(words in text for words in _NO_SOCKET):
        return HypervisorError(
            f"{uri}: {text}", hint="is libvirtd (or virtqemud) running? systemctl start libvirtd"
        )
    return HypervisorError(f"{uri}: {text}", hint="virsh -c URI list tells whether it is libvirt's")


def _is_denied(text: str) -> bool:
    return any(words.lower() in text.lower() for words in _DENIED)


def one_line(text: str) -> str:
    """Return a message of libvirt's, which may have several lines, as one without its end marks."""
    return " ".join(text.split()).rstrip(".")[:500]
