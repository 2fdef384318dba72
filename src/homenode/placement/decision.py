"""The decision: where a guest goes, or why it goes nowhere."""

from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.guest import VirtualNode

Guarantee = Literal["bound", "preferred", "expected"]


class MemoryShare(NamedTuple):
    """The part of a guest's memory that comes from one node, and how sure that is."""

    node: int
    kib: int
    page_kib: int
    guarantee: Guarantee


class VcpuAffinity(NamedTuple):
    """The masks of a run of vcpus (``0-3``); None is "any cpu"."""

    vcpus: str
    hard: CpuMap | None
    soft: CpuMap | None


class Warned(NamedTuple):
    """Something that the user should know: a stable code and a sentence."""

    code: str
    text: str


class Candidate(NamedTuple):
    """Cpu nodes that can hold the guest, the memory shares there, and the facts that rank it.

    Facts are those of `homenode.placement.facts.FACTS`, as people read them: name and number.
    """

    nodes: NodeMap
    memory: tuple[MemoryShare, ...]
    facts: tuple[tuple[str, int | float], ...]


class Rejected(NamedTuple):
    """Nodes that were not chosen, and why."""

    nodes: NodeMap
    reason: str


class Gap(NamedTuple):
    """How far a decision may be from the best: the first fact in which it and the bound differ."""

    fact: str
    value: str
    bound: str


class Remedy(NamedTuple):
    """A change that would make the guest fit, verified by placing it again."""

    kind: Literal["memory", "guest", "vcpus", "nodes", "shrink", "options"]
    text: str
    nodes: NodeMap


class Decision(NamedTuple):
    """Where the guest goes (`fits`), or why it goes nowhere.

    `optimal` is False if the time was up before the proof; `gap` then says how far it may be off.
    `virtual_nodes` are the guest's, each with its node if it has one of its own.
    """

    guest: str
    policy: str
    fits: bool
    optimal: bool
    nodes: NodeMap
    memory: tuple[MemoryShare, ...]
    vcpus: tuple[VcpuAffinity, ...]
    memory_needed_kib: int
    reason: str
    facts: tuple[tuple[str, int | float], ...] = ()
    virtual_nodes: tuple[VirtualNode, ...] = ()
    gap: Gap | None = None
    warnings: tuple[Warned, ...] = ()
