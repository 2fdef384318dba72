"""The event loop of the simulators: cpus that run vcpus, and vcpus that have work.

`Engine` knows when vcpus have work and how far they get with it; which vcpu a cpu runs is for its
subclasses to say (`credit.Credit`, `credit2.Credit2`, `ideal.Ideal`), by a few methods that are
named as in Xen's ``struct scheduler`` (xen/common/sched/private.h). All state is in flat arrays
that are indexed by cpu or by vcpu (`flat`), and an event is one number (`agenda`).

A vcpu's work is counted in nanoseconds of a cpu that it has for itself with its memory at home.
It gets on by `pace` of its node, which the memory model sets, and by `threads_yield` where other
threads of the core are busy too.
"""

import math
from collections.abc import Sequence
from random import Random

from homenode.scheduler import flat
from homenode.scheduler.agenda import LATEST_NS, Agenda, FlatAgenda
from homenode.scheduler.codes import Happening, Kind
from homenode.scheduler.tasks import Ground, Queue, Share, Task

# Kinds of events; those at the same time happen in this order.
_DONE: int = 0
_ARRIVE: int = 1
_REQUEST: int = 2
_TIMER: int = 3
_TICK: int = 4
_ACCOUNT: int = 5
_UNPARK: int = 6

_IDLE: int = int(Kind.IDLE)
_SPIN: int = int(Kind.SPIN)
_CYCLE: int = int(Kind.CYCLE)
_CHAIN: int = int(Kind.CHAIN)
_SERVE: int = int(Kind.SERVE)
_BATCH: int = int(Kind.BATCH)
_YIELD: int = int(Kind.YIELD)

_RUN: int = int(Happening.RUN)
_WAKE: int = int(Happening.WAKE)
_BLOCK: int = int(Happening.BLOCK)
_TICKLE: int = int(Happening.TICKLE)
_MIGRATE: int = int(Happening.MIGRATE)

_MULTIPLIER: int = 48271
_MODULUS: int = 2147483647
"""Park and Miller's generator, in the constants of 1993 (CACM 36:7): one stream for each vcpu, so
that vcpus draw the same times whatever the scheduler does."""


_LATEST: int = LATEST_NS


class Engine:
    """A simulated host; `run` lets time pass.

    `tasks` are the vcpus; `shares` are of the guests that they name, `queues` the requests to
    serve. `timer_delay_us` is how late the timers of time slices are: on real machines some us, and
    the order of what happens may hang on it. `seed` gives all that is random. With `record`,
    `happenings` tells what happened.
    """

    def __init__(
        self,
        ground: Ground,
        tasks: Sequence[Task],
        shares: Sequence[Share],
        queues: Sequence[Queue] = (),
        *,
        timer_delay_us: int = 0,
        seed: int = 0,
        record: bool = False,
    ) -> None:
        draw = Random(seed)  # noqa: S311 - nothing secret
        cpus, vcpus = ground.cpus, len(tasks)
        self.now = 0
        self.cpus = cpus
        self.vcpus = vcpus
        self.nodes = ground.nodes
        self.words = flat.words(cpus)
        self.recording = record
        self.log: list[int] = []
        self.events = 0
        self.agenda: Agenda = FlatAgenda() if flat.COMPILED else Agenda()

        self.node = flat.integers(cpus)
        self.core = flat.integers(cpus)
        self.socket = flat.integers(cpus)
        for cpu in range(cpus):
            self.node[cpu] = ground.node[cpu]
            self.core[cpu] = ground.core[cpu]
            self.socket[cpu] = ground.socket[cpu]
        self.bit = flat.bits(cpus)
        for cpu in range(cpus):
            self.bit[cpu] = flat.bit(cpu)
        self.core_cpus = self._sets_of(ground.core)
        self.socket_cpus = self._sets_of(ground.socket)
        self.node_cpus = flat.bits(ground.nodes * self.words)
        for cpu in range(cpus):
            self.node_cpus[ground.node[cpu] * self.words + (cpu >> 6)] |= self.bit[cpu]
        self.threads: int = 0
        for core in set(ground.core):
            self.threads = max(self.threads, ground.core.count(core))
        self.core_busy = flat.integers(max(ground.core, default=0) + 1)
        self.siblings = flat.integers(cpus * self.threads, -1)
        for cpu in range(cpus):
            at = cpu * self.threads
            for other in flat.members(ground.core, ground.core[cpu]):
                if other != cpu:
                    self.siblings[at] = other
                    at += 1

        self.running = flat.integers(cpus, -1)
        self.since = flat.integers(cpus)
        self.begun = flat.integers(cpus)
        self.speed = flat.reals(cpus, 1.0)
        self.done_at = flat.integers(cpus, -1)
        self.timer_at = flat.integers(cpus, -1)
        self.armed = flat.integers(cpus, -1)
        self.is_told = flat.integers(cpus)
        self.told = flat.integers(cpus)
        self.told_first = 0
        self.told_count = 0
        self.slice_ns = 0
        self.timer_delay = timer_delay_us * 1000
        self.has_moved = 0

        self.guest = flat.integers(vcpus)
        self.processor = flat.integers(vcpus)
        self.ready = flat.integers(vcpus)
        self.paused = flat.integers(vcpus)
        self.on_cpu = flat.integers(vcpus, -1)
        self.yields = flat.integers(vcpus)
        self.migrating = flat.integers(vcpus)
        self.hard = flat.bits(vcpus * self.words)
        self.soft = flat.bits(vcpus * self.words)
        self.has_soft = flat.integers(vcpus)
        self.scratch = flat.bits(self.words)
        self.other = flat.bits(self.words)

        self.kind = flat.integers(vcpus)
        self.burst = flat.integers(vcpus)
        self.rest = flat.integers(vcpus)
        self.is_random = flat.integers(vcpus)
        self.then = flat.integers(vcpus)
        self.tokens = flat.integers(vcpus)
        self.queue = flat.integers(vcpus)
        self.start = flat.integers(vcpus)
        self.remaining = flat.reals(vcpus)
        self.stream = flat.integers(vcpus)
        self.pace = flat.reals(vcpus * self.nodes, 1.0)
        self.crowd = flat.reals(vcpus * (self.threads + 1), 1.0)

        self.cpu_ns = flat.integers(vcpus)
        self.node_ns = flat.integers(vcpus * self.nodes)
        self.work = flat.reals(vcpus)
        self.wait_ns = flat.integers(vcpus)
        self.wait_since = flat.integers(vcpus, -1)
        self.longest_wait = flat.integers(vcpus)
        self.finished = flat.integers(vcpus)
        self.ended_at = flat.integers(vcpus, -1)
        self.cpu_moves = flat.integers(vcpus)
        self.node_moves = flat.integers(vcpus)
        self.last_cpu = flat.integers(vcpus, -1)
        self.idle_ns = flat.integers(cpus)

        guests = len(shares)
        self.guests = guests
        self.weight = flat.integers(guests)
        self.cap = flat.integers(guests)
        for number, share in enumerate(shares):
            self.weight[number] = share.weight
            self.cap[number] = share.cap
        self._fill(tasks, draw)

        self.think = flat.integers(len(queues))
        self.think_random = flat.integers(len(queues))
        self.clients = flat.integers(len(queues))
        self.line_at = flat.integers(len(queues))
        self.line_first = flat.integers(len(queues))
        self.line_count = flat.integers(len(queues))
        self.queue_stream = flat.integers(len(queues))
        self.line = flat.integers(sum(queue.clients for queue in queues))
        self.response_ns = flat.integers(len(queues))
        self.responses = flat.integers(len(queues))
        self.asked_at = flat.integers(vcpus)
        self.next_server = flat.integers(len(queues))
        self.first_server = flat.integers(len(queues), -1)
        self.servers = flat.integers(len(queues))
        for vcpu in range(vcpus):
            served = tasks[vcpu].queue
            if served >= 0:
                if self.first_server[served] < 0:
                    self.first_server[served] = vcpu
                self.servers[served] += 1
        at = 0
        for number, queue in enumerate(queues):
            self.think[number] = queue.think_ns
            self.think_random[number] = queue.random
            self.clients[number] = queue.clients
            self.line_at[number] = at
            self.queue_stream[number] = draw.randrange(1, _MODULUS)
            at += queue.clients
        self.phase = draw.random()

    def _fill(self, tasks: Sequence[Task], draw: Random) -> None:
        for vcpu, task in enumerate(tasks):
            self.guest[vcpu] = task.guest
            self.kind[vcpu] = int(task.kind)
            self.burst[vcpu] = task.burst_ns
            self.rest[vcpu] = task.sleep_ns
            self.is_random[vcpu] = task.random
            self.then[vcpu] = task.then
            self.tokens[vcpu] = task.tokens
            self.queue[vcpu] = task.queue
            self.start[vcpu] = task.start_ns
            self.stream[vcpu] = draw.randrange(1, _MODULUS)
            for busy in range(1, self.threads + 1):
                # Beyond two threads nothing is published: each doubling is taken to add as much.
                both = 1 + (task.threads_yield - 1) * math.log2(busy)
                self.crowd[vcpu * (self.threads + 1) + busy] = both / busy
            self._set_masks(vcpu, task.hard, task.soft)

    def _sets_of(self, group: Sequence[int]) -> list[int]:
        # For each cpu the set of the cpus of its group.
        sets = flat.bits(self.cpus * self.words)
        for cpu in range(self.cpus):
            for other in flat.members(group, group[cpu]):
                sets[cpu * self.words + (other >> 6)] |= flat.bit(other)
        return sets

    def _set_masks(self, vcpu: int, hard: flat.Wide, soft: flat.Wide) -> None:
        # soft_aff_effective and has_soft: xen/common/sched/private.h, core.c
        wanted = soft & hard
        effective = wanted != 0 and (hard & ~soft) != 0
        self.has_soft[vcpu] = effective
        allowed = flat.split(hard, self.cpus)
        preferred = flat.split(wanted if effective else hard, self.cpus)
        for word in range(self.words):
            self.hard[vcpu * self.words + word] = allowed[word]
            self.soft[vcpu * self.words + word] = preferred[word]

    # What a scheduler is: named as the members of struct scheduler.

    def insert(self, vcpu: int) -> None:
        """Choose the first cpu of a vcpu that is new."""
        raise NotImplementedError

    def wake(self, vcpu: int) -> None:
        """Let a vcpu that is not on a cpu have one."""
        raise NotImplementedError

    def sleep(self, vcpu: int) -> None:
        """Take a vcpu that waits for a cpu out of the queue."""
        raise NotImplementedError

    def do_schedule(self, cpu: int) -> int:
        """Return the vcpu that the cpu runs next, or -1, and set `slice_ns` (-1: no end)."""
        raise NotImplementedError

    def context_saved(self, vcpu: int) -> None:
        """Do what is left to do for a vcpu that has just left its cpu."""

    def pick(self, vcpu: int) -> int:
        """Return the cpu where a vcpu shall be that may not, or should not, stay where it is."""
        raise NotImplementedError

    def idled(self, cpu: int) -> None:
        """Do what is left to do for a cpu that has nothing to run since now."""

    def affinity_changed(self, vcpu: int) -> None:
        """Do what follows from masks of a vcpu that are new, before it leaves its cpu."""

    def move(self, vcpu: int, cpu: int) -> None:
        """Let a vcpu that is on no cpu and in no queue belong to a cpu."""
        self.processor[vcpu] = cpu

    def tick(self) -> None:
        """Do what is done on every cpu that is busy, once a tick."""

    def account(self) -> None:
        """Do what is done once for the host in every time slice."""

    # Time.

    def begin(self) -> None:
        """Create all vcpus, in their order; each starts at its own time."""
        started = sorted([(self.start[vcpu], vcpu) for vcpu in range(self.vcpus)])
        order = [vcpu for _, vcpu in started]
        for vcpu in order:
            self.insert(vcpu)
            if self.kind[vcpu] in (_SERVE, _CHAIN):
                continue
            if self.kind[vcpu] != _IDLE:
                self.post(self.start[vcpu], _ARRIVE, vcpu)
        for vcpu in order:
            if self.kind[vcpu] == _CHAIN and self.tokens[vcpu] > 0:
                self.tokens[vcpu] -= 1
                self.post(self.start[vcpu], _ARRIVE, vcpu)
        for queue in range(len(self.clients)):
            start = self.start[self.first_server[queue]]
            for _ in range(self.clients[queue]):
                self._think(queue, start)

    def post(self, time: int, kind: int, index: int) -> None:
        """Let something happen at a time."""
        if time < _LATEST:
            self.agenda.push(time << 20 | kind << 16 | index)

    def tick_at(self, time: int) -> None:
        """Let `tick` be called at a time."""
        self.post(time, _TICK, 0)

    def account_at(self, time: int) -> None:
        """Let `account` be called at a time."""
        self.post(time, _ACCOUNT, 0)

    def unpark_at(self, time: int, guest: int) -> None:
        """Let `unpark` be called for a guest at a time."""
        self.post(time, _UNPARK, guest)

    def run(self, until: int) -> None:
        """Let time pass until `until`, in nanoseconds from the start."""
        agenda = self.agenda
        done_at = self.done_at
        timer_at = self.timer_at
        events = 0
        agenda.push(until << 20 | 0xFFFFF)
        while True:
            while self.told_count > 0:
                cpu = self.told[self.told_first]
                self.told_first += 1
                if self.told_first == self.cpus:
                    self.told_first = 0
                self.told_count -= 1
                self.is_told[cpu] = 0
                self.schedule(cpu)
            event = agenda.pop()
            time = event >> 20
            kind = (event >> 16) & 15
            index = event & 0xFFFF
            self.now = time
            if kind == _DONE:
                if done_at[index] == time:
                    events += 1
                    self._finish(index)
            elif kind == _TIMER:
                if timer_at[index] == time:
                    events += 1
                    self.schedule(index)
            elif kind == _ARRIVE:
                events += 1
                self._arrive(index)
            elif kind == _REQUEST:
                events += 1
                self._request(index)
            elif kind == _TICK:
                self.tick()
            elif kind == _ACCOUNT:
                events += 1
                self.account()
            elif kind == _UNPARK:
                events += 1
                self.unpark(index)
            else:
                break
        self.events += events
        for cpu in range(self.cpus):
            self._charge(cpu)

    def unpark(self, guest: int) -> None:
        """Let a guest that was held back by its cap go on."""

    # Cpus.

    def tickle(self, cpu: int, vcpu: int) -> None:
        """Tell a cpu to choose anew, as soon as what happens at this moment has happened."""
        if self.recording:
            self.note(_TICKLE, cpu, vcpu)
        self.tell(cpu)

    def tell(self, cpu: int) -> None:
        """Raise SCHEDULE_SOFTIRQ on a cpu."""
        if self.is_told[cpu]:
            return
        self.is_told[cpu] = 1
        at = self.told_first + self.told_count
        if at >= self.cpus:
            at -= self.cpus
        self.told[at] = cpu
        self.told_count += 1

    def schedule(self, cpu: int) -> None:
        """Let a cpu choose what it runs: schedule of xen/common/sched/core.c."""
        previous = self.running[cpu]
        self._charge(cpu)
        vcpu = self.do_schedule(cpu)
        if self.slice_ns >= 0:
            self.timer_at[cpu] = self.now + self.slice_ns + self.timer_delay
        else:
            self.timer_at[cpu] = -1
        if vcpu == previous:
            if vcpu >= 0 and (self.done_at[cpu] < 0 or self.done_at[cpu] > self.timer_at[cpu]):
                self._arm(cpu)
            return
        now = self.now
        if self.recording:
            self.note(_RUN, cpu, vcpu)
        if previous >= 0:
            self.on_cpu[previous] = -1
            if self.ready[previous] and not self.paused[previous]:
                self.wait_since[previous] = now
        self.running[cpu] = vcpu
        self.since[cpu] = now
        self.begun[cpu] = now
        self.done_at[cpu] = -1
        if vcpu >= 0:
            self.on_cpu[vcpu] = cpu
            self.processor[vcpu] = cpu
            self._seat(cpu, vcpu)
            if previous < 0 and self.threads > 1:
                self._crowd(cpu, 1)
            self._pace(cpu, vcpu)
        elif previous >= 0 and self.threads > 1:
            self._crowd(cpu, -1)
        if previous >= 0:
            self.context_saved(previous)
            if self.migrating[previous]:
                self.migrate(previous)
            if vcpu < 0:
                self.idled(cpu)

    def is_runnable(self, vcpu: int) -> bool:
        """Return whether a vcpu could be given a cpu."""
        return self.ready[vcpu] != 0 and self.paused[vcpu] == 0 and self.migrating[vcpu] == 0

    def end_wait(self, vcpu: int) -> None:
        """Count how long a vcpu has waited that is given a cpu, or may not run any more."""
        since = self.wait_since[vcpu]
        if since >= 0:
            waited = self.now - since
            self.wait_ns[vcpu] += waited
            if waited > self.longest_wait[vcpu]:
                self.longest_wait[vcpu] = waited
            self.wait_since[vcpu] = -1

    def _seat(self, cpu: int, vcpu: int) -> None:
        self.end_wait(vcpu)
        last = self.last_cpu[vcpu]
        if last != cpu:
            self.last_cpu[vcpu] = cpu
            if last >= 0:
                self.cpu_moves[vcpu] += 1
                if self.node[last] != self.node[cpu]:
                    self.node_moves[vcpu] += 1

    def _crowd(self, cpu: int, more: int) -> None:
        # Others on the core get on slower, or faster, from now on.
        self.core_busy[self.core[cpu]] += more
        for at in range(cpu * self.threads, (cpu + 1) * self.threads):
            other = self.siblings[at]
            if other >= 0 and self.running[other] >= 0:
                self._charge(other)
                self._pace(other, self.running[other])

    def _pace(self, cpu: int, vcpu: int) -> None:
        # How fast the vcpu gets on here, and when it will be done.
        speed = self.pace[vcpu * self.nodes + self.node[cpu]]
        if self.threads > 1:
            speed = speed * self.crowd[vcpu * (self.threads + 1) + self.core_busy[self.core[cpu]]]
        self.speed[cpu] = speed
        if self.kind[vcpu] == _SPIN:
            self._arm(cpu)
            return
        need = self.remaining[vcpu] / speed
        at = flat.whole(need)
        if at < need:
            at += 1
        at += self.now
        self.done_at[cpu] = at
        if at > self.timer_at[cpu]:
            self._arm(cpu)
        self.post(at, _DONE, cpu)

    def _arm(self, cpu: int) -> None:
        # Nearly all time slices end before their time, with the work: their timers are spared.
        at = self.timer_at[cpu]
        if at >= 0 and self.armed[cpu] != at:
            self.armed[cpu] = at
            self.agenda.push(at << 20 | _TIMER << 16 | cpu)

    def _charge(self, cpu: int) -> None:
        # Write down what has been run since the last time.
        passed = self.now - self.since[cpu]
        if passed <= 0:
            return
        self.since[cpu] = self.now
        vcpu = self.running[cpu]
        if vcpu < 0:
            self.idle_ns[cpu] += passed
            return
        self.cpu_ns[vcpu] += passed
        self.node_ns[vcpu * self.nodes + self.node[cpu]] += passed
        done = passed * self.speed[cpu]
        self.work[vcpu] += done
        self.remaining[vcpu] -= done

    def note(self, what: int, cpu: int, vcpu: int) -> None:
        """Write into the record."""
        self.log.append(self.now)
        self.log.append(what)
        self.log.append(cpu)
        self.log.append(vcpu)

    # Work.

    def _draw(self, vcpu: int, mean: int) -> int:
        if not self.is_random[vcpu]:
            return mean
        self.stream[vcpu] = self.stream[vcpu] * _MULTIPLIER % _MODULUS
        drawn = flat.whole(-mean * math.log(self.stream[vcpu] / 2147483647.0))
        return drawn if drawn > 0 else 1

    def _arrive(self, vcpu: int) -> None:
        # It is woken: by its timer, by another vcpu, or by a request.
        if self.ready[vcpu]:
            self.tokens[vcpu] += 1
            return
        self.remaining[vcpu] = self._draw(vcpu, self.burst[vcpu])
        self.make_ready(vcpu)

    def make_ready(self, vcpu: int) -> None:
        """Let a vcpu run that has work from now on."""
        self.ready[vcpu] = 1
        if self.recording:
            self.note(_WAKE, self.processor[vcpu], vcpu)
        if not self.paused[vcpu]:
            self.wait_since[vcpu] = self.now
            self.wake(vcpu)

    def _block(self, cpu: int, vcpu: int) -> None:
        self.ready[vcpu] = 0
        if self.recording:
            self.note(_BLOCK, cpu, vcpu)
        self.schedule(cpu)

    def _again(self, cpu: int, vcpu: int) -> None:
        # It has more work, and goes on with it.
        self.remaining[vcpu] = self._draw(vcpu, self.burst[vcpu])
        self._pace(cpu, vcpu)

    def _finish(self, cpu: int) -> None:
        # The vcpu on the cpu has done its work.
        vcpu = self.running[cpu]
        self._charge(cpu)
        self.remaining[vcpu] = 0.0
        self.finished[vcpu] += 1
        self.done_at[cpu] = -1
        kind = self.kind[vcpu]
        if kind == _CYCLE:
            pause = self._draw(vcpu, self.rest[vcpu])
            if pause > 0:
                self.post(self.now + pause, _ARRIVE, vcpu)
                self._block(cpu, vcpu)
            else:
                self._again(cpu, vcpu)
        elif kind == _SERVE:
            self._respond(vcpu)
            if self._take(vcpu):
                self._again(cpu, vcpu)
            else:
                self._block(cpu, vcpu)
        elif kind == _CHAIN:
            # The delay is fixed: it is the wire's, or the disk's.
            self.post(self.now + self.rest[vcpu], _ARRIVE, self.then[vcpu])
            if self.tokens[vcpu] > 0:
                self.tokens[vcpu] -= 1
                self._again(cpu, vcpu)
            else:
                self._block(cpu, vcpu)
        elif kind == _YIELD:
            self.remaining[vcpu] = self._draw(vcpu, self.burst[vcpu])
            self.yields[vcpu] = 1
            self.schedule(cpu)
            if self.running[cpu] == vcpu:
                self._pace(cpu, vcpu)
        else:
            self.ended_at[vcpu] = self.now
            self._block(cpu, vcpu)

    # Requests.

    def _think(self, queue: int, since: int) -> None:
        # A client asks again when it has thought; the first time, its guest has started by then.
        pause = self.think[queue]
        if self.think_random[queue]:
            self.queue_stream[queue] = self.queue_stream[queue] * _MULTIPLIER % _MODULUS
            pause = flat.whole(-pause * math.log(self.queue_stream[queue] / 2147483647.0))
        self.post(since + pause, _REQUEST, queue)

    def _request(self, queue: int) -> None:
        # A client asks: whoever of the guest is free serves it, in turn; else it stands in line.
        first = self.first_server[queue]
        servers = self.servers[queue]
        for step in range(servers):
            vcpu = first + (self.next_server[queue] + step) % servers
            if not self.ready[vcpu]:
                self.next_server[queue] = (vcpu - first + 1) % servers
                self.asked_at[vcpu] = self.now
                self._arrive(vcpu)
                return
        at = self.line_first[queue] + self.line_count[queue]
        if at >= self.clients[queue]:
            at -= self.clients[queue]
        self.line[self.line_at[queue] + at] = self.now
        self.line_count[queue] += 1

    def _respond(self, vcpu: int) -> None:
        queue = self.queue[vcpu]
        self.response_ns[queue] += self.now - self.asked_at[vcpu]
        self.responses[queue] += 1
        self._think(queue, self.now)

    def _take(self, vcpu: int) -> bool:
        queue = self.queue[vcpu]
        if self.line_count[queue] == 0:
            return False
        first = self.line_first[queue]
        self.asked_at[vcpu] = self.line[self.line_at[queue] + first]
        self.line_first[queue] = first + 1 if first + 1 < self.clients[queue] else 0
        self.line_count[queue] -= 1
        return True

    # Changes from outside, between two runs.

    def set_affinity(self, vcpu: int, hard: flat.Wide, soft: flat.Wide) -> None:
        """Give a vcpu other masks: vcpu_set_affinity of xen/common/sched/core.c."""
        self._set_masks(vcpu, hard, soft)
        self.affinity_changed(vcpu)
        cpu = self.on_cpu[vcpu]
        if cpu >= 0:
            self.migrating[vcpu] = 1
            self.tell(cpu)
        else:
            waits = self.ready[vcpu] and not self.paused[vcpu]
            if waits:
                self.sleep(vcpu)
            self.migrate(vcpu)

    def migrate(self, vcpu: int) -> None:
        """Let a vcpu that is on no cpu and in no queue go where `pick` says."""
        self.move(vcpu, self.pick(vcpu))
        self.migrating[vcpu] = 0
        if self.recording:
            self.note(_MIGRATE, self.processor[vcpu], vcpu)
        if self.ready[vcpu] and not self.paused[vcpu]:
            self.has_moved = 1
            self.wake(vcpu)
            self.has_moved = 0

    def set_pace(self, pace: Sequence[float]) -> None:
        """Let vcpus get on at other speeds: of each vcpu for each node, one after the other."""
        for at in range(self.vcpus * self.nodes):
            self.pace[at] = pace[at]
        for cpu in range(self.cpus):
            vcpu = self.running[cpu]
            if vcpu >= 0:
                self._charge(cpu)
                self._pace(cpu, vcpu)

    # Sets of cpus.

    def first_cpu(self, vcpu: int) -> int:
        """Return the cpu of a vcpu that is new: sched_select_initial_cpu.

        The cpus of its guest's node affinity, which follows from the soft affinities, in turn.
        """
        cpu = -1
        if vcpu > 0 and self.guest[vcpu - 1] == self.guest[vcpu]:
            cpu = self.processor[vcpu - 1]
        for word in range(self.words):
            self.scratch[word] = self.soft[vcpu * self.words + word]
        return self.after(self.scratch, cpu)

    def is_in(self, sets: list[int], at: int, cpu: int) -> bool:
        """Return whether the cpu is in the set that begins at word `at`."""
        return (sets[at + (cpu >> 6)] >> (cpu & 63)) & 1 != 0

    def after(self, sets: list[int], cpu: int) -> int:
        """Return the next cpu of a set after `cpu`, from the start again at the end: -1 if none."""
        start = cpu + 1
        word = start >> 6
        if word < self.words:
            rest = sets[word] >> (start & 63)
            if rest:
                return start + flat.lowest_bit(rest)
            for later in range(word + 1, self.words):
                if sets[later]:
                    return (later << 6) + flat.lowest_bit(sets[later])
        for earlier in range(self.words):
            if sets[earlier]:
                return (earlier << 6) + flat.lowest_bit(sets[earlier])
        return -1

    # What came of it.

    def numbers(self, name: str) -> list[int]:
        """Return one of the arrays by its name; times in nanoseconds."""
        return list(getattr(self, name))

    def reals(self, name: str) -> list[float]:
        """Return one of the arrays of real numbers by its name."""
        return list(getattr(self, name))

    def happenings(self) -> list[tuple[int, int, int, int]]:
        """Return the record: time, what (`Happening`), cpu, vcpu."""
        log = self.log
        return [(log[at], log[at + 1], log[at + 2], log[at + 3]) for at in range(0, len(log), 4)]
