"""What would make a guest fit that does not: small changes, each verified by placing it again."""

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from homenode.bitmap import NodeMap
from homenode.guest import Guest, GuestRequest
from homenode.placement.decision import Remedy
from homenode.placement.policies import Policy
from homenode.placement.problem import prepare, suitable_cpus
from homenode.placement.search import Search
from homenode.placement.view import View
from homenode.units import format_memory


def remedies_for(view: View, request: GuestRequest, policy: Policy) -> Iterator[Remedy]:
    """Yield changes that make the guest fit, each verified by placing it again.

    One change of each kind, and of each kind the smallest: nodes to allow, memory to free and
    whose, memory or vcpus to give up; if no single one suffices, vcpus and memory together.
    """
    if request.explicit is not None:
        yield from _let_go(view, request, policy)
        # Explicit nodes are checked for memory alone; the user may want few cpus.
        held = (view.host.cpus_of(request.explicit.nodes),)
        bound = request._replace(explicit=None, hard=held, vcpus=1)
        yield from _without_guests(view, bound, policy)
        yield from _less_memory(view, bound, policy)
        return
    found = [
        *_wider(view, request, policy),
        *_without_guests(view, request, policy),
        *_fewer_vcpus(view, request, policy),
        *_less_memory(view, request, policy),
    ]
    yield from found or _smaller_altogether(view, request, policy)


def _fits(view: View, request: GuestRequest, policy: Policy) -> NodeMap | None:
    """Return the nodes of the guest placed again, or None."""
    problem = prepare(view, request, as_libxl=policy.admission == "libxl")
    found = Search(problem, policy).find()
    return None if found.chosen is None else problem.nodes(found.chosen)


def _let_go(view: View, request: GuestRequest, policy: Policy) -> Iterator[Remedy]:
    assert request.explicit is not None  # noqa: S101 - for the type checker
    nodes = _fits(view, request._replace(explicit=None), policy)
    if nodes is not None:
        setting = request.explicit.setting
        yield Remedy("nodes", f"leave the choice to homenode ({setting}): node {nodes}", nodes)


def _wider(view: View, request: GuestRequest, policy: Policy) -> Iterator[Remedy]:
    for changed, kind, text in _loosened(view, request):
        nodes = _fits(view, changed, policy)
        if nodes is not None:
            yield Remedy(kind, f"{text}: node {nodes}", nodes)


def _loosened(
    view: View, request: GuestRequest
) -> Iterator[tuple[GuestRequest, Literal["nodes", "options"], str]]:
    if request.node_count is not None:
        text = f"allow another number of nodes than {request.node_count}"
        yield request._replace(node_count=None), "nodes", text
    if request.hard:
        held = view.host.nodes_of(suitable_cpus(view, request))
        yield request._replace(hard=()), "nodes", f"allow more than node {held} in cpus="
    if request.whole_cores:
        yield request._replace(whole_cores=False), "options", "do without whole cores"
    if request.exclusive:
        yield request._replace(exclusive=False), "options", "do without exclusive cpus"
    for pool in view.host.pools:
        if pool.name != view.host.pool(request.pool).name:
            text = f"create it in cpupool {pool.name}"
            yield request._replace(pool=pool.name), "nodes", text


def _without_guests(view: View, request: GuestRequest, policy: Policy) -> Iterator[Remedy]:
    """Free memory: the smallest guest whose going suffices, else the fewest, largest first."""
    movable = [
        guest
        for guest in view.guests
        if not guest.is_control and guest.memory_by_node is not None and guest.memory_by_node.kib
    ]
    movable.sort(key=_memory_kib)
    for guest in movable:
        nodes = _fits(without(view, [guest]), request, policy)
        if nodes is not None:
            yield Remedy("guest", f"stop or move {_named([guest])}: node {nodes}", nodes)
            return
    gone: list[Guest] = []
    for guest in reversed(movable):
        gone.append(guest)
        nodes = _fits(without(view, gone), request, policy)
        if nodes is not None:
            needed = _all_needed(view, gone, request, policy)
            nodes = _fits(without(view, needed), request, policy)
            assert nodes is not None  # noqa: S101 - each left out was tried
            yield Remedy("guest", f"stop or move {_named(needed)}: node {nodes}", nodes)
            return


def _all_needed(
    view: View, gone: list[Guest], request: GuestRequest, policy: Policy
) -> list[Guest]:
    needed = list(gone)
    for guest in gone:
        fewer = [other for other in needed if other is not guest]
        if fewer and _fits(without(view, fewer), request, policy) is not None:
            needed = fewer
    return needed


def _memory_kib(guest: Guest) -> int:
    return sum(guest.memory_by_node.kib.values()) if guest.memory_by_node else 0


def _named(guests: Sequence[Guest]) -> str:
    return ", ".join(
        f"{guest.name} ({format_memory(_memory_kib(guest))} on node "
        f"{NodeMap(guest.memory_by_node.kib if guest.memory_by_node else ())})"
        for guest in guests
    )


def without(view: View, gone: Sequence[Guest]) -> View:
    """Return the view as it would be if those guests were gone and their memory free."""
    freed: dict[int, int] = {}
    for guest in gone:
        for node, kib in guest.memory_by_node.kib.items() if guest.memory_by_node else ():
            freed[node] = freed.get(node, 0) + kib
    nodes = [
        node._replace(
            free_kib=None if node.free_kib is None else node.free_kib + freed.get(node.id, 0)
        )
        for node in view.host.nodes
    ]
    left = tuple(guest for guest in view.guests if guest not in gone)
    return view._replace(host=view.host.replace(nodes=nodes), guests=left)


def _fewer_vcpus(view: View, request: GuestRequest, policy: Policy) -> Iterator[Remedy]:
    vcpus = _most(request.vcpus - 1, lambda some: request._replace(vcpus=some), view, policy)
    if vcpus:
        nodes = _fits(view, request._replace(vcpus=vcpus), policy)
        assert nodes is not None  # noqa: S101 - just found to fit
        text = f"drop {request.vcpus - vcpus} of {request.vcpus} vcpus: node {nodes}"
        yield Remedy("vcpus", text, nodes)


def _less_memory(view: View, request: GuestRequest, policy: Policy) -> Iterator[Remedy]:
    kib = _most_memory(view, request, policy)
    if kib:
        nodes = _fits(view, request._replace(memory_kib=kib), policy)
        assert nodes is not None  # noqa: S101 - just found to fit
        short = format_memory(request.memory_kib - kib)
        text = f"free {short} on node {nodes}, or give the guest {short} less"
        yield Remedy("memory", text, nodes)


def _smaller_altogether(view: View, request: GuestRequest, policy: Policy) -> Iterator[Remedy]:
    bare = request._replace(memory_kib=0)
    vcpus = _most(request.vcpus, lambda some: bare._replace(vcpus=some), view, policy)
    if not vcpus:
        return
    narrow = request._replace(vcpus=vcpus)
    kib = _most_memory(view, narrow, policy)
    nodes = _fits(view, narrow._replace(memory_kib=kib), policy) if kib else None
    if nodes is not None:
        short = format_memory(request.memory_kib - kib)
        text = f"drop {request.vcpus - vcpus} vcpus and {short} of memory: node {nodes}"
        yield Remedy("shrink", text, nodes)


def _most_memory(view: View, request: GuestRequest, policy: Policy) -> int:
    """Return the most memory, in whole MiB, with which the guest fits; 0 if with none."""
    mib = _most(
        (request.memory_kib - 1) // 1024,
        lambda some: request._replace(memory_kib=some * 1024),
        view,
        policy,
    )
    return mib * 1024


def _most(most: int, changed: Callable[[int], GuestRequest], view: View, policy: Policy) -> int:
    # Fitting is monotone: what fits with more fits with less. The largest number that fits.
    fits, fails = 0, most + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if _fits(view, changed(middle), policy) is None:
            fails = middle
        else:
            fits = middle
    return fits
