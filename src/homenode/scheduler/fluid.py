"""An ideal scheduler without time slices: who gets how much of which node's cpus.

As good as a scheduler can be within the masks that it is given: a vcpu that could have a cpu of
its own on some node that it may use does not wait on another, and those on a node share its cpus
fairly, none more than one. It has no cost, no delay, and no preference but to stay where one was.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from homenode.bitmap import NodeMap


class Wish(NamedTuple):
    """A vcpu: the share of a cpu that it wants, the nodes that it may use, and where it was."""

    wants: float
    nodes: NodeMap
    was: int | None = None


class Share(NamedTuple):
    """What a vcpu got, and where; `waited` is what it wanted beyond that."""

    node: int | None
    ran: float
    waited: float


def shared(wishes: Sequence[Wish], cpus: Mapping[int, int]) -> tuple[Share, ...]:
    """Return what each vcpu gets of the nodes, which have so many `cpus`, in their order."""
    at = _seated(wishes, cpus)
    of_node: dict[int, list[int]] = {}
    for number, node in enumerate(at):
        if node is not None:
            of_node.setdefault(node, []).append(number)
    ran = [0.0] * len(wishes)
    for node, numbers in of_node.items():
        fair = _fair([wishes[number].wants for number in numbers], cpus[node])
        for number, got in zip(numbers, fair, strict=True):
            ran[number] = got
    return tuple(
        Share(node, got, max(0.0, wish.wants - got))
        for wish, node, got in zip(wishes, at, ran, strict=True)
    )


def _seated(wishes: Sequence[Wish], cpus: Mapping[int, int]) -> list[int | None]:
    """Return the node of each vcpu: those with the least choice first, then who gains moves."""
    wanted = dict.fromkeys(cpus, 0.0)
    at: list[int | None] = [None] * len(wishes)
    order = sorted(range(len(wishes)), key=lambda number: len(wishes[number].nodes))
    for number in order:
        wish = wishes[number]
        nodes = [node for node in wish.nodes if cpus.get(node)]
        if not nodes:
            continue
        node = wish.was
        if node not in nodes or wanted[node] + wish.wants > cpus[node]:
            node = min(nodes, key=lambda one: (wanted[one] / cpus[one], one))
        at[number] = node
        wanted[node] += wish.wants
    _relieve(wishes, cpus, at, wanted)
    return at


def _relieve(
    wishes: Sequence[Wish],
    cpus: Mapping[int, int],
    at: list[int | None],
    wanted: dict[int, float],
) -> None:
    """Move vcpus from overdrawn nodes to less drawn ones, as long as that evens them out."""
    for _ in range(len(wishes)):
        moved = False
        for number, wish in enumerate(wishes):
            here = at[number]
            if here is None or not wish.wants or wanted[here] <= cpus[here]:
                continue
            there = min(_others(wish, here, cpus), key=lambda one: wanted[one] / cpus[one],
                        default=None)  # fmt: skip
            if there is None:
                continue
            # It gains only if the other is less drawn with it than this one is now.
            if (wanted[there] + wish.wants) / cpus[there] < wanted[here] / cpus[here] - 1e-9:
                at[number] = there
                wanted[here] -= wish.wants
                wanted[there] += wish.wants
                moved = True
        if not moved:
            return


def _others(wish: Wish, here: int, cpus: Mapping[int, int]) -> Iterable[int]:
    return [node for node in wish.nodes if node != here and cpus.get(node)]


def _fair(wants: Sequence[float], cpus: int) -> list[float]:
    """Return max-min fair shares of `cpus` cpus, of which nobody gets more than one."""
    got = [0.0] * len(wants)
    left, waiting = float(cpus), len(wants)
    for number in sorted(range(len(wants)), key=lambda one: wants[one]):
        got[number] = min(wants[number], 1.0, left / waiting)
        left -= got[number]
        waiting -= 1
    return got
