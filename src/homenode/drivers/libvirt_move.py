"""Moving a guest of libvirt with its memory to other nodes while it runs.

What was seen with libvirt 9.0, QEMU 7.2 and Linux 6.1 decides the way (``docs/kvm.md``):

- ``virsh numatune --live`` is refused but for ``restrictive``; for that it moves all pages before
  it returns, and returns 0 onto a node that is too small, where the kernel then kills the guest. So
  pages are moved first, by `page_mover`, which is refused instead.
- The kernel moves pages only to nodes that the control group of the process allows
  (``cpuset.mems``), which libvirt sets for ``strict`` and ``restrictive``: it is widened first.
  That moves nothing, and narrowing it in the end moves what is left, such as QEMU's own memory.
- Writing ``cpuset.mems`` makes the policy of a ``strict`` or ``interleave`` guest name the new
  nodes. ``prefer:2`` stays as it is, and takes the nearest node that is allowed.
- So memory that a guest has not touched yet comes from the new nodes if ``cpuset.mems`` has them
  alone, which is as hard as ``strict``. It stays so where the guest was bound before, or has memory
  left to touch, for which room was made sure of; else it is as wide again as it was.

libvirt is told by `virDomainSetNumaParameters` where it lets itself be told (``restrictive``); else
it goes on showing the nodes that the guest was started with.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from homenode.bitmap import NodeMap
from homenode.drivers.base import Masks, Moving
from homenode.drivers.cpuset import Cpuset
from homenode.drivers.page_mover import Moved, PageMover, Process, mappings_of
from homenode.drivers.trees import FolderTree
from homenode.errors import DoesNotFit, HomenodeError, Undone
from homenode.formats import numa_maps
from homenode.formats.numa_maps import Mapped
from homenode.guest import Guest
from homenode.placement.decision import Warned
from homenode.rules import moving as rules
from homenode.rules.qemu_guest import part_sizes_kib

if TYPE_CHECKING:
    from homenode.drivers.libvirt import LibvirtDriver

_RESTRICTIVE = "restrictive"


class _Move(NamedTuple):
    """One guest that is being moved, and what is done it with."""

    driver: "LibvirtDriver"
    guest: Guest
    process: Process
    own: tuple[Mapped, ...]
    shares: Mapping[int, int]
    groups: Cpuset
    restrictive: bool

    @property
    def has_more_to_touch(self) -> bool:
        """Whether the guest may have more memory than it has."""
        have_kib = sum(numa_maps.sum_kib(self.own).values())
        return have_kib < (self.guest.max_memory_kib or 0)

    def bind(self, nodes: NodeMap) -> None:
        """Allow memory from `nodes` alone; the kernel brings along what is left elsewhere."""
        if not self.restrictive:
            self.groups.write(nodes)
            return
        driver, wanted = self.driver, {"numa_nodeset": str(nodes)}
        domain, live = driver.domain(self.guest), driver.link.binding.VIR_DOMAIN_AFFECT_LIVE
        what = f"change the nodes of {self.guest.name!r}"
        driver.link.do(what, lambda: domain.setNumaParameters(wanted, live))


def moved(
    driver: "LibvirtDriver", guest: Guest, masks: Sequence[Masks], how: Moving
) -> tuple[Warned, ...]:
    """Pin the guest and move its memory; see `homenode.drivers.base.Driver.move`."""
    move = _prepared(driver, guest, how.shares or _anywhere(driver, guest, masks))
    known = _preflight(move)
    driver.pin(guest, masks)
    try:
        done, late = _pages(move, how)
    except BaseException as error:
        text = f"{str(error) or 'no page had moved yet'}{_put_back(move, masks)}"
        if isinstance(error, KeyboardInterrupt):
            raise type(error)(text) from None
        if isinstance(error, HomenodeError):
            raise Undone(f"{guest.name!r} is not moved: {text}") from None
        raise
    return (*known, *rules.remarks(done.moved_kib, done.stuck_kib, done.split), *late)


def _prepared(driver: "LibvirtDriver", guest: Guest, shares: Mapping[int, int]) -> _Move:
    number = driver.process_of(guest)
    if number is None:
        raise HomenodeError(
            f"{driver.uri}: the memory of {guest.name!r} can be moved on its own host only",
            hint="run homenode there, or --stay to change its pins alone",
        )
    process = Process.of(number, root=driver.root)
    config = driver.file_of(guest)
    stated = config.memory_nodes
    sizes = frozenset(part_sizes_kib(config))
    return _Move(
        driver,
        guest,
        process,
        numa_maps.of_guest(mappings_of(number, root=driver.root), sizes),
        shares,
        Cpuset(number, root=driver.root),
        restrictive=stated is not None and stated.mode == _RESTRICTIVE,
    )


def _anywhere(driver: "LibvirtDriver", guest: Guest, masks: Sequence[Masks]) -> dict[int, int]:
    host = driver.snapshot().host
    nodes = NodeMap.union(host.nodes_of(mask.hard) for mask in masks)
    size_kib = guest.max_memory_kib or guest.memory_kib or 0
    return dict.fromkeys(nodes, size_kib)


def _preflight(move: _Move) -> tuple[Warned, ...]:
    """Refuse what would end badly before the first page; return what to know beforehand."""
    tree = FolderTree(move.driver.root)
    asked = rules.Asked(
        move.guest.name,
        move.own,
        NodeMap(move.shares),
        pinned_kib=numa_maps.value_kib(move.process.text("status"), "VmPin"),
        transparent_kib=numa_maps.value_kib(move.process.text("smaps_rollup"), "AnonHugePages"),
        free_blocks=numa_maps.free_blocks(tree.text("proc/buddyinfo") or ""),
    )
    refusal = rules.refusal(asked, move.driver.snapshot().host)
    if refusal is not None:
        raise DoesNotFit(refusal.text, hint=refusal.hint)
    return rules.beforehand(asked)


def _pages(move: _Move, how: Moving) -> tuple[Moved, tuple[Warned, ...]]:
    target, bound = NodeMap(move.shares), move.groups.bound
    if bound is not None and not target <= bound:
        move.bind(target | bound)
    mover = PageMover(move.process, rate_kib_s=how.rate_kib_s, progress=how.progress)
    done = mover.move(move.own, move.shares)
    try:
        # What is QEMU's own comes along, too.
        move.bind(target)
        if bound is None and not move.has_more_to_touch:
            move.groups.put_back()
    except HomenodeError as error:
        # Its memory is there: that is not undone for what it may touch later.
        return done, (Warned("not-bound", f"later memory may come from elsewhere: {error}"),)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("its memory is moved, and stays there") from None
    return done, ()


def _put_back(move: _Move, masks: Sequence[Masks]) -> str:
    """Set back what was set before the pages; return what is to be said of it."""
    guest, left = move.guest, []
    try:
        move.groups.put_back()
    except HomenodeError as error:
        left.append(str(error))
    before = tuple(Masks(vcpu.hard, vcpu.soft) for vcpu in guest.vcpus)
    pairs = zip(guest.vcpus, masks, strict=True)
    now = guest._replace(vcpus=tuple(vcpu._replace(hard=mask.hard) for vcpu, mask in pairs))
    try:
        move.driver.pin(now, before)
    except HomenodeError as error:
        left.append(f"its pins are the new ones: {error}")
    return f"; but {'; '.join(left)}" if left else ", and its pins are set back"
