"""From a connection URI to the driver for it."""

import os

from homenode.drivers.base import Driver
from homenode.errors import HomenodeError

_LATER = ("qemu", "qemu+ssh", "qemu+tls", "qemu+tcp", "qemu+unix", "test", "ch")
_SCHEMES = "xen:///, xen+ssh://[user@]host/, sim:NAME, capture:PATH or local:///"
_NOTHING_AFTER = {
    "local": "this machine is local:///",
    "xen": "this dom0 is xen:///, another one xen+ssh://[user@]host/",
}
_CAPABILITIES = "/proc/xen/capabilities"


def driver_for(uri: str | None) -> Driver:
    """Return the driver for `uri` (``-c``, or ``HOMENODE_URI``); without one, this dom0's.

    Raises `HomenodeError` for one that is malformed or not served yet.
    """
    if not uri:
        if not is_dom0():
            raise HomenodeError(
                "no host is named, and this is no Xen dom0",
                hint=f"add -c URI or set HOMENODE_URI: {_SCHEMES}; -c sim:try is one to try it on",
            )
        uri = "xen:///"
    scheme, colon, rest = uri.partition(":")
    if not colon:
        raise HomenodeError(
            f"{uri!r} is no connection URI", hint=f"a file or folder is named as capture:{uri}"
        )
    if scheme in _LATER:
        raise HomenodeError(
            f"{uri}: {scheme} hosts are not served yet", hint=f"there are {_SCHEMES}"
        )
    if scheme == "capture" and not rest:
        raise HomenodeError(f"{uri!r} names no file", hint="write capture:PATH")
    if scheme in _NOTHING_AFTER and rest.strip("/"):
        raise HomenodeError(f"{uri!r}: {_NOTHING_AFTER[scheme]}", hint="nothing goes after it")
    if scheme not in ("sim", "capture", "local", "xen", "xen+ssh"):
        raise HomenodeError(f"{uri!r}: there is no scheme {scheme!r}", hint=f"there are {_SCHEMES}")
    return _driver(scheme, rest, uri)


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
