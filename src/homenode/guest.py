"""Guests: those that run (`Guest`), and the one that is wanted (`GuestRequest`).

Both are hypervisor-neutral; `homenode.rules` makes requests out of the hypervisors' own files.
"""

from typing import Literal, NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.host import NodeKind

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
    """A virtual NUMA node of a guest: its vcpus, its memory, and where it shall lie if said.

    `distances` is a row of the guest's own table of distances, in the order of its virtual nodes;
    empty if it has none. `page_kib` is the size of its pages, None for that of the guest.
    """

    id: int
    vcpus: CpuMap
    memory_kib: int
    distances: tuple[int, ...] = ()
    node: int | None = None
    page_kib: int | None = None


class Guest(NamedTuple):
    """A guest as it runs. None is unknown, never 0.

    `memory_kib` is what it has now, `awaited_kib` what the hypervisor has set aside for it while
    it is being built, `max_memory_kib` what it may grow to. `node_affinity` is
    where new memory of it comes from. `exclusive` guests have the cpus of their hard affinity
    for themselves. `held` are the nodes whose cpus homenode holds it to by hard affinity, None
    where the hard affinity is not homenode's, and `replaced` the hard masks that come back when it
    lets go (none: any cpu); `held_by_default` is whether nobody asked for that. `kept` is whether
    the keeper has set hard masks, and `replaced` then has what comes back. `devices` are the
    addresses of the host's devices that it has, as far as that is told. Identity is
    (uuid, generation): ids are reused.
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
    held_by_default: bool = False
    kept: bool = False
    devices: tuple[str, ...] = ()

    @property
    def is_control(self) -> bool:
        """Whether this is Xen's dom0, which is a guest without a placement."""
        return self.id == 0


class ExplicitNodes(NamedTuple):
    """Nodes that the user named, and by which setting (``nodes``, ``cpus_soft``...)."""

    nodes: NodeMap
    setting: str


class NearDevice(NamedTuple):
    """A device that the guest has or works with, and the node it hangs on.

    `required`: the node has to be one of the guest's cpu nodes; else being near it is preferred.
    """

    address: str
    node: int
    required: bool = False


TierKind = NodeKind | Literal["any"]


class Tier(NamedTuple):
    """Memory wanted from nodes without cpus of one kind (``any``: all but HBM and GPUs')."""

    kind: TierKind
    kib: int


class GuestRequest(NamedTuple):
    """A guest that is wanted, as the decision sees it.

    `memory_kib` is all that has to be found on the nodes, the hypervisor's overhead included;
    `guest_memory_kib` is the guest's own part of it. `hard` and `soft` have one map for each
    vcpu, or are empty for "any cpu". `explicit` nodes are not searched, only checked;
    `node_count` fixes how many are. `whole_cores`: a physical core for each vcpu.
    `exclusive`: cpus that no other guest is pinned to, and a pin for each vcpu.

    `page_kib` above the ordinary size are huge pages, which come from the pools of the nodes.
    `excluded` nodes give neither cpus nor memory; nor do those where the guests named in
    `apart_from` are. Where the cpu nodes have too little memory, `spill` lets the rest come from
    nodes without cpus; `tier` is memory that is wanted from such nodes anyway. `split`: if it fits
    no single node, the guest is to be given virtual nodes.
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
    devices: tuple[NearDevice, ...] = ()
    excluded: NodeMap = NodeMap()
    apart_from: tuple[str, ...] = ()
    spill: bool = False
    tier: Tier | None = None
    split: bool = False
    max_memory_kib: int | None = None
