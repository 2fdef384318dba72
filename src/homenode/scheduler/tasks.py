"""What a simulation is given: cpus, and vcpus with their work. Numbers are dense, from 0."""

from collections.abc import Sequence
from typing import NamedTuple

from homenode.bitmap import CpuMap
from homenode.host import Host
from homenode.scheduler.codes import Kind

WEIGHT = 256
"""CSCHED_DEFAULT_WEIGHT, CSCHED2_DEFAULT_WEIGHT: xen/common/sched/credit.c, credit2.c."""


class Ground(NamedTuple):
    """The cpus of a host: the node, the core and the socket of each, numbered from 0.

    `cpu_ids` and `node_ids` are the hypervisor's numbers.
    """

    node: tuple[int, ...]
    core: tuple[int, ...]
    socket: tuple[int, ...]
    cpu_ids: tuple[int, ...]
    node_ids: tuple[int, ...]

    @property
    def cpus(self) -> int:
        """How many there are."""
        return len(self.node)

    @property
    def nodes(self) -> int:
        """How many nodes there are, those without cpus included."""
        return len(self.node_ids)

    def bits(self, cpus: CpuMap) -> int:
        """Return the set of those cpus in the numbers of the simulation."""
        return sum(1 << at for at, cpu in enumerate(self.cpu_ids) if cpu in cpus)


def ground(host: Host, cpus: CpuMap | None = None) -> Ground:
    """Return the online cpus of `host`, or those of them that are in `cpus` (a cpupool)."""
    wanted = host.cpu_map if cpus is None else host.cpu_map & cpus
    taken = [cpu for cpu in host.cpus if cpu.id in wanted and cpu.node is not None]
    node_ids = tuple(node.id for node in host.nodes)
    at_node = {node: at for at, node in enumerate(node_ids)}
    cores: dict[int, int] = {}
    for number, core in enumerate(host.cores):
        for cpu in core:
            cores[cpu] = number
    # A host that tells of no sockets is taken to have one for each node, as most have.
    sockets = [(0, cpu.socket) if cpu.socket is not None else (1, cpu.node) for cpu in taken]
    return Ground(
        tuple(at_node[cpu.node] for cpu in taken if cpu.node is not None),
        _dense([cores[cpu.id] for cpu in taken]),
        _dense(sockets),
        tuple(cpu.id for cpu in taken),
        node_ids,
    )


def _dense(values: Sequence[object]) -> tuple[int, ...]:
    numbers: dict[object, int] = {}
    return tuple(numbers.setdefault(value, len(numbers)) for value in values)


class Task(NamedTuple):
    """A vcpu and its work; times in nanoseconds of a cpu that it has for itself, memory at home.

    `hard` and `soft` are sets of the ground's cpus, as bits. By `kind`:

    - SPIN runs for ever.
    - CYCLE runs for `burst_ns`, sleeps for `sleep_ns`, and so on.
    - YIELD runs for `burst_ns`, yields, and so on.
    - CHAIN runs for `burst_ns`, then after `sleep_ns` wakes the vcpu `then`, and waits to be woken;
      `tokens` is how often it has been woken at the start.
    - SERVE runs for `burst_ns` for each request of `queue`, an index of the simulation's queues.
    - BATCH runs for `burst_ns`, and that is all.
    - IDLE does nothing.

    `random` is whether times are drawn from exponential distributions with those means.
    """

    guest: int
    hard: int
    soft: int
    kind: Kind
    burst_ns: int = 0
    sleep_ns: int = 0
    random: bool = False
    then: int = -1
    tokens: int = 0
    queue: int = -1
    start_ns: int = 0
    threads_yield: float = 1.0
    """What both threads of a core do together, as a multiple of what one does alone."""


class Queue(NamedTuple):
    """Requests that a guest serves: so many `clients`, who think for `think_ns` in the mean."""

    clients: int
    think_ns: int
    random: bool = True


class Share(NamedTuple):
    """What a guest is entitled to: its weight, and its cap in percent of a cpu (0: none)."""

    weight: int = WEIGHT
    cap: int = 0
