"""Guests: those that run (`Guest`), and the one that is wanted (`GuestRequest`).

Both are hypervisor-neutral; `homenode.rules` makes requests out of the hypervisors' own files.
"""

from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap, NodeMap

GuestState = Literal["building", "running", "paused", "dying"]


class Vcpu(NamedTuple):
    """One vcpu of a running guest, with its masks as the hypervisor states them.

    `cpu` is where it was last seen; None for an offline vcpu or where nobody says.
    """

    id: int
    hard: CpuMap
    soft: CpuMap
    cpu: int | None = None
    time_ns: int | None = None
    online: bool = True


class MemoryByNode(NamedTuple):
    """Where a guest's memory lies: KiB by node number (nodes with none left out), and its source.

    `taken_at` is in seconds since the epoch, None if unknown (a file).
    """

    kib: dict[int, int]
    source: str
    taken_at: float | None = None


class VirtualNode(NamedTuple):
    """A virtual NUMA node of a guest: its vcpus, its memory, and where it shall lie if said."""

    id: int
    vcpus: CpuMap
    memory_kib: int
    distances: tuple[int, ...] = ()
    node: int | None = None


class Guest(NamedTuple):
    """A guest as it runs. None is unknown, never 0.

    `memory_kib` is what it has now, `awaited_kib` what the hypervisor has set aside for it while
    it is being built, `max_memory_kib` what it may grow to. `node_affinity` is
    where new memory of it comes from. `exclusive` guests have the cpus of their hard affinity
    for themselves. `held` are the nodes whose cpus homenode holds it to by hard affinity, None
    where the hard affinity is not homenode's, and `replaced` the hard masks that come back when it
    lets go (none: any cpu). Identity is (uuid, generation): ids are reused.
    """

    name: str
    vcpus: tuple[Vcpu, ...] = ()
    id: int | None = None
    uuid: str | None = None
    generation: int = 0
    type: str | None = None
    state: GuestState = "running"
    memory_kib: int | None = None
    max_memory_kib: int | None = None
    memory_by_node: MemoryByNode | None = None
    node_affinity: NodeMap | None = None
    pool: str | None = None
    virtual_nodes: tuple[VirtualNode, ...] = ()
    page_kib: int = 4
    exclusive: bool = False
    awaited_kib: int = 0
    held: NodeMap | None = None
    replaced: tuple[CpuMap, ...] = ()

    @property
    def is_control(self) -> bool:
        """Whether this is Xen's dom0, which is a guest without a placement."""
        return self.id == 0


class ExplicitNodes(NamedTuple):
    """Nodes that the user named, and by which setting (``nodes``, ``cpus_soft``...)."""

    nodes: NodeMap
    setting: str


class GuestRequest(NamedTuple):
    """A guest that is wanted, as the decision sees it.

    `memory_kib` is all that has to be found on the nodes, the hypervisor's overhead included;
    `guest_memory_kib` is the guest's own part of it. `hard` and `soft` have one map for each
    vcpu, or are empty for "any cpu". `explicit` nodes are not searched, only checked;
    `node_count` fixes how many are. `whole_cores`: a physical core for each vcpu.
    `exclusive`: cpus that no other guest is pinned to, and a pin for each vcpu.
    """

    name: str
    vcpus: int
    memory_kib: int
    guest_memory_kib: int = 0
    uuid: str | None = None
    type: str | None = None
    pool: str | None = None
    hard: tuple[CpuMap, ...] = ()
    soft: tuple[CpuMap, ...] = ()
    explicit: ExplicitNodes | None = None
    node_count: int | None = None
    policy: str | None = None
    virtual_nodes: tuple[VirtualNode, ...] = ()
    page_kib: int = 4
    whole_cores: bool = False
    exclusive: bool = False
    device_nodes: NodeMap = NodeMap()
    max_memory_kib: int | None = None
