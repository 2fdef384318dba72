"""The keeper in a simulation: its rule, fed by what the simulator measures.

The rounds are those of `homenode.keeper.settings`, and the rule is the one that runs on real hosts.
Its masks are set at once, and cost nothing.
"""

from homenode.bitmap import NodeMap
from homenode.keeper.rule import Ground, Measured, State, Watched, decide
from homenode.keeper.settings import Settings
from homenode.scheduler.engine import Engine
from homenode.simulation.arranging import Arrangement
from homenode.simulation.scenario import Scenario


class Keeping:
    """A keeper of all guests; `next_ns` is when it looks next."""

    def __init__(
        self, scenario: Scenario, arranged: Arrangement, settings: Settings | None = None
    ) -> None:
        self._settings = Settings() if settings is None else settings
        self._arranged = arranged
        self._host = scenario.host
        self._nodes = arranged.ground.node_ids
        distances = {
            one: {other: scenario.host.distance(one, other) for other in self._nodes}
            for one in self._nodes
        }
        cpus = {
            node: sum(1 for at in arranged.ground.node if self._nodes[at] == node)
            for node in self._nodes
        }
        self._ground = Ground({node: own for node, own in cpus.items() if own}, distances)
        self._state = State()
        self._length = int(self._settings.round_s * 1e9)
        self.next_ns = self._length
        self._at = 0
        self._ran = [0] * len(arranged.tasks)
        self._waited = [0] * len(arranged.tasks)

    def round(self, engine: Engine) -> None:
        """Look, decide, and set masks."""
        now = engine.now
        passed = now - self._at
        ran, waited = engine.numbers("cpu_ns"), engine.numbers("wait_ns")
        for vcpu, since in enumerate(engine.numbers("wait_since")):
            if since >= 0:
                waited[vcpu] += now - since
        last = engine.numbers("last_cpu")
        watched = []
        for number, (guest, own) in enumerate(
            zip(self._arranged.guests, self._arranged.settled, strict=True)
        ):
            for at in range(guest.vcpus):
                vcpu = self._arranged.first[number] + at
                node = (
                    self._nodes[self._arranged.ground.node[last[vcpu]]] if last[vcpu] >= 0 else None
                )
                watched.append(
                    Watched(
                        (guest.name, at), own.home, self._host.nodes_of(own.hard[at]),
                        (ran[vcpu] - self._ran[vcpu]) / passed,
                        (waited[vcpu] - self._waited[vcpu]) / passed, node,
                    )
                )  # fmt: skip
        measured = Measured(now / 1e9, passed / 1e9, watched)
        decision = decide(self._state, measured, self._ground, self._settings)
        self._state = decision.state
        self._ran, self._waited, self._at = ran, waited, now
        self.next_ns = now + self._length
        firsts = {
            guest.name: (first, own)
            for guest, first, own in zip(
                self._arranged.guests, self._arranged.first, self._arranged.settled, strict=True
            )
        }
        for move in decision.moves:
            first, own = firsts[move.key[0]]
            at = move.key[1]
            hard = own.hard[at] & self._host.cpus_of(NodeMap(move.reach))
            bits = self._arranged.ground.bits
            engine.set_affinity(first + at, bits(hard or own.hard[at]), bits(own.soft[at]))
