"""A cell of a sweep: one replay, what it is known by, and what came of it."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

from homenode import __version__
from homenode.fleet.bounds import Bounds
from homenode.fleet.hosts import OverCommit
from homenode.fleet.policies import fleet_policy
from homenode.fleet.reading.rules import Rules
from homenode.fleet.replay import Outcome


class Cell(NamedTuple):
    """One replay: all that its result hangs on, and where the files of it are.

    The digests are SHA-256 in hexadecimal: of the trace's file (`digest_of`), and of all that the
    fleet's tells (`plan_of`). `over_commit` is in place of the fleet's own (None: that one). With
    `stay` nobody ever goes: fill until full. `homenode` is the version that has to compute it.
    """

    trace: Path
    fleet: Path
    policy: str
    rules: Rules
    stay: bool
    over_commit: OverCommit | None
    trace_digest: str
    fleet_digest: str
    homenode: str = __version__

    @property
    def key(self) -> str:
        """What the cell is known by: equal for cells whose results have to be equal.

        Where the files are is not in it, nor what the policy is called, but its orders.
        """
        policy = fleet_policy(self.policy)
        known = {
            "homenode": self.homenode,
            "trace": self.trace_digest,
            "fleet": self.fleet_digest,
            "policy": [policy.host.order, policy.node.order, policy.node.admission],
            "rules": self.rules._asdict(),
            "stay": self.stay,
            "over_commit": self.over_commit and [str(each) for each in self.over_commit],
        }
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


class CellResult(NamedTuple):
    """What came of a cell.

    `trace` and `fleet` are what these are called, `guests` and `hosts` how many they have,
    `synthetic` the rules that supplied what the trace does not have, `over_commit` what was in
    force. `cpu_s` is the time that the replay took of a cpu, without reading files and bounds; None
    if the result is from a dataset, which only has what is the same each time.
    """

    cell: Cell
    trace: str
    guests: int
    synthetic: tuple[str, ...]
    fleet: str
    hosts: int
    over_commit: OverCommit
    outcome: Outcome
    bounds: Bounds
    cpu_s: float | None

    @property
    def decisions_per_s(self) -> float | None:
        """How many guests were placed or refused in a second."""
        decisions = self.outcome.placed + self.outcome.refused
        return decisions / self.cpu_s if self.cpu_s else None
