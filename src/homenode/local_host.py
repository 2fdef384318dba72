"""This machine as a host of libvirt's guests, without asking libvirt: what is decided on there.

For whoever libvirt itself waits for: to be asked back it would wait for ever.
"""

from collections.abc import Callable
from time import thread_time
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.claims import (
    PENDING_S,
    Claim,
    awaited,
    outstanding_huge_kib,
    outstanding_kib,
    unclaimed,
)
from homenode.drivers.linux_guests import running_guests
from homenode.drivers.trees import FolderTree, read_tree
from homenode.formats import sysfs
from homenode.guest import Guest, GuestRequest
from homenode.host import Host
from homenode.ledger import Ledger
from homenode.placement import Decision, View, place
from homenode.placement.policies import Policy
from homenode.rules.qemu_guest import with_commitments

LEDGER = "run/homenode/ledger.json"
WAIT_S = 12.0
"""How long to wait for others that decide, some 100 ms each; a guest is not kept waiting longer."""


class Question(NamedTuple):
    """A guest that is wanted, and the policy that decides where it goes."""

    request: GuestRequest
    policy: Policy


class Decided(NamedTuple):
    """A decision, what was decided on, and what could not be read of it."""

    decision: Decision
    request: GuestRequest
    host: Host
    doubts: tuple[str, ...] = ()


class LocalHost(NamedTuple):
    """The machine below `root`; `clock` gives seconds since the epoch."""

    root: str
    clock: Callable[[], float]

    @property
    def ledger(self) -> Ledger:
        """Its ledger."""
        boot = FolderTree(self.root).text("proc/sys/kernel/random/boot_id") or ""
        path = f"{self.root.rstrip('/')}/{LEDGER}"
        return Ledger(path, boot_id=boot.strip() or "unknown", clock=self.clock, wait_s=WAIT_S)

    def host(self) -> Host:
        """Return the machine as it is."""
        return sysfs.parse(read_tree(FolderTree(self.root)), source=self.root)

    def guests(self, host: Host) -> tuple[Guest, ...]:
        """Return the guests that run on it, as far as their files can be read."""
        return running_guests(host, root=self.root).guests

    def decide(self, asking: Callable[[Host], Question], ledger: Ledger) -> Decided:
        """Decide where a guest goes, and claim its memory there; only under the ledger's lock."""
        host = self.host()
        guests, doubts = running_guests(host, root=self.root)
        held = ledger.holding(guests)
        host = with_commitments(host, unclaimed(guests, held))
        request, policy = asking(host)
        claims = tuple(
            claim for claim in held if request.uuid is None or claim.uuid != request.uuid
        )
        others = tuple(guest for guest in guests if guest.uuid != request.uuid or not request.uuid)
        view = View(
            host,
            (*others, *awaited(claims, host, others)),
            outstanding_kib(claims, others),
            outstanding_huge_kib=outstanding_huge_kib(claims, others),
        )
        decision = place(view, request, policy, clock=thread_time)
        if decision.fits:
            last = max((guest.id or 0 for guest in guests), default=0)
            ledger.replace((*claims, _claim(request, decision, ledger, after_id=last)))
        return Decided(decision, request, host, doubts)


def nodes_of(decision: Decision) -> NodeMap:
    """Return all nodes that a decision names, for vcpus and for memory."""
    return decision.nodes | NodeMap(share.node for share in decision.memory)


def _claim(request: GuestRequest, decision: Decision, ledger: Ledger, *, after_id: int) -> Claim:
    shares: dict[int, int] = {}
    for share in decision.memory:
        shares[share.node] = shares.get(share.node, 0) + share.kib
    if request.uuid is None:
        # By its size it will be known, and that is the guest's own.
        extra = sum(shares.values()) - request.guest_memory_kib
        most = max(shares, key=lambda node: (shares[node], -node))
        shares[most] = max(0, shares[most] - extra)
    return Claim(
        request.uuid,
        request.name,
        request.vcpus,
        shares,
        ledger.boot_id,
        ledger.clock() + PENDING_S,
        page_kib=request.page_kib,
        after_id=after_id,
    )
