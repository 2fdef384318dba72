"""What the keeper tells: a line for people, or an object for programs, of each thing that happens.

============ ==========================================================================
event        what happened
============ ==========================================================================
start        the keeper begins; what else moves vcpus or memory here is named
hold         vcpus are held for the first time, at home or beyond
spread       vcpus may use another node as well
return       vcpus are held at home again
yield        vcpus left a node whose own starve
left-alone   a guest is not kept, and why
let-go       a mask was changed by somebody else, and is his from now on
release      masks are as they were before
trouble      something could not be done
stop         the keeper ends
============ ==========================================================================
"""

from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap, NodeMap

EventKind = Literal[
    "start", "hold", "spread", "return", "yield", "left-alone", "let-go", "release", "trouble",
    "stop",
]  # fmt: skip


class Event(NamedTuple):
    """One thing that happened, at `at` (seconds since the epoch).

    Of a change: the `vcpus` of `guest`, the `nodes` and `cpus` that they are held to now.
    `dry_run` is whether it only would happen.
    """

    at: float
    kind: EventKind
    text: str
    guest: str | None = None
    vcpus: CpuMap | None = None
    nodes: NodeMap | None = None
    cpus: CpuMap | None = None
    dry_run: bool = False

    def document(self) -> dict[str, object]:
        """Return its JSON form; version 1."""
        return {
            "version": 1,
            "at": self.at,
            "event": self.kind,
            "guest": self.guest,
            "vcpus": None if self.vcpus is None else str(self.vcpus),
            "nodes": None if self.nodes is None else list(self.nodes),
            "cpus": None if self.cpus is None else str(self.cpus),
            "text": self.text,
            "dry_run": self.dry_run,
        }

    def line(self) -> str:
        """Return it as a line for people."""
        if self.guest is None:
            return f"{self.kind}: {self.text}"
        if self.vcpus is None or self.nodes is None:
            return f"{self.kind}: {self.guest}: {self.text}"
        would = "would be " if self.dry_run else ""
        return (
            f"{self.kind}: {self.guest} vcpu {self.vcpus}: {would}held to {self.nodes.named}"
            f" (cpus {self.cpus}): {self.text}"
        )
