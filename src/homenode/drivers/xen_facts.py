"""What `homenode.doctor` looks at of a Xen host: what xl and a few files say, at next to no price.

It goes through the gateway, so another dom0 can be asked by ssh. What a command does not tell is
unknown; nothing is changed, and nothing is printed into Xen's log.
"""

import re

from homenode.doctor import XenFacts
from homenode.drivers.gateway import Gateway
from homenode.errors import HypervisorError
from homenode.formats import xl_conf, xl_info

_CONF = "/etc/xen/xl.conf"
_LIBRARIES = (
    "ls -d /usr/lib*/libxenlight.so.* /usr/lib*/*/libxenlight.so.* /usr/local/lib*/libxenlight.so.*"
)
_LIBRARY = re.compile(r"libxenlight\.so\.(\d+\.\d+)")
_LOCK_FILE = "/var/lock/xl"
_LOCKS = 'stat -L -c %i "$0" && cat /proc/locks'


def xen_facts(gateway: Gateway) -> XenFacts:
    """Return what there is to know of the host behind `gateway`."""
    conf = xl_conf.parse(_printed(gateway, "cat", _CONF))
    lock = conf.get("lockfile") or _LOCK_FILE
    return xen_facts_of(
        _printed(gateway, "xl", "info"),
        conf,
        libraries=_printed(gateway, "sh", "-c", _LIBRARIES),
        locks=_printed(gateway, "sh", "-c", _LOCKS, lock),
    )


def xen_facts_of(info: str, conf: dict[str, str], *, libraries: str, locks: str) -> XenFacts:
    """Return what the outputs tell: of ``xl info``, the names of libraries, and locked files.

    `locks` is the number of xl's lock file on a line, and /proc/locks after it.
    """
    head = xl_info.parse_head(info)
    claimed_mib = head.get("outstanding_claims", "")
    return XenFacts(
        command_line=head.get("xen_commandline"),
        conf=conf,
        version=head.get("xen_version"),
        tools=frozenset(_LIBRARY.findall(libraries)),
        scheduler=head.get("xen_scheduler"),
        claimed_kib=int(claimed_mib) << 10 if claimed_mib.isdecimal() else None,
        xl_held_by=_holder(locks),
    )


def _holder(locks: str) -> int | None:
    """Return who has a lock on the file whose number comes first.

    ``1: POSIX  ADVISORY  WRITE 3568 00:1a:1234 0 EOF``; who only waits has an arrow.
    """
    number, _, rest = locks.partition("\n")
    for line in rest.splitlines():
        words = line.split()
        held = len(words) >= 8 and words[1] != "->" and words[5].rpartition(":")[2] == number
        if held and words[4].isdecimal():
            return int(words[4])
    return None


def _printed(gateway: Gateway, *words: str) -> str:
    try:
        return gateway.run(words).stdout
    except HypervisorError:
        return ""
