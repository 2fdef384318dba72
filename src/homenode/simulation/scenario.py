"""What is compared: a host, guests that do work, and variants of how they are placed and run."""

from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.host import Host
from homenode.scheduler.codes import Kind
from homenode.scheduler.memory import Machine
from homenode.scheduler.models import Work
from homenode.scheduler.tasks import WEIGHT

AffinityKind = Literal["as-is", "none", "soft", "hard", "pinned"]
"""What becomes of a guest's home: nothing; the cpus that vcpus prefer, or are held to; one cpu of
it for each vcpu. ``as-is`` takes the masks that the guest has."""

AFFINITIES: tuple[AffinityKind, ...] = ("as-is", "none", "soft", "hard", "pinned")

MemoryKind = Literal["home", "striped", "as-is"]
"""Where memory lies: on the home, on all nodes alike, or where the guest has it."""

MEMORIES: tuple[MemoryKind, ...] = ("home", "striped", "as-is")

SchedulerKind = Literal["credit", "credit2", "ideal"]
SCHEDULERS: tuple[SchedulerKind, ...] = ("credit", "credit2", "ideal")


class Doing(NamedTuple):
    """What the vcpus of a guest do; times in nanoseconds, as in `homenode.scheduler.tasks.Task`.

    A CHAIN goes from the guest to the guest `then`, vcpu by vcpu, and back. Each vcpu begins with
    `in_flight` rounds: as many go around as the guests of a chain have together. SERVE
    has `clients` of the guest, who think for `think_ns`.
    """

    kind: Kind
    run_ns: int = 0
    sleep_ns: int = 0
    random: bool = True
    then: str | None = None
    in_flight: int = 1
    clients: int = 0
    think_ns: int = 0


class Masked(NamedTuple):
    """The masks of one vcpu as they are."""

    hard: CpuMap
    soft: CpuMap


class GuestPlan(NamedTuple):
    """A guest of the scenario.

    `nodes` is its home, None where a policy is to place it; `memory` what lies on which node as it
    is, empty if nobody says; `masks` are those of its vcpus as they are. `start_ns` is when it
    starts, None: within the first time slice, as the seed says.
    """

    name: str
    vcpus: int
    memory_kib: int
    doing: Doing
    work: Work
    nodes: NodeMap | None = None
    memory: tuple[tuple[int, float], ...] = ()
    masks: tuple[Masked, ...] = ()
    weight: int = WEIGHT
    cap: int = 0
    start_ns: int | None = None


class SchedulerChoice(NamedTuple):
    """A scheduler by name, with its version (credit) or arrangement of run queues (credit2)."""

    kind: SchedulerKind
    variant: str = ""
    options: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.variant}".strip()


class Change(NamedTuple):
    """What is different for one guest: its home and memory, its masks, or that it is not there."""

    guest: str
    kind: Literal["affinity", "hold", "free", "move", "without"]
    nodes: NodeMap | None = None


class Variant(NamedTuple):
    """A way to run the guests. `policy` places those that have no home; `keeper` is the keeper."""

    name: str
    scheduler: SchedulerChoice
    affinity: AffinityKind = "soft"
    memory: MemoryKind = "home"
    policy: str = ""
    keeper: bool = False
    changes: tuple[Change, ...] = ()


class Scenario(NamedTuple):
    """All that is to be simulated; every variant is run once with every seed."""

    name: str
    host: Host
    machine: Machine
    guests: tuple[GuestPlan, ...]
    variants: tuple[Variant, ...]
    duration_ns: int
    warmup_ns: int
    seeds: tuple[int, ...]
    cpus: CpuMap
