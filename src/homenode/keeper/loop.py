"""The keeper's loop: look, decide, note, act, report; and give back whatever was set."""

import os
import resource
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from time import localtime, strftime
from typing import NamedTuple

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.watching import Lodger, Sight, Watcher
from homenode.errors import HomenodeError, HypervisorError
from homenode.guest import Vcpu
from homenode.host import Cpupool, Host
from homenode.keeper.events import Event
from homenode.keeper.lodging import Kept, LeftAlone, exclusive_cpus, lodged
from homenode.keeper.rule import Ground, Kind, Measured, Move, State, Watched, decide
from homenode.keeper.settings import Settings
from homenode.keeper_record import KeptGuest, MaskKind, OwnMask, Record, Recorded, own_now

Report = Callable[[Event], None]

_OTHERS = "the cpus that it may use there are others now"

_EVENTS_NOTED = 30
"""So many of the last events are noted in the record, for ``homenode top``."""


class Clocks(NamedTuple):
    """Two clocks in seconds: one that never jumps, and one since the epoch."""

    steady: Callable[[], float]
    epoch: Callable[[], float]


class Account(NamedTuple):
    """What a guest's vcpus did since the keeper first saw it, in seconds of cpu time."""

    name: str
    ran_s: float = 0.0
    home_s: float = 0.0
    waited_s: float = 0.0


class Round(NamedTuple):
    """What a round came to. `busy` and `cpus` are of each node; `own_cpu_s` is what it took."""

    busy: Mapping[int, float]
    cpus: Mapping[int, int]
    own_cpu_s: float
    changed: int


class Keeper:
    """Keeps the guests that `watcher` sees; what it sets is noted in `record` before.

    With `dry_run` nothing is set, and nothing noted.
    """

    def __init__(  # noqa: PLR0913 - all that it works with
        self,
        watcher: Watcher,
        record: Record,
        settings: Settings,
        *,
        report: Report,
        clocks: Clocks,
        dry_run: bool = False,
    ) -> None:
        self._watcher = watcher
        self._record = record
        self.settings = settings
        self._report = report
        self._clocks = clocks
        self._dry_run = dry_run
        self._is_noted = True
        self._told: deque[str] = deque(maxlen=_EVENTS_NOTED)
        self._states: dict[str, State] = {}
        # Another keeper may be at work: what it set is not the users'.
        self._own: dict[str, KeptGuest] = dict(record.read()) if dry_run else {}
        self._wholly_at_s: float | None = None
        self._sighted_at_s = clocks.steady()
        self._there: dict[str, Lodger] = {}
        self._let_go: dict[str, str] = {}
        self.kept: dict[str, Kept] = {}
        self._left: dict[str, LeftAlone] = {}
        self.accounts: dict[str, Account] = {}
        self.changes: dict[str, int] = {}
        self.last: Round | None = None

    # --- a round ---

    def round(self) -> Round:
        """Do one round. Raises `HomenodeError` if the hypervisor cannot be looked at."""
        began_s = _cpu_s()
        now_s = self._clocks.steady()
        due = self._wholly_at_s is None or now_s - self._wholly_at_s >= self.settings.look_again_s
        sight = self._watcher.look(wholly=due)
        self._sighted_at_s = now_s
        if sight.whole:
            self._wholly_at_s = now_s if due else self._wholly_at_s
            self._lodge(sight)
        self._let_go_of_others(sight)
        changed = 0
        if sight.seconds > 0:
            self._keep_account(sight)
            for pool in sight.host.pools or (sight.host.pool(None),):
                changed += self._keep(sight, pool, now_s)
        if not (self._is_noted or self._dry_run):
            self._note(os.getpid())
        cpus = {node: len(own) for node, own in sight.host.cpus_by_node.items()}
        self.last = Round(sight.busy, cpus, _cpu_s() - began_s, changed)
        return self.last

    @property
    def is_blind(self) -> bool:
        """Whether nothing was seen for so long that no mask should stay."""
        return self._clocks.steady() - self._sighted_at_s > self.settings.blind_s

    @property
    def left_alone(self) -> list[LeftAlone]:
        """The guests that are not kept, and why."""
        return [one for one in self._left.values() if one.is_told]

    @property
    def own(self) -> Mapping[str, KeptGuest]:
        """The guests with masks of the keeper's."""
        return self._own

    def tell(self, kind: str, text: str, **of: object) -> None:
        """Report an event of that kind; what it is `of` are fields of `Event`."""
        event = Event(self._clocks.epoch(), kind, text, **of, dry_run=self._dry_run)  # type: ignore[arg-type]
        self.changes[kind] = self.changes.get(kind, 0) + 1
        at = strftime("%H:%M:%S", localtime(event.at))
        self._told.append(f"{at} {event.line()}")
        self._is_noted = False
        self._report(event)

    def _lodge(self, sight: Sight) -> None:
        """Get to know who is there: new guests by their masks, known ones by their memory."""
        there = self._there = {lodger.key: lodger for lodger in sight.lodgers}
        for key in [key for key in self.kept if not _same(self.kept[key].lodger, there.get(key))]:
            del self.kept[key]
        for key in [key for key in self._own if not _is(self._own[key], there.get(key))]:
            del self._own[key]
        gone = (self._left.keys() | self._let_go.keys() | self.accounts.keys()) - there.keys()
        for key in gone:
            self._left.pop(key, None)
            self._let_go.pop(key, None)
            self.accounts.pop(key, None)
        taken = exclusive_cpus(there.values(), sight.host)
        self._states = {pool: state.of(self.kept) for pool, state in self._states.items()}
        for key, lodger in there.items():
            found = lodged(
                self._as_before(lodger),
                sight.host,
                usual=sight.usual,
                taken=taken,
                home_share=self.settings.home_share,
            )
            if self._let_go.get(key) == lodger.instance:
                found = LeftAlone(lodger, "somebody else has set its masks", is_told=False)
            if isinstance(found, Kept):
                self._left.pop(key, None)
                self.kept[key] = found
            else:
                self._leave(found)

    def _as_before(self, lodger: Lodger) -> Lodger:
        """Return a guest as it would be without the keeper."""
        own, kept = self._own.get(lodger.key), self.kept.get(lodger.key)
        if own is None:
            return lodger
        guest = lodger.guest
        vcpus = tuple(
            _with_mask(vcpu, own.kind, own.masks[vcpu.id].replaced)
            if vcpu.id in own.masks
            else vcpu
            for vcpu in guest.vcpus
        )
        if kept is not None:
            # What follows from masks (Xen's node affinity) follows from ours now.
            guest = guest._replace(node_affinity=kept.lodger.guest.node_affinity)
        return lodger._replace(guest=guest._replace(vcpus=vcpus))

    def _leave(self, found: LeftAlone) -> None:
        """Leave a guest alone from now on; what was set of it is given back."""
        key = found.lodger.key
        if self.kept.pop(key, None) is not None and key in self._own:
            self._give_back(key, found.lodger, f"{found.why}")
        before = self._left.get(key)
        self._left[key] = found
        if found.is_told and (before is None or before.why != found.why):
            self.tell("left-alone", found.why, guest=found.lodger.guest.name)

    def _let_go_of_others(self, sight: Sight) -> None:
        """Let go of guests whose masks somebody else has changed."""
        if self._dry_run:
            return
        for key, own in list(self._own.items()):
            kept = self.kept.get(key)
            if kept is None:
                continue
            for vcpu, mask in own.masks.items():
                use = sight.uses.get((key, vcpu))
                if use is not None and use.mask is not None and use.mask != mask.ours[-1]:
                    self._let_go_of(kept.lodger, vcpu)
                    break

    def _let_go_of(self, lodger: Lodger, vcpu: int) -> None:
        self._let_go[lodger.key] = lodger.instance
        text = f"the mask of vcpu {vcpu} was changed by somebody else, and is his"
        self.tell("let-go", text, guest=lodger.guest.name)
        self._leave(LeftAlone(lodger, "somebody else has set its masks", is_told=False))

    # --- deciding ---

    def _keep(self, sight: Sight, pool: Cpupool, now_s: float) -> int:
        """Decide for the guests of one cpupool, and act; return how many were changed."""
        guests = [
            kept
            for kept in self.kept.values()
            if sight.host.pool(kept.lodger.guest.pool).name == pool.name
        ]
        pools = max(1, len(sight.host.pools))
        each = max(1.0, self.settings.changes_per_minute / pools)
        settings = self.settings._replace(changes_per_minute=each)
        state = self._states.get(pool.name, State())
        ground = _ground(sight.host, pool.cpus & sight.usual - self._taken(sight))
        aside = [
            lodger
            for lodger in sight.lodgers
            if lodger.guest.exclusive or sight.host.pool(lodger.guest.pool).name != pool.name
        ]
        decision = decide(state, _measured(sight, guests, aside, now_s), ground, settings)
        self._states[pool.name] = decision.state
        moves = decision.moves
        if sight.whole:
            decided = {move.key for move in moves}
            corrected = self._corrections(decision.state, guests, sight.host)
            moves += tuple(move for move in corrected if move.key not in decided)
        failed = self._act(moves, sight)
        if failed:
            self._states[pool.name] = decision.state.without(failed, now_s=now_s)
        return len({move.key[0] for move in moves})

    def _taken(self, sight: Sight) -> CpuMap:
        return exclusive_cpus(sight.lodgers, sight.host)

    # --- acting ---

    def _act(self, moves: Sequence[Move], sight: Sight) -> list[Move]:
        """Make the moves; return those that could not be made."""
        if not moves:
            return []
        wanted: dict[str, dict[int, CpuMap]] = {}
        failed: list[Move] = []
        for key, of_guest in groupby(moves, key=lambda move: move.key[0]):
            wanted.setdefault(key, {}).update(self._wanted(list(of_guest), sight.host))
        current: dict[str, Mapping[int, CpuMap]] = {}
        for key in list(wanted):
            now = self._masks_now(key, wanted[key], sight)
            if now is None:
                failed += [move for move in moves if move.key[0] == key]
                del wanted[key]
                continue
            current[key] = now
            wanted[key] = {
                vcpu: mask for vcpu, mask in wanted[key].items() if now.get(vcpu, mask) != mask
            }
        if not self._dry_run:
            failed += self._set(wanted, current, moves)
        kept_keys = {move.key for move in failed}
        self._tell_moves([move for move in moves if move.key not in kept_keys], sight.host)
        return failed

    def _wanted(self, moves: Sequence[Move], host: Host) -> dict[int, CpuMap]:
        kept = self.kept[moves[0].key[0]]
        masks = {move.key[1]: _mask(kept, move, host) for move in moves}
        return {vcpu: mask for vcpu, mask in masks.items() if mask}

    def _corrections(self, state: State, guests: Sequence[Kept], host: Host) -> list[Move]:
        """Return moves of vcpus that stay where they are, of which other cpus may be used now."""
        moves = []
        for kept in guests:
            own = self._own.get(kept.lodger.key)
            for vcpu in kept.homes:
                known = state.vcpus.get((kept.lodger.key, vcpu))
                ours = None if own is None else own.masks.get(vcpu)
                if known is None or known.reach is None or ours is None:
                    continue
                move = Move((kept.lodger.key, vcpu), "hold", known.reach, known.reach, _OTHERS)
                if _mask(kept, move, host) != ours.ours[-1]:
                    moves.append(move)
        return moves

    def _masks_now(
        self, key: str, wanted: Mapping[int, CpuMap], sight: Sight
    ) -> Mapping[int, CpuMap] | None:
        """Return the masks as they are; None if they are not what they should be."""
        lodger = self.kept[key].lodger
        now: dict[int, CpuMap] = {}
        for vcpu in wanted:
            use = sight.uses.get((key, vcpu))
            if use is None or use.mask is None:
                try:
                    found = self._watcher.masks(lodger)
                except HypervisorError as error:
                    self.tell("trouble", str(error), guest=lodger.guest.name)
                    return None
                if found is None:
                    return None  # it has gone
                now = dict(found)
                break
            now[vcpu] = use.mask
        changed = self._changed_by_others(key, now, sight.host)
        if changed is not None and not self._dry_run:
            self._let_go_of(lodger, changed)
            return None
        return now

    def _changed_by_others(self, key: str, now: Mapping[int, CpuMap], host: Host) -> int | None:
        """Return a vcpu whose mask is neither ours nor what it was at the last whole look."""
        lodger, own = self.kept[key].lodger, self._own.get(key)
        for vcpu in lodger.guest.vcpus:
            mask = now.get(vcpu.id)
            ours = None if own is None else own.masks.get(vcpu.id)
            before = vcpu.hard if lodger.kind == "hard" else vcpu.soft
            expected = before & host.cpu_map if ours is None else ours.ours[-1]
            if mask is not None and mask != expected:
                return vcpu.id
        return None

    def _set(
        self,
        wanted: Mapping[str, Mapping[int, CpuMap]],
        current: Mapping[str, Mapping[int, CpuMap]],
        moves: Sequence[Move],
    ) -> list[Move]:
        """Note what is to be set, and set it; return the moves that could not be made."""
        planned = {key: masks for key, masks in wanted.items() if masks}
        if not planned:
            return []
        before = dict(self._own)
        for key, masks in planned.items():
            self._own[key] = self._noted(key, masks, current[key])
        try:
            self._write(os.getpid())
        except HomenodeError as error:
            self._own = before
            self.tell("trouble", f"{error}: nothing is set, for it could not be given back")
            return list(moves)
        failed: list[str] = []
        for key, masks in planned.items():
            lodger = self.kept[key].lodger
            try:
                self._watcher.set(lodger, masks)
            except HomenodeError as error:
                failed.append(key)
                self.tell("trouble", str(error), guest=lodger.guest.name)
                self._find_out(key, lodger)
                continue
            self._own[key] = _settled(self._own[key])
            if not self._own[key].masks:
                del self._own[key]
        return [move for move in moves if move.key[0] in failed]

    def _noted(self, key: str, masks: Mapping[int, CpuMap], now: Mapping[int, CpuMap]) -> KeptGuest:
        lodger = self.kept[key].lodger
        own = self._own.get(key) or KeptGuest(lodger.guest.name, lodger.instance, lodger.kind, {})
        noted = dict(own.masks)
        for vcpu, mask in masks.items():
            known = noted.get(vcpu)
            noted[vcpu] = OwnMask((mask,), now[vcpu]) if known is None else known.next(mask)
        return own._replace(masks=noted)

    def _find_out(self, key: str, lodger: Lodger) -> None:
        """Correct what is recorded of a guest after a failure, by the masks that it has."""
        own = self._own[key]
        try:
            now = self._watcher.masks(lodger)
        except HomenodeError:
            return  # it stays recorded, and so it will be given back
        masks = {
            vcpu: mask._replace(ours=(now[vcpu],))
            for vcpu, mask in own.masks.items()
            if now is not None and now.get(vcpu) in mask.ours and now[vcpu] != mask.replaced
        }
        self._own[key] = own._replace(masks=masks)
        if not masks:
            del self._own[key]

    def _tell_moves(self, moves: Sequence[Move], host: Host) -> None:
        """Report moves, those of a guest to the same nodes as one, with the reason of the first."""
        groups: dict[tuple[str, Kind, NodeMap], list[Move]] = {}
        for move in moves:
            groups.setdefault((move.key[0], move.kind, move.reach), []).append(move)
        for (key, kind, reach), together in groups.items():
            kept = self.kept.get(key)
            if kept is not None:
                self.tell(
                    kind,
                    together[0].why,
                    guest=kept.lodger.guest.name,
                    vcpus=CpuMap(move.key[1] for move in together),
                    nodes=reach,
                    cpus=_mask(kept, together[0], host),
                )

    # --- giving back ---

    def release(self, *, why: str) -> list[str]:
        """Give back every mask that is recorded; return the names of guests that keep one.

        It looks again afterwards: what a keeper that was killed had begun may come true late.
        """
        self._own = self._own or dict(self._record.read())
        self._states.clear()
        self.kept.clear()
        if not self._own:
            if self._record.read_whole().process is not None:
                self._note(None)
            return []
        try:
            there = {lodger.key: lodger for lodger in self._watcher.look(wholly=True).lodgers}
        except HomenodeError:
            if not self._there:
                raise
            there = self._there  # what was known last has to do
        for key in list(self._own):
            lodger = there.get(key)
            if lodger is None or not _is(self._own[key], lodger):
                del self._own[key]
            else:
                self._give_back(key, lodger, why)
        self._note(None)
        return sorted(own.name for own in self._own.values())

    def _write(self, process: int | None) -> None:
        self._record.write(Recorded(self._own, tuple(self._told), process))
        self._is_noted = True

    def _note(self, process: int | None) -> None:
        """Write down what is ours now; `process` is the keeper at work."""
        try:
            self._write(process)
        except HomenodeError as error:
            self.tell("trouble", str(error))

    def _give_back(self, key: str, lodger: Lodger, why: str) -> None:
        own = self._own[key]
        try:
            for _ in range(2):
                now = self._watcher.masks(lodger)
                masks = {} if now is None else own_now(own, now)
                if not masks:
                    break
                self._watcher.set(lodger, masks)
        except HomenodeError as error:
            self.tell("trouble", str(error), guest=own.name)
            return
        del self._own[key]
        self._is_noted = False
        self.tell("release", f"its masks are as before: {why}", guest=own.name)

    # --- counting ---

    def _keep_account(self, sight: Sight) -> None:
        for key, kept in self.kept.items():
            account = self.accounts.get(key) or Account(kept.lodger.guest.name)
            ran = home = waited = 0.0
            for vcpu, nodes in kept.homes.items():
                use = sight.uses.get((key, vcpu))
                if use is None:
                    continue
                ran += use.ran
                waited += use.waited
                if use.node is None or use.node in nodes:
                    home += use.ran
            if ran or waited:
                seconds = sight.seconds
                self.accounts[key] = Account(
                    account.name,
                    account.ran_s + ran * seconds,
                    account.home_s + home * seconds,
                    account.waited_s + waited * seconds,
                )
            else:
                self.accounts.setdefault(key, account)


def _mask(kept: Kept, move: Move, host: Host) -> CpuMap:
    return host.cpus_of(move.reach) & kept.may[move.key[1]]


def _with_mask(vcpu: Vcpu, kind: MaskKind, mask: CpuMap) -> Vcpu:
    return vcpu._replace(hard=mask) if kind == "hard" else vcpu._replace(soft=mask)


def _same(one: Lodger, other: Lodger | None) -> bool:
    return other is not None and other.instance == one.instance


def _is(own: KeptGuest, lodger: Lodger | None) -> bool:
    return lodger is not None and lodger.instance == own.instance


def _settled(own: KeptGuest) -> KeptGuest:
    """Return what is recorded of a guest once its newest masks are set."""
    masks = {
        vcpu: mask._replace(ours=mask.ours[-1:])
        for vcpu, mask in own.masks.items()
        if mask.ours[-1] != mask.replaced
    }
    return own._replace(masks=masks)


def _ground(host: Host, cpus: CpuMap) -> Ground:
    ids = [node.id for node in host.nodes]
    return Ground(
        {node: len(host.cpus_by_node[node] & cpus) for node in ids},
        {one: {other: host.distance(one, other) for other in ids} for one in ids},
    )


def _measured(
    sight: Sight, guests: Sequence[Kept], aside: Sequence[Lodger], now_s: float
) -> Measured:
    """Return what was measured of `guests`; those `aside` have other cpus of the same nodes."""
    others = dict(sight.busy)
    for lodger in aside:
        for number in range(len(lodger.guest.vcpus)):
            use = sight.uses.get((lodger.key, number))
            if use is not None and use.node in others and use.node is not None:
                others[use.node] = max(0.0, others[use.node] - use.ran)
    watched = []
    nodes_of: dict[CpuMap, NodeMap] = {}
    for kept in guests:
        key = kept.lodger.key
        for vcpu, home in kept.homes.items():
            use = sight.uses.get((key, vcpu))
            if use is None:
                continue
            cpus = kept.may[vcpu]
            if cpus not in nodes_of:
                nodes_of[cpus] = sight.host.nodes_of(cpus)
            watched.append(
                Watched((key, vcpu), home, nodes_of[cpus], use.ran, use.waited, use.node)
            )
            if use.node in others and use.node is not None:
                others[use.node] = max(0.0, others[use.node] - use.ran)
    return Measured(now_s, sight.seconds, watched, others)


def _cpu_s() -> float:
    """Return the cpu time of this process, and of those that it has started and that ended."""
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        used = resource.getrusage(who)
        total += used.ru_utime + used.ru_stime
    return total
