"""A host for the keeper's rule: its vcpus run as an ideal scheduler has them within their reach."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.keeper.rule import Ground, Key, Measured, Move, State, Watched, decide
from homenode.keeper.settings import Settings
from homenode.scheduler.fluid import Share, Wish, shared

NEAR = ((10, 16, 22, 22), (16, 10, 22, 22), (22, 22, 10, 16), (22, 22, 16, 10))
DEFAULT = Settings()
Load = Callable[[Key, float], float]


class Step(NamedTuple):
    at_s: float
    shares: Mapping[Key, Share]
    moves: tuple[Move, ...]


class Bench:
    """Four nodes of `cpus` cpus, and vcpus with a home each."""

    def __init__(self, homes, load: Load, *, cpus=2, settings=DEFAULT, others=None):
        self.homes = {key: NodeMap([home]) for key, home in homes.items()}
        self.load = load
        self.settings = settings
        nodes = range(len(NEAR))
        self.cpus = dict.fromkeys(nodes, cpus)
        self.ground = Ground(self.cpus, {one: dict(enumerate(NEAR[one])) for one in nodes})
        self.may = NodeMap(nodes)
        self.state = State()
        self.at: dict[Key, int | None] = {}
        self.now_s = 0.0
        self.others = others or {}
        self.steps: list[Step] = []

    def reach(self, key: Key) -> NodeMap:
        kept = self.state.vcpus.get(key)
        return self.may if kept is None or kept.reach is None else kept.reach

    def step(self) -> Step:
        self.now_s += self.settings.round_s
        wishes = [
            Wish(self.load(key, self.now_s), self.reach(key), self.at.get(key))
            for key in self.homes
        ]
        found = dict(zip(self.homes, shared(wishes, self.cpus), strict=True))
        self.at = {key: share.node for key, share in found.items()}
        watched = [
            Watched(key, self.homes[key], self.may, share.ran, share.waited, share.node)
            for key, share in found.items()
        ]
        measured = Measured(self.now_s, self.settings.round_s, watched, self.others)
        decision = decide(self.state, measured, self.ground, self.settings)
        self.state = decision.state
        self.steps.append(Step(self.now_s, found, decision.moves))
        return self.steps[-1]

    def run(self, seconds: float) -> "Bench":
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.step()
        return self

    def moves(self, *kinds: str) -> list[Move]:
        return [
            move for step in self.steps for move in step.moves if not kinds or move.kind in kinds
        ]

    def ran(self, since_s: float = 0.0) -> float:
        """Cpus that all vcpus had on average, after `since_s`."""
        late = [step for step in self.steps if step.at_s > since_s]
        return sum(share.ran for step in late for share in step.shares.values()) / len(late)

    def residency(self, since_s: float = 0.0) -> float:
        late = [step for step in self.steps if step.at_s > since_s]
        pairs = [(key, share) for step in late for key, share in step.shares.items()]
        home = sum(share.ran for key, share in pairs if share.node in self.homes[key])
        return home / sum(share.ran for _, share in pairs)


def vcpus(**homes: int) -> dict[Key, int]:
    """``vcpus(a=0, b=1)``: one vcpu of each guest, with its home."""
    return {(name, 0): home for name, home in homes.items()}


def busy(_key: Key, _at_s: float) -> float:
    return 1.0
