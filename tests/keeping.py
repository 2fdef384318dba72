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
    home: Mapping[Key, float]
    moves: tuple[Move, ...]


class Bench:
    """Four nodes of `cpus` cpus, and vcpus with a home each.

    The loads are looked at `looks` times in each round. Kept are all, none (`hold` is none), or all
    are pinned to their homes (``pin``).
    """

    def __init__(
        self, homes, load: Load, *, cpus=2, settings=DEFAULT, others=None, looks=1, hold="keeper"
    ):
        self.looks = looks
        self.hold = hold
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
        if self.hold == "pin":
            return self.homes[key]
        kept = self.state.vcpus.get(key)
        return self.may if kept is None or kept.reach is None else kept.reach

    def step(self) -> Step:
        began_s = self.now_s
        self.now_s += self.settings.round_s
        found: dict[Key, Share] = {}
        home = dict.fromkeys(self.homes, 0.0)
        for look in range(1, self.looks + 1):
            self._ran(began_s + self.settings.round_s * look / self.looks, found, home)
        watched = [
            Watched(key, self.homes[key], self.may, share.ran, share.waited, share.node)
            for key, share in found.items()
        ]
        moves = ()
        if self.hold == "keeper":
            measured = Measured(self.now_s, self.settings.round_s, watched, self.others)
            decision = decide(self.state, measured, self.ground, self.settings)
            self.state, moves = decision.state, decision.moves
        self.steps.append(Step(self.now_s, found, home, moves))
        return self.steps[-1]

    def _ran(self, at_s: float, found: dict[Key, Share], home: dict[Key, float]) -> None:
        """Add what each vcpu does at a moment to what it does in this round."""
        wishes = [
            Wish(self.load(key, at_s), self.reach(key), self.at.get(key)) for key in self.homes
        ]
        for key, share in zip(self.homes, shared(wishes, self.cpus), strict=True):
            before = found.get(key, Share(None, 0.0, 0.0))
            ran, waited = share.ran / self.looks, share.waited / self.looks
            found[key] = Share(share.node, before.ran + ran, before.waited + waited)
            home[key] += ran if share.node in self.homes[key] else 0.0
            self.at[key] = share.node

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
        ran = sum(share.ran for step in late for share in step.shares.values())
        return sum(sum(step.home.values()) for step in late) / ran


def vcpus(**homes: int) -> dict[Key, int]:
    """``vcpus(a=0, b=1)``: one vcpu of each guest, with its home."""
    return {(name, 0): home for name, home in homes.items()}


def busy(_key: Key, _at_s: float) -> float:
    return 1.0
