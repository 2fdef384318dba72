"""A dom0 that has all the memory of the host until guests want it: one without ``dom0_mem=``.

Then nearly nothing is free, and what will be is nobody's to say: dom0 gives up pages from nodes of
its own choice. xl lets it (``autoballoon``) and places afterwards, on whatever came free; homenode
has it shrink first, looks, and decides then. It never goes below `LEAST_KIB`, where xl goes down
to 128 MiB and leaves dom0 there even if the guest does not fit.

Source: xl 4.17, tools/xl/xl.c, auto_autoballoon(); xl_vmcontrol.c, freemem().
"""

from time import monotonic, sleep

from homenode.bitmap import NodeMap
from homenode.drivers.base import Shrunk
from homenode.drivers.gateway import Gateway
from homenode.drivers.xl import Xl
from homenode.formats import xl_conf, xl_info, xl_list

LEAST_KIB = 1 << 20
"""What is left to dom0 at least: 1 GiB."""

STANDSTILL_S = 10.0
"""How long dom0 may stand still on its way before it is taken to have arrived."""

_PAUSE_S = 0.3
_CONF = "/etc/xen/xl.conf"
_OFF = ("off", "0")
_ON = ("on", "1")


class Dom0:
    """The control domain of the host behind `gateway`, as to its memory."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._xl = Xl(gateway)

    def balloons(self) -> bool:
        """Return whether xl would have dom0 give up memory for a guest."""
        conf = xl_conf.parse(self._gateway.run(["cat", _CONF]).stdout)
        told = conf.get("autoballoon", "").lower()
        if told in _OFF + _ON:
            return told in _ON
        head = xl_info.parse_head(self._xl("info"))
        options = head.get("xen_commandline", "").split()
        return not any(option.startswith("dom0_mem=") for option in options)

    def memory_kib(self) -> int:
        """Return what it has now."""
        (row,) = xl_list.parse_list(self._xl("list", "0"), nodes=NodeMap(), source="xl list 0")
        return row.memory_kib

    def set(self, kib: int) -> None:
        """Have it go for `kib`, without waiting."""
        self._xl("mem-set", "0", f"{kib}k")

    def shrink(self, kib: int) -> Shrunk | None:
        """Have it give up `kib`, or what it can, and wait; None if it may not give up any."""
        if not self.balloons():
            return None
        before_kib = self.memory_kib()
        wanted_kib = max(LEAST_KIB, before_kib - kib)
        if wanted_kib >= before_kib:
            return None
        self.set(wanted_kib)
        now_kib, since = before_kib, monotonic()
        while now_kib > wanted_kib and monotonic() - since < STANDSTILL_S:
            sleep(_PAUSE_S)
            earlier_kib, now_kib = now_kib, self.memory_kib()
            if now_kib < earlier_kib:
                since = monotonic()
        return Shrunk(before_kib, now_kib)
