"""Xen's credit scheduler, as xen/common/sched/credit.c has it (sched_credit.c before 4.14).

Each rule is one method, named as the function of Xen that it is. What differs between versions
are the switches of `versions.CreditVersion`. Not modelled: the locks (a queue whose lock is taken
is skipped), tasklets, and cpus that go offline.
"""

from collections.abc import Sequence

from homenode.scheduler import flat
from homenode.scheduler.codes import Happening
from homenode.scheduler.engine import Engine
from homenode.scheduler.tasks import Ground, Queue, Share, Task
from homenode.scheduler.versions import CreditVersion

# CSCHED_PRI_TS_BOOST, _UNDER, _OVER, CSCHED_PRI_IDLE
BOOST: int = 0
UNDER: int = -1
OVER: int = -2
IDLE: int = -64

TICKS_PER_SLICE: int = 3
CREDITS_PER_MS: int = 10
MIN_TIMER_NS: int = 100
"""CSCHED_MIN_TIMER: a number of microseconds, used as nanoseconds."""

_STEAL: int = int(Happening.STEAL)
_BOOST: int = int(Happening.BOOST)
_PARK: int = int(Happening.PARK)
_UNPARK: int = int(Happening.UNPARK)
_ACCOUNT: int = int(Happening.ACCOUNT)

_SOFT_STEP: int = 0
_HARD_STEP: int = 1


class Credit(Engine):
    """A host under credit.

    `slice_ms` is ``sched_credit_tslice_ms``, `ratelimit_us` ``sched_ratelimit_us``,
    `migration_delay_us` ``vcpu_migration_delay``; their ranges are Xen's.
    """

    def __init__(
        self,
        ground: Ground,
        tasks: Sequence[Task],
        shares: Sequence[Share],
        queues: Sequence[Queue] = (),
        *,
        version: CreditVersion,
        slice_ms: int = 30,
        ratelimit_us: int = 1000,
        migration_delay_us: int = 0,
        tickle_one_idle: bool = True,
        power_savings: bool = False,
        timer_delay_us: int = 0,
        seed: int = 0,
        record: bool = False,
    ) -> None:
        Engine.__init__(
            self, ground, tasks, shares, queues, timer_delay_us=timer_delay_us, seed=seed,
            record=record,
        )  # fmt: skip
        self.slice_length = slice_ms * 1_000_000
        ticks = TICKS_PER_SLICE if slice_ms >= TICKS_PER_SLICE else 1
        self.tick_length = self.slice_length // ticks
        self.credits_per_slice = CREDITS_PER_MS * slice_ms
        self.ratelimit = ratelimit_us * 1000
        self.migration_delay = migration_delay_us * 1000
        self.balance_ratelimit = version.balance_ratelimit_us * 1000
        self.has_steps = version.affinity_steps != "none"
        self.steps_by_guest = version.affinity_steps == "node"
        self.tickles_idle_first: bool = version.tickles_idle_first
        self.picks_true_idle: bool = version.picks_true_idle
        self.kicks_current: bool = version.kicks_current
        self.kicks_without_idlers: bool = version.kicks_without_idlers
        self.biased_balance: bool = version.biased_balance
        self.nodewise_balance: bool = version.nodewise_balance
        self.spares_yielded: bool = version.spares_yielded
        self.tickle_one_idle = tickle_one_idle
        self.power_savings = power_savings

        # Each vcpu's own preference: what its guest's follows from, if the step is by guest.
        self.own_soft = flat.bits(self.vcpus * self.words)
        for at in range(self.vcpus * self.words):
            self.own_soft[at] = self.soft[at]
        if self.steps_by_guest:
            for guest in range(self.guests):
                self._update_node_affinity(guest)

        # The run queue of a cpu: a list through `next_in`, from `first`, by priority.
        self.first = flat.integers(self.cpus, -1)
        self.next_in = flat.integers(self.vcpus, -1)
        self.queued = flat.integers(self.vcpus)
        self.waiting = flat.bits(self.words)
        self.idlers = flat.bits(self.words)
        self.idle_bias = flat.integers(self.cpus)
        self.sorted_at = flat.integers(self.cpus)
        self.last_tickle = flat.integers(self.cpus)
        self.balanced_at = flat.integers(self.cpus, -(1 << 40))
        self.balance_bias = flat.integers(max(1, self.nodes), -1)
        for cpu in range(self.cpus):
            self.idlers[cpu >> 6] |= self.bit[cpu]
            self.idle_bias[cpu] = cpu
            self.last_tickle[cpu] = cpu
        self.idle_cores = flat.bits(self.words)

        self.credit = flat.integers(self.vcpus)
        self.residual = flat.integers(self.vcpus)
        self.priority = flat.integers(self.vcpus, UNDER)
        self.parked = flat.integers(self.vcpus)
        self.active = flat.integers(self.vcpus)
        self.burnt_at = flat.integers(self.vcpus)
        self.scheduled_at = flat.integers(self.vcpus)
        # The active guests, and the active vcpus of each, as lists: who comes is first.
        self.active_first = -1
        self.active_next = flat.integers(self.guests, -1)
        self.active_count = flat.integers(self.guests)
        self.own_first = flat.integers(self.guests, -1)
        self.own_next = flat.integers(self.vcpus, -1)
        self.total_weight = 0
        self.balance = 0
        self.sort_epoch = 0

    def begin(self) -> None:
        """Create the vcpus, and start the timers of the ticks and of the accounting."""
        Engine.begin(self)
        self.tick_at(self.tick_length)
        # Both timers run from boot, at no fixed distance.
        self.account_at(flat.whole(self.phase * self.slice_length) + 1)

    # The run queues.

    def _runq_insert(self, vcpu: int) -> None:
        # __runq_insert: behind those of the same priority.
        cpu = self.processor[vcpu]
        priority = self.priority[vcpu]
        before = -1
        at = self.first[cpu]
        while at >= 0 and self.priority[at] >= priority:
            before = at
            at = self.next_in[at]
        if self.yields[vcpu] and self.spares_yielded:
            # One place further back, but never behind the idle vcpu.
            if at >= 0:
                before = at
                at = self.next_in[at]
        self.next_in[vcpu] = at
        if before < 0:
            self.first[cpu] = vcpu
        else:
            self.next_in[before] = vcpu
        self.queued[vcpu] = 1
        self.waiting[cpu >> 6] |= self.bit[cpu]

    def _runq_remove(self, vcpu: int) -> None:
        cpu = self.processor[vcpu]
        at = self.first[cpu]
        if at == vcpu:
            self.first[cpu] = self.next_in[vcpu]
        else:
            while self.next_in[at] != vcpu:
                at = self.next_in[at]
            self.next_in[at] = self.next_in[vcpu]
        self.queued[vcpu] = 0
        self.yields[vcpu] = 0
        if self.first[cpu] < 0:
            self.waiting[cpu >> 6] &= ~self.bit[cpu]

    def _runq_sort(self, cpu: int) -> None:
        # csched_runq_sort: since accounting changed priorities, those not over come first.
        if self.sorted_at[cpu] == self.sort_epoch:
            return
        self.sorted_at[cpu] = self.sort_epoch
        last_under = -1
        before = -1
        at = self.first[cpu]
        while at >= 0:
            after = self.next_in[at]
            if self.priority[at] >= UNDER:
                if before != last_under:
                    self.next_in[before] = after
                    if last_under < 0:
                        self.next_in[at] = self.first[cpu]
                        self.first[cpu] = at
                    else:
                        self.next_in[at] = self.next_in[last_under]
                        self.next_in[last_under] = at
                    last_under = at
                    at = after
                    continue
                last_under = at
            before = at
            at = after

    # Affinity.

    def _affinity(self, vcpu: int, step: int) -> int:
        # affinity_balance_cpumask: leaves the cpus of the step in `scratch`; whether any is left.
        sets = self.soft if step == _SOFT_STEP else self.hard
        found = 0
        for word in range(self.words):
            part = sets[vcpu * self.words + word]
            self.scratch[word] = part
            if part:
                found = 1
        return found

    def affinity_changed(self, vcpu: int) -> None:
        """Keep the node affinity of the guest what follows from its vcpus' masks."""
        for at in range(vcpu * self.words, (vcpu + 1) * self.words):
            self.own_soft[at] = self.soft[at]
        if self.steps_by_guest:
            self._update_node_affinity(self.guest[vcpu])

    def _update_node_affinity(self, guest: int) -> None:
        # domain_update_node_affinity, and csched_balance_cpumask of 4.3: the step of all vcpus of
        # the guest is every cpu of every node that any of them prefers.
        liked = self.scratch
        for word in range(self.words):
            liked[word] = 0
        for vcpu in range(self.vcpus):
            if self.guest[vcpu] == guest:
                for node in range(self.nodes):
                    self._add_if_liked(vcpu, node)
        for vcpu in range(self.vcpus):
            if self.guest[vcpu] != guest:
                continue
            self.has_soft[vcpu] = 0
            for word in range(self.words):
                at = vcpu * self.words + word
                self.soft[at] = self.hard[at] & liked[word]
                if self.soft[at] != self.hard[at]:
                    self.has_soft[vcpu] = 1

    def _add_if_liked(self, vcpu: int, node: int) -> None:
        # Puts the node's cpus into `scratch`, if the vcpu prefers any of them.
        cpus = node * self.words
        for word in range(self.words):
            if self.own_soft[vcpu * self.words + word] & self.node_cpus[cpus + word]:
                for every in range(self.words):
                    self.scratch[every] |= self.node_cpus[cpus + every]
                return

    def _steps_from(self, vcpu: int) -> int:
        # Where has_soft_affinity is false, the first step is left out.
        return _SOFT_STEP if self.has_steps and self.has_soft[vcpu] else _HARD_STEP

    # Waking.

    def insert(self, vcpu: int) -> None:
        """Choose the first cpu: sched_select_initial_cpu, and then csched_unit_insert."""
        self.processor[vcpu] = self.first_cpu(vcpu)
        self.processor[vcpu] = self._cpu_pick(vcpu, 1)

    def wake(self, vcpu: int) -> None:
        """csched_unit_wake: who wakes and is not over is boosted."""
        if self.on_cpu[vcpu] >= 0 or self.queued[vcpu]:
            return
        moved = self.has_moved and not self.kicks_without_idlers
        if not moved and self.priority[vcpu] == UNDER and not self.parked[vcpu]:
            self.priority[vcpu] = BOOST
            if self.recording:
                self.note(_BOOST, self.processor[vcpu], vcpu)
        self._runq_insert(vcpu)
        self._runq_tickle(vcpu)

    def sleep(self, vcpu: int) -> None:
        """csched_unit_sleep of one that waits."""
        if self.queued[vcpu]:
            self._runq_remove(vcpu)

    def _runq_tickle(self, vcpu: int) -> None:
        # __runq_tickle: which cpus are told of a vcpu that waits since now.
        cpu = self.processor[vcpu]
        current = self.running[cpu]
        now_at = self.priority[current] if current >= 0 else IDLE
        if not self.tickles_idle_first:
            self._tickle_before(vcpu, cpu, now_at)
            return
        any_idle = 0
        for word in range(self.words):
            if self.idlers[word]:
                any_idle = 1
        if current < 0 or (not any_idle and self.priority[vcpu] > now_at):
            self._tickle_cpu(cpu, vcpu)
            return
        if not any_idle:
            return
        for step in range(self._steps_from(vcpu), 2):
            if self._idle_in_affinity(vcpu, step):
                self._tickle_idle(cpu, vcpu)
                return
        if self.priority[vcpu] > now_at:
            if self.kicks_without_idlers or (self.kicks_current and self._has_idle(current)):
                self.migrating[current] = 1
            self._tickle_cpu(cpu, vcpu)

    def _tickle_before(self, vcpu: int, cpu: int, now_at: int) -> None:
        # As it was before ebce2d836c: preempts, and tells an idle cpu too.
        if self.priority[vcpu] > now_at:
            self._tickle_cpu(cpu, vcpu)
        if now_at > IDLE and self._idle_in_affinity(vcpu, _HARD_STEP):
            self._tickle_idle(cpu, vcpu)

    def _idle_in_affinity(self, vcpu: int, step: int) -> int:
        # Leaves in `scratch` the idle cpus of the step.
        self._affinity(vcpu, step)
        found = 0
        for word in range(self.words):
            part = self.scratch[word] & self.idlers[word]
            self.scratch[word] = part
            if part:
                found = 1
        return found

    def _has_idle(self, vcpu: int) -> int:
        for word in range(self.words):
            if self.hard[vcpu * self.words + word] & self.idlers[word]:
                return 1
        return 0

    def _tickle_idle(self, cpu: int, vcpu: int) -> None:
        if self.tickle_one_idle:
            idle = self.after(self.scratch, self.last_tickle[cpu])
            self.last_tickle[cpu] = idle
            self._tickle_cpu(idle, vcpu)
            return
        for idle in range(self.cpus):
            if self.is_in(self.scratch, 0, idle):
                self._tickle_cpu(idle, vcpu)

    def _tickle_cpu(self, cpu: int, vcpu: int) -> None:
        # Who is told is not idle any more, lest it be told twice.
        self.idlers[cpu >> 6] &= ~self.bit[cpu]
        self.tickle(cpu, vcpu)

    # Picking a cpu.

    def pick(self, vcpu: int) -> int:
        """csched_res_pick."""
        return self._cpu_pick(vcpu, 1)

    def _cpu_pick(self, vcpu: int, commit: int) -> int:
        # _csched_cpu_pick
        cpu = self.processor[vcpu]
        for step in range(self._steps_from(vcpu), 2):
            if not self._affinity(vcpu, step):
                continue
            cpu = self._pick_in_step(vcpu, commit)
            if self.is_in(self.idle_cores, 0, cpu):
                break
        return cpu

    def _pick_in_step(self, vcpu: int, commit: int) -> int:
        # `scratch` has the cpus to choose from, and is used up; `idle_cores` is left with those
        # that count as idle.
        own = self.processor[vcpu]
        cpus = self.scratch
        idle = self.idle_cores
        cpu = own if self.is_in(cpus, 0, own) else self.after(cpus, own)
        for word in range(self.words):
            idle[word] = self.idlers[word]
        if cpu == own and self.first[own] < 0:
            # IS_RUNQ_IDLE: its own cpu passes for idle, whoever runs there, if nobody waits.
            idle[own >> 6] |= self.bit[own]
        elif not self.picks_true_idle:
            idle[cpu >> 6] |= self.bit[cpu]
        left = 0
        for word in range(self.words):
            cpus[word] &= idle[word]
            if cpus[word]:
                left = 1
        if left and not self.is_in(cpus, 0, cpu):
            cpu = self.after(cpus, cpu)
        cpus[cpu >> 6] &= ~self.bit[cpu]
        while self._any(cpus):
            following = self.after(cpus, cpu)
            if self.socket[following] == self.socket[cpu]:
                factor = 1
                sets = self.core_cpus
            else:
                factor = 2
                sets = self.socket_cpus
            here = 0
            there = 0
            for word in range(self.words):
                here += flat.count_bits(idle[word] & sets[cpu * self.words + word])
                there += flat.count_bits(idle[word] & sets[following * self.words + word])
            if self.power_savings:
                moves = here > there
            else:
                moves = here * factor < there
            if moves:
                for word in range(self.words):
                    self.other[word] = cpus[word] & idle[word] & sets[following * self.words + word]
                cpu = self.after(self.other, self.idle_bias[following])
                if commit:
                    self.idle_bias[following] = cpu
                for word in range(self.words):
                    cpus[word] &= ~self.core_cpus[cpu * self.words + word]
            else:
                for word in range(self.words):
                    cpus[word] &= ~(idle[word] & sets[following * self.words + word])
        return cpu

    def _any(self, cpus: list[int]) -> bool:
        for word in range(self.words):
            if cpus[word]:
                return True
        return False

    # Credits.

    def _burn_credits(self, vcpu: int) -> None:
        # burn_credits: ten credits for a millisecond, with what is left over kept.
        spent = (self.now - self.burnt_at[vcpu]) * CREDITS_PER_MS + self.residual[vcpu]
        if spent <= 0:
            return
        credits_spent = spent // 1_000_000
        self.residual[vcpu] = spent % 1_000_000
        self.credit[vcpu] -= credits_spent
        self.burnt_at[vcpu] += credits_spent * 1_000_000 // CREDITS_PER_MS

    def _acct_start(self, vcpu: int) -> None:
        # __csched_vcpu_acct_start
        guest = self.guest[vcpu]
        self.active[vcpu] = 1
        self.own_next[vcpu] = self.own_first[guest]
        self.own_first[guest] = vcpu
        self.active_count[guest] += 1
        self.total_weight += self.weight[guest]
        if self.active_count[guest] == 1:
            self._activate(guest)

    def _activate(self, guest: int) -> None:
        self.active_next[guest] = self.active_first
        self.active_first = guest

    def _deactivate(self, guest: int) -> None:
        if self.active_first == guest:
            self.active_first = self.active_next[guest]
            return
        at = self.active_first
        while self.active_next[at] != guest:
            at = self.active_next[at]
        self.active_next[at] = self.active_next[guest]

    def _acct_stop(self, vcpu: int) -> None:
        # __csched_vcpu_acct_stop_locked
        guest = self.guest[vcpu]
        self.active[vcpu] = 0
        if self.own_first[guest] == vcpu:
            self.own_first[guest] = self.own_next[vcpu]
        else:
            at = self.own_first[guest]
            while self.own_next[at] != vcpu:
                at = self.own_next[at]
            self.own_next[at] = self.own_next[vcpu]
        self.active_count[guest] -= 1
        self.total_weight -= self.weight[guest]
        if self.active_count[guest] == 0:
            self._deactivate(guest)

    def tick(self) -> None:
        """csched_tick, on all cpus: those that were idle have their ticks at the same times."""
        for cpu in range(self.cpus):
            if self.running[cpu] >= 0:
                self.events += 1
                self._vcpu_acct(cpu)
                self._runq_sort(cpu)
        self.tick_at(self.now + self.tick_length)

    def _vcpu_acct(self, cpu: int) -> None:
        # csched_vcpu_acct: who is found running pays, and does not stay boosted.
        vcpu = self.running[cpu]
        if self.priority[vcpu] == BOOST:
            self.priority[vcpu] = UNDER
        self._burn_credits(vcpu)
        if not self.active[vcpu]:
            self._acct_start(vcpu)
        elif not self.migrating[vcpu] and self._cpu_pick(vcpu, 0) != cpu:
            self.migrating[vcpu] = 1
            self.tell(cpu)

    def account(self) -> None:
        """csched_acct: hand out the credits of a time slice, by weight and cap."""
        self.account_at(self.now + self.slice_length)
        if self.recording:
            self.note(_ACCOUNT, -1, -1)
        weight = self.total_weight
        if weight == 0:
            self.balance = 0
            return
        total = self.credits_per_slice * self.cpus
        owed = -self.balance if self.balance < 0 else 0
        total += owed
        left = weight
        balance = 0
        has_extra = 0
        guest = self.active_first
        while guest >= 0:
            following = self.active_next[guest]
            count = self.active_count[guest]
            own = self.weight[guest] * count
            left -= own
            peak = count * self.credits_per_slice
            if owed:
                peak += (owed * own + weight - 1) // weight
            cap_credit = 0
            if self.cap[guest]:
                cap_credit = (self.cap[guest] * self.credits_per_slice + 99) // 100
                if cap_credit < peak:
                    peak = cap_credit
                cap_credit = (cap_credit + count - 1) // count
            fair = (total * own + weight - 1) // weight
            if fair < peak:
                has_extra = 1
            else:
                if left:
                    total += ((fair - peak) * weight + left - 1) // left
                if has_extra:
                    self._deactivate(guest)
                    self._activate(guest)
                fair = peak
            fair = (fair + count - 1) // count
            balance += self._give(guest, fair, cap_credit)
            guest = following
        self.balance = balance
        self.sort_epoch += 1

    def _give(self, guest: int, fair: int, cap_credit: int) -> int:
        # The inner loop of csched_acct: every active vcpu of the guest gets its share.
        most = self.credits_per_slice
        balance = 0
        vcpu = self.own_first[guest]
        while vcpu >= 0:
            following = self.own_next[vcpu]
            credit = self.credit[vcpu] + fair
            if credit < 0:
                self.priority[vcpu] = OVER
                if self.cap[guest] and credit < -cap_credit and not self.parked[vcpu]:
                    self._park(vcpu)
                if credit < -most:
                    credit = -most
            else:
                self.priority[vcpu] = UNDER
                if self.parked[vcpu]:
                    self._unpark(vcpu)
                if credit > most:
                    self._acct_stop(vcpu)
                    credit = credit // 2
            self.credit[vcpu] = credit
            balance += credit
            vcpu = following
        return balance

    def _park(self, vcpu: int) -> None:
        # CSCHED_FLAG_UNIT_PARKED: it is paused until it has credit again.
        self.parked[vcpu] = 1
        self.paused[vcpu] = 1
        if self.recording:
            self.note(_PARK, self.processor[vcpu], vcpu)
        if self.on_cpu[vcpu] >= 0:
            self.tell(self.on_cpu[vcpu])
        elif self.queued[vcpu]:
            self._runq_remove(vcpu)
        self.end_wait(vcpu)

    def _unpark(self, vcpu: int) -> None:
        # The flag is cleared after the vcpu has woken, so that it is not boosted.
        self.paused[vcpu] = 0
        if self.recording:
            self.note(_UNPARK, self.processor[vcpu], vcpu)
        if self.ready[vcpu] and self.on_cpu[vcpu] < 0:
            self.wait_since[vcpu] = self.now
            self.wake(vcpu)
        self.parked[vcpu] = 0

    # Scheduling.

    def do_schedule(self, cpu: int) -> int:
        """csched_schedule."""
        current = self.running[cpu]
        now = self.now
        runnable = 0
        if current >= 0:
            self._burn_credits(current)
            runnable = self.is_runnable(current)
            ran = now - self.begun[cpu]
            if runnable and not self.yields[current] and self.ratelimit and ran < self.ratelimit:
                self.burnt_at[current] = (
                    now if self.burnt_at[current] > now else self.burnt_at[current]
                )
                left = self.ratelimit - ran
                self.slice_ns = left if ran >= MIN_TIMER_NS else MIN_TIMER_NS
                self._set_idle(cpu, 0)
                return current
            self.scheduled_at[current] = now
            if runnable:
                self._runq_insert(current)
            else:
                self.yields[current] = 0
        head = self.first[cpu]
        priority = self.priority[head] if head >= 0 else IDLE
        chosen = -1
        if priority > OVER:
            chosen = head
        else:
            if now - self.balanced_at[cpu] > self.balance_ratelimit or not self.balance_ratelimit:
                self.balanced_at[cpu] = now
                chosen = self._load_balance(cpu, priority)
            if chosen < 0:
                chosen = head
        if chosen < 0:
            self._set_idle(cpu, 1)
            self.slice_ns = -1
            return -1
        if self.queued[chosen]:
            self._runq_remove(chosen)
        self._set_idle(cpu, 0)
        self.slice_ns = self.slice_length
        if chosen != current:
            self.burnt_at[chosen] = now
        return chosen

    def _set_idle(self, cpu: int, idle: int) -> None:
        if idle:
            self.idlers[cpu >> 6] |= self.bit[cpu]
        else:
            self.idlers[cpu >> 6] &= ~self.bit[cpu]

    def _load_balance(self, cpu: int, priority: int) -> int:
        # csched_load_balance: work that waits elsewhere, of more than this priority; -1 if none.
        if not self._any(self.waiting):
            return -1
        if not self.nodewise_balance:
            # As it was before cfcc144ff1: all other cpus in turn, from the next one on.
            for word in range(self.words):
                self.scratch[word] = self.waiting[word] & ~self.idlers[word]
            return self._balance_with(cpu, cpu, priority, _HARD_STEP)
        own = self.node[cpu]
        for step in range(0 if self.has_steps else 1, 2):
            node = own
            for _ in range(self.nodes):
                found = 0
                for word in range(self.words):
                    part = (
                        self.node_cpus[node * self.words + word]
                        & self.waiting[word]
                        & ~self.idlers[word]
                    )
                    self.scratch[word] = part
                    if part:
                        found = 1
                if found:
                    start = self.balance_bias[node] if self.biased_balance else -1
                    stolen = self._balance_with(cpu, start, priority, step)
                    if stolen >= 0:
                        return stolen
                node += 1
                if node == self.nodes:
                    node = 0
        return -1

    def _balance_with(self, cpu: int, start: int, priority: int, step: int) -> int:
        # Tries the cpus of `scratch`, where somebody waits, each once, from the one after `start`.
        # Those without were tried by Xen before 341450eaf7, and nothing was ever found there.
        workers = self.scratch
        workers[cpu >> 6] &= ~self.bit[cpu]
        first = self.after(workers, start)
        peer = first
        while peer >= 0:
            found = self._runq_steal(peer, cpu, priority, step)
            if found >= 0:
                if self.biased_balance:
                    self.balance_bias[self.node[peer]] = peer
                return found
            peer = self.after(workers, peer)
            if peer == first:
                break
        return -1

    def _runq_steal(self, peer: int, cpu: int, priority: int, step: int) -> int:
        # csched_runq_steal
        if self.running[peer] < 0:
            return -1
        vcpu = self.first[peer]
        while vcpu >= 0:
            if self.priority[vcpu] <= priority:
                return -1
            if self._may_steal(vcpu, cpu, step):
                self._runq_remove(vcpu)
                self.processor[vcpu] = cpu
                if self.recording:
                    self.note(_STEAL, cpu, vcpu)
                return vcpu
            vcpu = self.next_in[vcpu]
        return -1

    def _may_steal(self, vcpu: int, cpu: int, step: int) -> bool:
        if self.spares_yielded and self.yields[vcpu]:
            return False
        if step == _SOFT_STEP and not self.has_soft[vcpu]:
            return False
        if self.on_cpu[vcpu] >= 0 and self.running[self.on_cpu[vcpu]] == vcpu:
            return False
        sets = self.soft if step == _SOFT_STEP else self.hard
        if not self.is_in(sets, vcpu * self.words, cpu):
            return False
        # __csched_unit_is_cache_hot
        return self.migration_delay == 0 or (
            self.now - self.scheduled_at[vcpu] >= self.migration_delay
        )
