"""What would make a guest fit that does not: small changes, each verified by placing it again.

Without a fixed number of nodes a guest fits as soon as all nodes in question hold it together,
so most of what is tried costs a sum; the search only says where it would go.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from homenode.bitmap import NodeMap
from homenode.guest import Guest, GuestRequest
from homenode.host import ORDINARY_PAGE_KIB
from homenode.placement.deciding import TIME_LIMIT_S, place
from homenode.placement.decision import Remedy
from homenode.placement.policies import Policy
from homenode.placement.problem import prepare, suitable_cpus
from homenode.placement.search import Search
from homenode.placement.view import View, usable_kib
from homenode.placement.weights import Weights
from homenode.units import format_memory, format_page

Kind = Literal["nodes", "options"]

_LONGEST = 40
"""Characters of a guest's name that a sentence has room for."""


def remedies_for(
    view: View,
    request: GuestRequest,
    policy: Policy,
    *,
    clock: Callable[[], float] | None = None,
) -> Iterator[Remedy]:
    """Yield changes that make the guest fit.

    One of each kind, and of each kind the smallest: nodes or options to allow, guests to stop
    and what memory that frees, vcpus to drop, memory to free or to do without; if no single one
    suffices, vcpus and memory together. With a `clock` (seconds) each placement that is tried
    takes at most `TIME_LIMIT_S`.
    """
    trial = _Trial(view, request, policy, clock)
    found = [*trial.looser(), *trial.fewer_guests(), *trial.fewer_vcpus(), *trial.less_memory()]
    yield from found or trial.smaller_altogether()


class _Trial:
    def __init__(
        self,
        view: View,
        request: GuestRequest,
        policy: Policy,
        clock: Callable[[], float] | None,
    ) -> None:
        self.view = view
        self.request = request
        self.policy = policy
        self.clock = clock
        self.problem = prepare(view, request, as_libxl=policy.admission == "libxl")

    def again(self, request: GuestRequest, view: View | None = None) -> NodeMap | None:
        """Return the nodes of the guest placed again, None if it does not fit."""
        decision = place(
            view or self.view, request, self.policy, clock=self.clock, time_limit_s=TIME_LIMIT_S
        )
        memory = NodeMap(share.node for share in decision.memory)
        return decision.nodes | memory if decision.fits else None

    # -- nodes and options to allow --

    def looser(self) -> Iterator[Remedy]:
        for changed, kind, text in self._loosened():
            nodes = self.again(changed)
            if nodes is not None:
                yield Remedy(kind, f"{text}: {nodes.named}", nodes)

    def _loosened(self) -> Iterator[tuple[GuestRequest, Kind, str]]:
        for changed, text in self._other_nodes():
            yield changed, "nodes", text
        for changed, text in self._fewer_demands():
            yield changed, "options", text
        host = self.view.host
        for pool in host.pools:
            if pool.name != host.pool(self.request.pool).name:
                text = f"create it in cpupool {pool.name}"
                yield self.request._replace(pool=pool.name), "nodes", text

    def _other_nodes(self) -> Iterator[tuple[GuestRequest, str]]:
        request, host = self.request, self.view.host
        if request.explicit is not None:
            text = f"leave the choice to homenode, not {request.explicit.setting}"
            yield request._replace(explicit=None, soft=()), text
        if request.node_count is not None:
            text = f"allow another number of nodes than {request.node_count}"
            yield request._replace(node_count=None), text
        if request.hard and request.explicit is None:
            held = host.nodes_of(suitable_cpus(self.view, request))
            yield request._replace(hard=()), f"allow more than {held.named} in cpus="
        if request.excluded:
            yield request._replace(excluded=NodeMap()), f"allow {request.excluded.named} as well"
        if request.apart_from:
            others = ", ".join(name[:_LONGEST] for name in request.apart_from)
            yield request._replace(apart_from=()), f"let it share nodes with {others}"

    def _fewer_demands(self) -> Iterator[tuple[GuestRequest, str]]:
        request = self.request
        if any(device.required for device in request.devices):
            near = tuple(device._replace(required=False) for device in request.devices)
            yield request._replace(devices=near), "only prefer to be near its devices"
        if request.page_kib > ORDINARY_PAGE_KIB:
            text = f"do without pages of {format_page(request.page_kib)}"
            yield request._replace(page_kib=4), text
        if request.tier is not None:
            yield request._replace(tier=None), f"do without {request.tier.kind} memory"
        if request.whole_cores:
            yield request._replace(whole_cores=False), "do without whole cores"
        if request.exclusive:
            yield request._replace(exclusive=False), "do without exclusive cpus"

    # -- guests to stop or move --

    def fewer_guests(self) -> Iterator[Remedy]:
        movable = [guest for guest in self.view.guests if not guest.is_control and _helps(guest)]
        movable.sort(key=_memory_kib)
        gone = self._smallest(movable) or self._few(movable)
        nodes = self.again(self.request, self.view.without(gone)) if gone else None
        if nodes is not None:
            yield Remedy("guest", f"stop or move {_named(gone)}: {nodes.named}", nodes)

    def _smallest(self, movable: Sequence[Guest]) -> list[Guest]:
        return next(([guest] for guest in movable if self._frees_enough([guest])), [])

    def _few(self, movable: Sequence[Guest]) -> list[Guest]:
        # The largest first until it is enough, and then none that is not needed.
        gone: list[Guest] = []
        for guest in reversed(movable):
            gone.append(guest)
            if self._frees_enough(gone):
                break
        else:
            return []
        for guest in sorted(gone, key=_memory_kib):
            fewer = [other for other in gone if other is not guest]
            if self._frees_enough(fewer):
                gone = fewer
        return gone

    def _frees_enough(self, gone: Sequence[Guest]) -> bool:
        request, view, problem = self.request, self.view, self.problem
        cpus_too = request.exclusive or any(guest.exclusive for guest in gone)
        apart = {guest.name for guest in gone} & set(request.apart_from)
        promised = any(view.owed_kib(node, request.page_kib) for node in problem.ids)
        if cpus_too or apart or promised or request.spill or not self._adds_up:
            return self.again(request, view.without(gone)) is not None
        nodes = {node.id: node for node in view.nodes_without(gone)}
        memory = [
            usable_kib(nodes[node], request.page_kib, as_libxl=problem.as_libxl)
            for node in problem.ids
        ]
        changed = problem._replace(memory=Weights(memory), unclaimed=tuple(memory))
        return changed.fits(changed.everything)

    @property
    def _adds_up(self) -> bool:
        # Whether the guest fits somewhere exactly if it fits on all nodes together.
        free = self._is_free(self.request) and self.request.node_count is None
        return free and not self.problem.claimed

    @staticmethod
    def _is_free(request: GuestRequest) -> bool:
        # Whether which nodes it gets, and what of each, follows from its vcpus and memory alone.
        beyond_cpus = request.split or request.tier is not None
        return request.explicit is None and not request.virtual_nodes and not beyond_cpus

    # -- a smaller guest --

    def fewer_vcpus(self) -> Iterator[Remedy]:
        wanted = self.request.vcpus
        if self.request.virtual_nodes:
            return  # they say which vcpus there are
        vcpus = self._most(wanted - 1, lambda some: self.request._replace(vcpus=some))
        nodes = self.again(self.request._replace(vcpus=vcpus)) if vcpus else None
        if nodes is not None:
            yield Remedy("vcpus", f"drop {wanted - vcpus} of {wanted} vcpus: {nodes.named}", nodes)

    def less_memory(self) -> Iterator[Remedy]:
        request = self.request
        kib = self._most_memory(request)
        nodes = self.again(self._with_memory(request, kib)) if kib else None
        if nodes is None:
            return
        yield from self._memory_to_free(nodes)
        short_kib = request.memory_kib - kib
        if short_kib < request.guest_memory_kib // 2:
            text = f"give the guest {format_memory(short_kib)} less: {nodes.named}"
            yield Remedy("shrink", text, nodes)

    def _memory_to_free(self, nodes: NodeMap) -> Iterator[Remedy]:
        # On the first node where that helps; whole pieces can make it more than what is short.
        unit_kib = max(1024, self.request.page_kib)
        for node in nodes:
            most = min(self.request.memory_kib // unit_kib + 1, self._to_free_kib(node) // unit_kib)
            if not self._fits_with_free(node, most * unit_kib):
                continue
            kept = _largest(most, lambda kept: self._fits_with_free(node, (most - kept) * unit_kib))  # noqa: B023 - used at once
            kib = (most - kept) * unit_kib
            found = self.again(self.request, self._with_free(node, kib))
            if found is not None:
                text = f"{self._freeing(kib)} on node {node}: {found.named}"
                yield Remedy("memory", text, found)
                return

    def _freeing(self, kib: int) -> str:
        page_kib = self.request.page_kib
        if page_kib <= ORDINARY_PAGE_KIB:
            return f"free {format_memory(kib)}"
        return f"make {kib // page_kib} more pages of {format_page(page_kib)}"

    def _to_free_kib(self, node: int) -> int:
        # More than is taken of a node cannot be freed there; huge pages are made of what is free.
        there = self.view.host.nodes_by_id[node]
        if self.request.page_kib > ORDINARY_PAGE_KIB:
            return there.usable_kib or 0
        if there.present_kib is None or there.free_kib is None:
            return 0
        return max(0, there.present_kib - there.free_kib)

    def _with_free(self, node: int, kib: int) -> View:
        return self.view.with_free(node, kib, self.request.page_kib)

    def _fits_with_free(self, node: int, kib: int) -> bool:
        view = self._with_free(node, kib)
        if not self._adds_up:
            return self.again(self.request, view) is not None
        problem = prepare(view, self.request, as_libxl=self.policy.admission == "libxl")
        return problem.fits(problem.everything)

    def smaller_altogether(self) -> Iterator[Remedy]:
        request = self.request
        bare = self._with_memory(request, 0)
        vcpus = self._most(request.vcpus, lambda some: bare._replace(vcpus=some))
        if vcpus in (0, request.vcpus):
            return
        narrow = request._replace(vcpus=vcpus)
        kib = self._most_memory(narrow)
        nodes = self.again(self._with_memory(narrow, kib)) if kib else None
        if nodes is not None:
            short = format_memory(request.memory_kib - kib)
            text = f"drop {request.vcpus - vcpus} vcpus and {short} of memory: {nodes.named}"
            yield Remedy("shrink", text, nodes)

    def _most_memory(self, request: GuestRequest) -> int:
        """Return the most memory, in whole MiB, with which the guest fits; 0 if with none."""
        mib = self._most(
            (request.memory_kib - 1) // 1024, lambda some: self._with_memory(request, some * 1024)
        )
        return mib * 1024

    @staticmethod
    def _with_memory(request: GuestRequest, kib: int) -> GuestRequest:
        # Virtual nodes shrink alike; of a tier there is no more than there is memory.
        cells = tuple(
            cell._replace(memory_kib=cell.memory_kib * kib // max(1, request.memory_kib))
            for cell in request.virtual_nodes
        )
        own_kib = max(0, request.guest_memory_kib - (request.memory_kib - kib))
        tier = request.tier and request.tier._replace(kib=min(request.tier.kib, own_kib))
        return request._replace(
            memory_kib=kib, guest_memory_kib=own_kib, virtual_nodes=cells, tier=tier
        )

    def _most(self, most: int, changed: Callable[[int], GuestRequest]) -> int:
        return _largest(most, lambda some: self._fits(changed(some)))

    def _fits(self, request: GuestRequest) -> bool:
        if not self._is_free(request):
            return self.again(request) is not None
        problem = self.problem.asked(request)
        if self._adds_up:
            return problem.fits(problem.everything)
        found = Search(problem, self.policy).find(clock=self.clock, time_limit_s=TIME_LIMIT_S)
        return found.chosen is not None


def _largest(most: int, fits: Callable[[int], bool]) -> int:
    # Fitting is monotone: what fits with more fits with less. The largest number that fits, or 0.
    fitting, failing = 0, most + 1
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting


def _helps(guest: Guest) -> bool:
    return guest.exclusive or _memory_kib(guest) > 0 or any(vcpu.hard for vcpu in guest.vcpus)


def _memory_kib(guest: Guest) -> int:
    return sum(guest.memory_by_node.kib.values()) if guest.memory_by_node else 0


def _named(guests: Sequence[Guest]) -> str:
    return ", ".join(
        f"{guest.name[:_LONGEST]} ({format_memory(_memory_kib(guest))} on "
        f"{NodeMap(guest.memory_by_node.kib).named})"
        if guest.memory_by_node
        else f"{guest.name[:_LONGEST]} (its memory is unknown)"
        for guest in guests
    )
