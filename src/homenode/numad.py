"""Answering in numad's place: on which nodes a guest of so many vcpus and MiB is to start.

libvirt runs ``numad -w VCPUS:MIB`` for each guest with ``placement="auto"``, pins its vcpus to the
cpus of the nodes that are printed, and binds its memory to them (src/util/virnuma.c,
virNumaGetAutoPlacementAdvice(); src/qemu/qemu_process.c). Without an answer the guest does not
start. So whatever goes wrong here ends in an answer that lets it: all nodes.

With a note of the hook (`homenode.drivers.start_notes`) the guest is known, with its huge pages,
devices and wishes; without one by its size alone. Its memory is claimed before the answer is given:
the next guest that is asked about a second later counts with it.
"""

from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.drivers import start_notes
from homenode.drivers.start_notes import StartNotes
from homenode.errors import HomenodeError
from homenode.formats.libvirt_xml import DomainXml
from homenode.guest import GuestRequest
from homenode.host import Host
from homenode.local_host import LocalHost, Question, nodes_of
from homenode.placement.policies import DEFAULT, policy
from homenode.rules.qemu import overhead_kib

_SMALL_KIB = 4


class Advice(NamedTuple):
    """The nodes for a guest, and why; `fits` is whether they were chosen for it.

    `doubts` are of guests whose files could not be read: what they may still touch is not counted.
    """

    nodes: NodeMap
    reason: str
    fits: bool
    doubts: tuple[str, ...] = ()


def parse(text: str) -> start_notes.Asked:
    """Read ``VCPUS`` or ``VCPUS:MIB``; raises `HomenodeError` for anything else."""
    vcpus, colon, mib = text.partition(":")
    words = (vcpus, mib) if colon else (vcpus,)
    if not all(word.isascii() and word.isdecimal() and len(word) < 12 for word in words):
        raise HomenodeError(f"-w {text[:40]!r} is not VCPUS or VCPUS:MIB", hint="such as -w 4:8192")
    return start_notes.Asked(max(1, int(vcpus)), int(mib) if colon else None)


def advise(here: LocalHost, asked: start_notes.Asked) -> Advice:
    """Return where a guest that libvirt asks about should go, with its memory claimed there."""
    ledger, notes = here.ledger, StartNotes(here.root, here.clock)
    if notes.there_are_any:
        # What is imported to read one is, before others have to wait for it.
        import homenode.asking  # noqa: F401, PLC0415 - as in _question
    with ledger.lock():
        note = notes.take(asked)
        decided = here.decide(lambda host: _question(note, asked, host), ledger)
    decision, doubts = decided.decision, decided.doubts
    name = f"{note.name}: " if note is not None else ""
    if not decision.fits:
        return Advice(
            every_node(here.host()), f"{name}{decision.reason}", fits=False, doubts=doubts
        )
    return Advice(nodes_of(decision), f"{name}{decision.reason}", fits=True, doubts=doubts)


def _question(note: DomainXml | None, asked: start_notes.Asked, host: Host) -> Question:
    if note is not None:
        from homenode.asking import ask  # noqa: PLC0415 - it reads files of all kinds

        return Question(*ask(note, host)[:2])
    own_kib = (asked.mib or 0) << 10
    request = GuestRequest(
        "(asked of numad)",
        asked.vcpus,
        own_kib + overhead_kib(own_kib, _SMALL_KIB),
        guest_memory_kib=own_kib,
    )
    return Question(request, policy(DEFAULT))


def every_node(host: Host) -> NodeMap:
    """Return the nodes with cpus and memory."""
    with_memory = NodeMap(node.id for node in host.nodes if node.present_kib != 0)
    return host.nodes_of(host.cpu_map) & with_memory
