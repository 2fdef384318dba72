"""From a connection URI to the driver for it."""

from homenode.drivers.base import Driver
from homenode.errors import HomenodeError

_LATER = ("xen", "xen+ssh", "qemu", "qemu+ssh", "qemu+tls", "qemu+tcp", "qemu+unix", "test", "ch")
_SCHEMES = "sim:NAME, capture:PATH or local:///"


def driver_for(uri: str | None) -> Driver:
    """Return the driver for `uri` (``-c``, or ``HOMENODE_URI``).

    Raises `HomenodeError` for one that is malformed or not served yet.
    """
    if not uri:
        raise HomenodeError(
            "no host is named",
            hint=f"add -c URI or set HOMENODE_URI: {_SCHEMES}; -c sim:try is a host to try it on",
        )
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
    if scheme == "local" and rest.strip("/"):
        raise HomenodeError(f"{uri!r}: this machine is local:///", hint="nothing goes after it")
    if scheme not in ("sim", "capture", "local"):
        raise HomenodeError(f"{uri!r}: there is no scheme {scheme!r}", hint=f"there are {_SCHEMES}")
    return _driver(scheme, rest, uri)


def _driver(scheme: str, rest: str, uri: str) -> Driver:
    if scheme == "sim":
        from homenode.drivers.simulated import open_simulated  # noqa: PLC0415 - one of three

        return open_simulated(uri)
    if scheme == "capture":
        from homenode.drivers.capture import CaptureDriver  # noqa: PLC0415 - one of three

        return CaptureDriver(rest)
    from homenode.drivers.local import LocalDriver  # noqa: PLC0415 - one of three

    return LocalDriver()
