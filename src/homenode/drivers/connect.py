"""From a connection URI to the driver for it."""

import os

from homenode.drivers.base import Driver
from homenode.errors import HomenodeError, NoHostError

_LIBVIRT = ("qemu", "test", "ch")
"""Drivers of libvirt; what follows a plus is the way to it (``qemu+ssh``)."""

_SCHEMES = (
    "xen:///, xen+ssh://[user@]host/, qemu:///system, qemu+ssh://[user@]host/system, sim:NAME,"
    " capture:PATH or local:///"
)
_NOTHING_AFTER = {
    "local": "this machine is local:///",
    "xen": "this dom0 is xen:///, another one xen+ssh://[user@]host/",
}
_CAPABILITIES = "/proc/xen/capabilities"
_SOCKETS = ("/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock")
_HERE = "qemu:///system"


def driver_for(uri: str | None) -> Driver:
    """Return the driver for `uri` (``-c``, or ``HOMENODE_URI``).

    Without one it is this dom0's, else that of the libvirt daemon of this machine.

    Raises `HomenodeError` for one that is malformed or not served yet.
    """
    if not uri:
        uri = _this_host()
    scheme, colon, rest = uri.partition(":")
    if not colon:
        named = f"capture:{uri}" if uri.isprintable() else "capture:PATH"
        hint = f"a file or folder is named as {named}"
        raise HomenodeError(f"{uri!r} is no connection URI", hint=hint)
    if scheme.partition("+")[0] in _LIBVIRT:
        from homenode.drivers.libvirt import LibvirtDriver  # noqa: PLC0415 - one of them

        return LibvirtDriver(uri)
    if scheme == "capture" and not rest:
        raise HomenodeError(f"{uri!r} names no file", hint="write capture:PATH")
    if scheme in _NOTHING_AFTER and rest.strip("/"):
        raise HomenodeError(f"{uri!r}: {_NOTHING_AFTER[scheme]}", hint="nothing goes after it")
    if scheme not in ("sim", "capture", "local", "xen", "xen+ssh"):
        raise HomenodeError(f"{uri!r}: there is no scheme {scheme!r}", hint=f"there are {_SCHEMES}")
    return _driver(scheme, rest, uri)


def _this_host() -> str:
    if is_dom0():
        return "xen:///"
    if libvirt_answers():
        return _HERE
    raise NoHostError(
        "no host is named, and this is neither a Xen dom0 nor does libvirt answer",
        hint=f"add -c URI or set HOMENODE_URI: {_SCHEMES}; -c sim:try is one to try it on",
    )


def libvirt_answers() -> bool:
    """Return whether there is a libvirt daemon of this machine to ask."""
    return any(map(os.path.exists, _SOCKETS))


def is_dom0() -> bool:
    """Return whether this machine is the control domain of a Xen host."""
    try:
        descriptor = os.open(_CAPABILITIES, os.O_RDONLY)
    except OSError:
        return False
    try:
        return b"control_d" in os.read(descriptor, 256)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _driver(scheme: str, rest: str, uri: str) -> Driver:
    if scheme == "sim":
        from homenode.drivers.simulated import open_simulated  # noqa: PLC0415 - one of them

        return open_simulated(uri)
    if scheme == "capture":
        from homenode.drivers.capture import CaptureDriver  # noqa: PLC0415 - one of them

        return CaptureDriver(rest)
    if scheme == "local":
        from homenode.drivers.local import LocalDriver  # noqa: PLC0415 - one of them

        return LocalDriver()
    from homenode.drivers.xen import XenDriver  # noqa: PLC0415 - one of them

    if scheme == "xen":
        from homenode.drivers.gateway import LocalGateway  # noqa: PLC0415 - one of two

        return XenDriver(LocalGateway(), uri=uri)
    from homenode.drivers.ssh import SshGateway  # noqa: PLC0415 - the other

    if not rest.startswith("//"):
        raise HomenodeError(f"{uri!r} names no host", hint="xen+ssh://[user@]host[:port]/")
    return XenDriver(SshGateway(rest[2:].rstrip("/")), uri=uri)
