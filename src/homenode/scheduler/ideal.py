"""A scheduler as good as one can be that has to run vcpus by turns: the upper bound.

It knows everything at once and moves vcpus at no cost. A vcpu that wakes gets the idle cpu on which
most is gained, the other threads of the core included, at home where that is the same; an idle cpu
takes who waits longest, of its own node first, then of any other, and else the running vcpu by
whose move most is gained. No cpu is idle while a vcpu waits that may use it. There are no weights,
no caps and no preemption but at the end of a time slice.
"""

from collections.abc import Sequence

from homenode.scheduler import flat
from homenode.scheduler.engine import Engine
from homenode.scheduler.tasks import Ground, Queue, Share, Task

_TRIFLE: float = 1e-6


class Ideal(Engine):
    """A host under the ideal scheduler."""

    def __init__(
        self,
        ground: Ground,
        tasks: Sequence[Task],
        shares: Sequence[Share],
        queues: Sequence[Queue] = (),
        *,
        slice_ms: int = 30,
        timer_delay_us: int = 0,
        seed: int = 0,
        record: bool = False,
    ) -> None:
        Engine.__init__(
            self, ground, tasks, shares, queues, timer_delay_us=timer_delay_us, seed=seed,
            record=record,
        )  # fmt: skip
        self.slice_length = slice_ms * 1_000_000
        self.first = flat.integers(self.nodes, -1)
        self.last = flat.integers(self.nodes, -1)
        self.next_in = flat.integers(self.vcpus, -1)
        self.queued = flat.integers(self.vcpus)
        self.waiting = 0
        self.idle = flat.bits(self.words)
        for cpu in range(self.cpus):
            self.idle[cpu >> 6] |= self.bit[cpu]
        # An idle cpu that was told of a vcpu runs this one, and nobody else takes it.
        self.promised = flat.integers(self.cpus, -1)
        self.promised_to = flat.integers(self.vcpus, -1)
        self.promised_of_core = flat.integers(self.cpus)
        # Cpus whose vcpus would get on better elsewhere: away from home, or from their memory.
        self.away = flat.bits(self.words)
        self.best_pace = flat.reals(self.vcpus, 1.0)
        self.home = flat.integers(self.vcpus)
        for vcpu in range(self.vcpus):
            self.home[vcpu] = self._home(vcpu)

    def _home(self, vcpu: int) -> int:
        # The node of the first cpu that it prefers.
        for word in range(self.words):
            part = self.soft[vcpu * self.words + word]
            if part:
                return self.node[(word << 6) + flat.lowest_bit(part)]
        return 0

    def insert(self, vcpu: int) -> None:
        """Choose the first cpu."""
        self.processor[vcpu] = self.first_cpu(vcpu)

    def pick(self, vcpu: int) -> int:
        """Choose a cpu after a change of affinity."""
        self.home[vcpu] = self._home(vcpu)
        return self.first_cpu(vcpu)

    def wake(self, vcpu: int) -> None:
        """Take an idle cpu, at home if there is one, or wait in the queue of the home."""
        self._enqueue(vcpu)
        self._offer(vcpu)

    def context_saved(self, vcpu: int) -> None:
        """Whose slice is over may go on elsewhere."""
        if self.queued[vcpu] and self.promised_to[vcpu] < 0:
            self._offer(vcpu)

    def _offer(self, vcpu: int) -> None:
        cpu = self._best_idle(vcpu) if self.threads > 1 else self._first_idle(vcpu)
        if cpu >= 0:
            self.idle[cpu >> 6] &= ~self.bit[cpu]
            self.promised[cpu] = vcpu
            self.promised_to[vcpu] = cpu
            self.promised_of_core[self.core[cpu]] += 1
            self.tickle(cpu, vcpu)

    def _first_idle(self, vcpu: int) -> int:
        # Cores have one thread: home first, then anywhere.
        for step in range(2):
            sets = self.soft if step == 0 else self.hard
            for word in range(self.words):
                self.scratch[word] = self.idle[word] & sets[vcpu * self.words + word]
            cpu = self.after(self.scratch, self.processor[vcpu] - 1)
            if cpu >= 0:
                return cpu
        return -1

    def _best_idle(self, vcpu: int) -> int:
        best = -1
        most = -1.0
        for cpu in range(self.cpus):
            if self.is_in(self.idle, 0, cpu) and self.is_in(self.hard, vcpu * self.words, cpu):
                gain = self._gain(vcpu, cpu)
                if gain > most:
                    most = gain
                    best = cpu
        return best

    def _speed(self, vcpu: int, cpu: int, busy: int) -> float:
        speed = self.pace[vcpu * self.nodes + self.node[cpu]]
        return speed * self.crowd[vcpu * (self.threads + 1) + busy]

    def _gain(self, vcpu: int, cpu: int) -> float:
        # What all together get more by running the vcpu there, and a trifle for being at home.
        busy = self.core_busy[self.core[cpu]] + self.promised_of_core[self.core[cpu]]
        gain = self._speed(vcpu, cpu, busy + 1)
        if busy > 0:
            gain += self._neighbours(cpu, busy + 1) - self._neighbours(cpu, busy)
        if self.is_in(self.soft, vcpu * self.words, cpu):
            gain += _TRIFLE
        return gain

    def _neighbours(self, cpu: int, busy: int) -> float:
        # What the other threads of the core do together, with so many of it busy.
        total = 0.0
        for at in range(cpu * self.threads, (cpu + 1) * self.threads):
            other = self.siblings[at]
            if other >= 0 and self.running[other] >= 0:
                total += self._speed(self.running[other], other, busy)
        return total

    def sleep(self, vcpu: int) -> None:
        """Take a vcpu out of the queue."""
        if self.queued[vcpu]:
            self._dequeue(vcpu)

    def _enqueue(self, vcpu: int) -> None:
        node = self.home[vcpu]
        self.next_in[vcpu] = -1
        if self.last[node] < 0:
            self.first[node] = vcpu
        else:
            self.next_in[self.last[node]] = vcpu
        self.last[node] = vcpu
        self.queued[vcpu] = 1
        self.waiting += 1

    def _dequeue(self, vcpu: int) -> None:
        node = self.home[vcpu]
        before = -1
        at = self.first[node]
        while at != vcpu:
            before = at
            at = self.next_in[at]
        if before < 0:
            self.first[node] = self.next_in[vcpu]
        else:
            self.next_in[before] = self.next_in[vcpu]
        if self.last[node] == vcpu:
            self.last[node] = before
        self.queued[vcpu] = 0
        self.waiting -= 1

    def do_schedule(self, cpu: int) -> int:
        """Take who waits longest, at home first; or who runs elsewhere and is at home here."""
        current = self.running[cpu]
        if current >= 0 and self.is_runnable(current):
            if self.now - self.begun[cpu] < self.slice_length and not self.yields[current]:
                self.slice_ns = self.begun[cpu] + self.slice_length - self.now
                return current
            self.begun[cpu] = self.now
            self._enqueue(current)
        if current >= 0:
            self.yields[current] = 0
        promised = self.promised[cpu]
        if promised >= 0:
            self.promised[cpu] = -1
            self.promised_to[promised] = -1
            self.promised_of_core[self.core[cpu]] -= 1
            if self.queued[promised]:
                return self._start(cpu, promised)
        node = self.node[cpu]
        for _ in range(self.nodes if self.waiting > 0 else 0):
            vcpu = self._first_that_may(node, cpu)
            if vcpu >= 0:
                return self._start(cpu, vcpu)
            node += 1
            if node == self.nodes:
                node = 0
        self.slice_ns = -1
        self.idle[cpu >> 6] |= self.bit[cpu]
        self.away[cpu >> 6] &= ~self.bit[cpu]
        return -1

    def _start(self, cpu: int, vcpu: int) -> int:
        self._dequeue(vcpu)
        self.slice_ns = self.slice_length
        self.idle[cpu >> 6] &= ~self.bit[cpu]
        if self._is_away(vcpu, cpu):
            self.away[cpu >> 6] |= self.bit[cpu]
        else:
            self.away[cpu >> 6] &= ~self.bit[cpu]
        return vcpu

    def _is_away(self, vcpu: int, cpu: int) -> bool:
        if self.threads > 1 or not self.is_in(self.soft, vcpu * self.words, cpu):
            return True
        return self.pace[vcpu * self.nodes + self.node[cpu]] < self.best_pace[vcpu]

    def set_pace(self, pace: Sequence[float]) -> None:
        """Note the best pace of each vcpu, too."""
        Engine.set_pace(self, pace)
        for vcpu in range(self.vcpus):
            best = 0.0
            for at in range(vcpu * self.nodes, (vcpu + 1) * self.nodes):
                if self.pace[at] > best:
                    best = self.pace[at]
            self.best_pace[vcpu] = best

    def _first_that_may(self, node: int, cpu: int) -> int:
        at = self.first[node]
        while at >= 0:
            if (
                self.is_in(self.hard, at * self.words, cpu)
                and self.promised_to[at] < 0
                and (self.on_cpu[at] < 0 or self.on_cpu[at] == cpu)
            ):
                return at
            at = self.next_in[at]
        return -1

    def idled(self, cpu: int) -> None:
        """Whoever gains most by it comes here, and leaves his cpu to others."""
        if self.promised[cpu] >= 0:
            return
        if self.threads == 1:
            self._call_home(cpu)
            return
        best = -1
        most = _TRIFLE / 2
        away = self.after(self.away, -1)
        first = away
        while away >= 0:
            vcpu = self.running[away]
            if (
                vcpu >= 0
                and away != cpu
                and not self.migrating[vcpu]
                and self.is_runnable(vcpu)
                and self.is_in(self.hard, vcpu * self.words, cpu)
            ):
                gain = self._gain_of_move(vcpu, away, cpu)
                if gain > most:
                    most = gain
                    best = away
            away = self.after(self.away, away)
            if away == first:
                break
        if best >= 0:
            self.migrating[self.running[best]] = 1
            self.tell(best)

    def _call_home(self, cpu: int) -> None:
        # Cores have one thread: nobody else gains or loses by who comes, so the first one does.
        away = self.after(self.away, -1)
        first = away
        while away >= 0:
            vcpu = self.running[away]
            if (
                vcpu >= 0
                and self.is_in(self.soft, vcpu * self.words, cpu)
                and not self.migrating[vcpu]
                and self.ready[vcpu]
            ):
                at = vcpu * self.nodes
                here = self.pace[at + self.node[cpu]]
                there = self.pace[at + self.node[away]]
                if here > there or (
                    here == there and not self.is_in(self.soft, vcpu * self.words, away)
                ):
                    self.migrating[vcpu] = 1
                    self.tell(away)
                    return
            away = self.after(self.away, away)
            if away == first:
                return

    def _gain_of_move(self, vcpu: int, away: int, cpu: int) -> float:
        if self.core[away] == self.core[cpu]:
            return 0.0
        busy = self.core_busy[self.core[away]] + self.promised_of_core[self.core[away]]
        loss = self._speed(vcpu, away, busy)
        if busy > 1:
            loss -= self._neighbours(away, busy - 1) - self._neighbours(away, busy)
        if self.is_in(self.soft, vcpu * self.words, away):
            loss += _TRIFLE
        return self._gain(vcpu, cpu) - loss
