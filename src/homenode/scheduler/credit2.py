"""Xen's credit2 scheduler, as xen/common/sched/credit2.c has it.

Each rule is one method, named as the function of Xen that it is. Not modelled: the locks (a run
queue whose lock is taken is passed over), tasklets, and cpus that go offline.

Credits are nanoseconds of the vcpu with the largest weight of the run queue.
"""

from collections.abc import Sequence

from homenode.scheduler import flat
from homenode.scheduler.codes import Happening
from homenode.scheduler.run_queues import RunQueues
from homenode.scheduler.tasks import Ground, Queue, Share, Task

CREDIT_INIT: int = 10_000_000
CREDIT_MIN: int = -10_000_000
IDLE_CREDIT: int = CREDIT_MIN - 1
CARRYOVER_MAX: int = 500_000
MIN_TIMER: int = 500_000
MAX_TIMER: int = 10_000_000
MIGRATE_RESIST: int = 500_000
MIGRATE_COMPENSATION: int = 50_000
TICKLE_TOLERANCE: int = 50_000
BUDGET_PERIOD: int = 10_000_000

_NO_CAP: int = 1 << 60
_MOST: int = 1 << 62

_MOVE: int = int(Happening.MOVE)
_RESET: int = int(Happening.RESET)
_PARK: int = int(Happening.PARK)
_UNPARK: int = int(Happening.UNPARK)


class Credit2(RunQueues):
    """A host under credit2; `arrangement` is ``credit2_runqueue``."""

    def __init__(
        self,
        ground: Ground,
        tasks: Sequence[Task],
        shares: Sequence[Share],
        queues: Sequence[Queue] = (),
        *,
        arrangement: str = "socket",
        ratelimit_us: int = 1000,
        power_savings: bool = False,
        timer_delay_us: int = 0,
        seed: int = 0,
        record: bool = False,
    ) -> None:
        RunQueues.__init__(
            self, ground, tasks, shares, queues, arrangement=arrangement,
            timer_delay_us=timer_delay_us, seed=seed, record=record,
        )  # fmt: skip
        self.ratelimit = ratelimit_us * 1000
        self.power_savings = power_savings
        self.idle = flat.bits(self.words)
        self.tickled = flat.bits(self.words)
        self.smt_idle = flat.bits(self.words)
        for cpu in range(self.cpus):
            self.idle[cpu >> 6] |= self.bit[cpu]
            self.smt_idle[cpu >> 6] |= self.bit[cpu]

        self.scheduled = flat.integers(self.vcpus)
        self.delayed_add = flat.integers(self.vcpus)
        self.residual = flat.integers(self.vcpus)
        self.burnt_at = flat.integers(self.vcpus)
        self.tickled_cpu = flat.integers(self.vcpus, -1)
        self.wanted_rqd = flat.integers(self.vcpus, -1)
        self.budget = flat.integers(self.vcpus, _NO_CAP)
        self.quota = flat.integers(self.vcpus)
        self.parked_next = flat.integers(self.vcpus, -1)
        self.parked_first = flat.integers(self.guests, -1)
        self.guest_budget = flat.integers(self.guests)
        self.total_budget = flat.integers(self.guests)
        units = flat.integers(self.guests)
        for vcpu in range(self.vcpus):
            units[self.guest[vcpu]] += 1
        for guest in range(self.guests):
            self.total_budget[guest] = BUDGET_PERIOD * self.cap[guest] // 100
            self.guest_budget[guest] = self.total_budget[guest]
        for vcpu in range(self.vcpus):
            guest = self.guest[vcpu]
            self.credit[vcpu] = CREDIT_INIT
            if self.cap[guest]:
                self.budget[vcpu] = 0
                self.quota[vcpu] = max(self.total_budget[guest] // units[guest], MIN_TIMER)
        # What balance_load has found so far.
        self.best_delta = 0
        self.best_push = -1
        self.best_pull = -1

    def begin(self) -> None:
        """Create the vcpus, and start the timers of the caps."""
        RunQueues.begin(self)
        for guest in range(self.guests):
            if self.cap[guest]:
                self.unpark_at(flat.whole(self.phase * BUDGET_PERIOD) + 1, guest)

    # Waking.

    def insert(self, vcpu: int) -> None:
        """Choose the first cpu and run queue: csched2_unit_insert."""
        cpu = self.first_cpu(vcpu)
        self.processor[vcpu] = cpu
        cpu = self.pick(vcpu)
        self.processor[vcpu] = cpu
        self._runq_assign(vcpu, self.rqd_of[cpu])

    def wake(self, vcpu: int) -> None:
        """csched2_unit_wake: in the run queue where it is, wherever its affinity would have it."""
        if self.on_cpu[vcpu] >= 0 or self.queued[vcpu]:
            return
        if self.scheduled[vcpu]:
            self.delayed_add[vcpu] = 1
            return
        self._update_load(vcpu, 1)
        self._runq_insert(vcpu)
        self._runq_tickle(vcpu)

    def sleep(self, vcpu: int) -> None:
        """csched2_unit_sleep of one that waits."""
        if self.queued[vcpu]:
            self._update_load(vcpu, -1)
            self._runq_remove(vcpu)
        else:
            self.delayed_add[vcpu] = 0

    def context_saved(self, vcpu: int) -> None:
        """csched2_context_saved: who could go on is put into the queue now."""
        self.scheduled[vcpu] = 0
        guest = self.guest[vcpu]
        returns = self.cap[guest] and self.budget[vcpu] > 0
        if returns:
            # What is left goes back: unit_return_budget.
            self.guest_budget[guest] += self.budget[vcpu]
            self.budget[vcpu] = 0
        if self.delayed_add[vcpu] and self.is_runnable(vcpu):
            self.delayed_add[vcpu] = 0
            self._runq_insert(vcpu)
            self._runq_tickle(vcpu)
        else:
            self.delayed_add[vcpu] = 0
            self._update_load(vcpu, -1)
        if returns and self.guest_budget[guest] > 0:
            self._unpark_all(guest)

    # Tickling.

    def _tickle_cpu(self, cpu: int, vcpu: int) -> None:
        self.tickled[cpu >> 6] |= self.bit[cpu]
        self._smt_idle_clear(cpu)
        self.tickle(cpu, vcpu)

    def _smt_idle_clear(self, cpu: int) -> None:
        for word in range(self.words):
            self.smt_idle[word] &= ~self.core_cpus[cpu * self.words + word]

    def _smt_idle_set(self, cpu: int) -> None:
        # The whole core is idle, and none of it has been told of work.
        for word in range(self.words):
            threads = self.core_cpus[cpu * self.words + word]
            if threads & ~(self.idle[word] & ~self.tickled[word]):
                return
        for word in range(self.words):
            self.smt_idle[word] |= self.core_cpus[cpu * self.words + word]

    def _runq_tickle(self, vcpu: int) -> None:
        # runq_tickle: idle cores first, then idle cpus, each in the soft affinity first; then the
        # cpu that can be preempted best. Cpus of the own run queue only. (Xen's shortcut for who is
        # pinned to one cpu comes to the same.)
        cpu = self.processor[vcpu]
        rqd = self.rqd[vcpu]
        for step in range(0 if self.has_soft[vcpu] else 1, 2):
            idle = self._idle_core(vcpu, cpu, rqd, step)
            if idle < 0:
                idle = self._idle_cpu(vcpu, cpu, rqd, step)
            if idle >= 0:
                self._tickle_for(vcpu, idle)
                return
        best = self._preemptable_cpu(vcpu, cpu, rqd)
        if best >= 0:
            self._tickle_for(vcpu, best)

    def _tickle_for(self, vcpu: int, cpu: int) -> None:
        self._tickle_cpu(cpu, vcpu)
        self.tickled_cpu[vcpu] = cpu

    def _idle_core(self, vcpu: int, cpu: int, rqd: int, step: int) -> int:
        sets = self.soft if step == 0 else self.hard
        for word in range(self.words):
            if self.power_savings:
                idle = self.idle[word] & ~self.smt_idle[word]
            else:
                idle = self.smt_idle[word]
            self.scratch[word] = (
                idle & sets[vcpu * self.words + word] & self.rqd_cpus[rqd * self.words + word]
            )
        return cpu if self.is_in(self.scratch, 0, cpu) else self.after(self.scratch, cpu)

    def _idle_cpu(self, vcpu: int, cpu: int, rqd: int, step: int) -> int:
        sets = self.soft if step == 0 else self.hard
        for word in range(self.words):
            self.scratch[word] = (
                self.idle[word]
                & ~self.tickled[word]
                & sets[vcpu * self.words + word]
                & self.rqd_cpus[rqd * self.words + word]
            )
        return cpu if self.is_in(self.scratch, 0, cpu) else self.after(self.scratch, cpu)

    def _preemptable_cpu(self, vcpu: int, cpu: int, rqd: int) -> int:
        for word in range(self.words):
            self.other[word] = (
                self.rqd_cpus[rqd * self.words + word]
                & ~self.idle[word]
                & ~self.tickled[word]
                & self.hard[vcpu * self.words + word]
            )
        best = -1
        most = 0
        if self.is_in(self.other, 0, cpu):
            score = self._tickle_score(vcpu, cpu, rqd)
            if score > 0:
                most = score
                best = cpu
                if self.is_in(self.soft, vcpu * self.words, cpu):
                    return best
            self.other[cpu >> 6] &= ~self.bit[cpu]
        busy = self.after(self.other, -1)
        first = busy
        while busy >= 0:
            score = self._tickle_score(vcpu, busy, rqd)
            if score > most:
                most = score
                best = busy
            busy = self.after(self.other, busy)
            if busy == first:
                break
        return best

    def _tickle_score(self, vcpu: int, cpu: int, rqd: int) -> int:
        # tickle_score: the difference of credit, and more where that suits both affinities.
        current = self.running[cpu]
        if current < 0:
            return -1
        if self.ratelimit > TICKLE_TOLERANCE and (
            self.now - self.begun[cpu] <= self.ratelimit - TICKLE_TOLERANCE
        ):
            return -1
        self._burn_credits(current, rqd)
        score = self.credit[vcpu] - self.credit[current]
        if self.processor[vcpu] != cpu:
            score -= MIGRATE_RESIST
        if score > 0:
            if self.is_in(self.soft, vcpu * self.words, cpu):
                score += CREDIT_INIT
            if not self.is_in(self.soft, current * self.words, cpu):
                score += CREDIT_INIT
        return score

    # Credits.

    def _burn_credits(self, vcpu: int, rqd: int) -> None:
        # burn_credits and t2c_update
        delta = self.now - self.burnt_at[vcpu]
        if delta <= 0:
            return
        spent = delta * self.max_weight[rqd] + self.residual[vcpu]
        weight = self.own_weight[vcpu]
        self.residual[vcpu] = spent % weight
        credit = self.credit[vcpu] - spent // weight
        self.credit[vcpu] = credit if credit > CREDIT_MIN else CREDIT_MIN
        if self.cap[self.guest[vcpu]]:
            self.budget[vcpu] -= delta
        self.burnt_at[vcpu] = self.now

    def _reset_credit(self, cpu: int, vcpu: int) -> None:
        # reset_credit: all of the run queue get as much more, so that the next one is above 0.
        rqd = self.rqd_of[cpu]
        if self.recording:
            self.note(_RESET, cpu, vcpu)
        more = CREDIT_INIT
        if self.credit[vcpu] == CREDIT_MIN:
            more += CREDIT_INIT
        at = self.member_first[rqd]
        while at >= 0:
            own = self.processor[at]
            if self.running[own] == at:
                self._burn_credits(at, rqd)
                if self.cap[self.guest[at]] and self.budget[at] <= 0:
                    self._tickle_cpu(own, at)
            credit = self.credit[at] + more
            if credit > CREDIT_INIT + CARRYOVER_MAX:
                credit = CREDIT_INIT + CARRYOVER_MAX
            self.credit[at] = credit
            self.burnt_at[at] = self.now
            at = self.member_next[at]

    # Caps.

    def _grab_budget(self, vcpu: int) -> bool:
        # unit_grab_budget: its share of what the guest has left, or it is parked.
        if self.budget[vcpu] > 0:
            return True
        guest = self.guest[vcpu]
        self.guest_budget[guest] += self.budget[vcpu]
        if self.guest_budget[guest] > 0:
            own = self.quota[vcpu]
            if self.guest_budget[guest] < own:
                own = self.guest_budget[guest]
            self.budget[vcpu] = own
            self.guest_budget[guest] -= own
            return True
        self.budget[vcpu] = 0
        self._park(vcpu)
        return False

    def _park(self, vcpu: int) -> None:
        # park_unit
        self.paused[vcpu] = 1
        if self.recording:
            self.note(_PARK, self.processor[vcpu], vcpu)
        if self.queued[vcpu]:
            self._runq_remove(vcpu)
            self._update_load(vcpu, -1)
        guest = self.guest[vcpu]
        self.parked_next[vcpu] = self.parked_first[guest]
        self.parked_first[guest] = vcpu
        self.end_wait(vcpu)

    def _unpark_all(self, guest: int) -> None:
        # unpark_parked_units
        vcpu = self.parked_first[guest]
        self.parked_first[guest] = -1
        while vcpu >= 0:
            following = self.parked_next[vcpu]
            self.paused[vcpu] = 0
            if self.recording:
                self.note(_UNPARK, self.processor[vcpu], vcpu)
            if self.scheduled[vcpu]:
                self.delayed_add[vcpu] = 1
            elif self.is_runnable(vcpu):
                self.wait_since[vcpu] = self.now
                self._update_load(vcpu, 1)
                self._runq_insert(vcpu)
                self._runq_tickle(vcpu)
            vcpu = following

    def unpark(self, guest: int) -> None:
        """replenish_domain_budget, once in BUDGET_PERIOD."""
        self.unpark_at(self.now + BUDGET_PERIOD, guest)
        budget = self.guest_budget[guest] + self.total_budget[guest]
        if budget > self.total_budget[guest]:
            budget = self.total_budget[guest]
        self.guest_budget[guest] = budget
        if budget > 0:
            self._unpark_all(guest)

    # Picking a run queue.

    def pick(self, vcpu: int) -> int:
        """csched2_res_pick: a cpu of the run queue with the least load."""
        wanted = self.wanted_rqd[vcpu]
        self.wanted_rqd[vcpu] = -1
        if wanted >= 0 and self._meets(vcpu, wanted, 1):
            cpu = self.after(self.scratch, self.pick_bias[wanted])
            self.pick_bias[wanted] = cpu
            return cpu
        least = _MOST
        least_soft = _MOST
        best = -1
        best_soft = -1
        for rqd in range(self.run_queue_count):
            if not self._meets(vcpu, rqd, 1):
                continue
            load = self.balance_average[rqd]
            if rqd == self.rqd[vcpu]:
                load -= self.own_average[vcpu]
                if load < 0:
                    load = 0
            if self.has_soft[vcpu] and load < least_soft and self._meets(vcpu, rqd, 0):
                least_soft = load
                best_soft = rqd
            if load < least:
                least = load
                best = rqd
        if best_soft >= 0:
            self._meets(vcpu, best_soft, 0)
        else:
            self._meets(vcpu, best, 1)
        # Xen takes the bias of the other queue, even where the soft one is chosen.
        cpu = self.after(self.scratch, self.pick_bias[best])
        self.pick_bias[best] = cpu
        return cpu

    def move(self, vcpu: int, cpu: int) -> None:
        """csched2_unit_migrate."""
        rqd = self.rqd_of[cpu]
        if rqd != self.rqd[vcpu]:
            self._migrate(vcpu, rqd)
        else:
            self.processor[vcpu] = cpu

    def _migrate(self, vcpu: int, rqd: int) -> None:
        # As migrate() of credit2.c has it.
        if self.recording:
            self.note(_MOVE, self.first_of(rqd), vcpu)
        if self.scheduled[vcpu]:
            self.wanted_rqd[vcpu] = rqd
            self.migrating[vcpu] = 1
            self._tickle_cpu(self.processor[vcpu], vcpu)
            return
        waits = self.queued[vcpu]
        if waits:
            self._runq_remove(vcpu)
            self._update_runq_load(self.rqd[vcpu], -1)
        self._runq_deassign(vcpu)
        self._meets(vcpu, rqd, 1)
        cpu = self.after(self.scratch, self.pick_bias[rqd])
        self.processor[vcpu] = cpu
        self.pick_bias[rqd] = cpu
        self._runq_assign(vcpu, rqd)
        if waits:
            self._update_runq_load(rqd, 1)
            self._runq_insert(vcpu)
            self._runq_tickle(vcpu)

    # Balancing.

    def _balance_load(self, cpu: int) -> None:
        # balance_load: push, pull or swap, so that the own queue and the one whose load is most
        # different come closest. Soft affinity is not looked at.
        own = self.rqd_of[cpu]
        self._update_runq_load(own, 0)
        other = -1
        last = -1
        self.best_delta = 0
        for rqd in range(self.run_queue_count):
            last = rqd
            if rqd == own:
                continue
            self._update_runq_load(rqd, 0)
            delta = self.balance_average[own] - self.balance_average[rqd]
            if delta < 0:
                delta = -delta
            if delta > self.best_delta:
                self.best_delta = delta
                other = rqd
        if other < 0:
            return
        # Xen looks at the queue that it came by last, not at the chosen one.
        if self._is_near(own, last, self.best_delta):
            return
        self._find_exchange(own, other)
        push = self.best_push
        pull = self.best_pull
        if push >= 0:
            self._migrate(push, other)
        if pull >= 0:
            self._migrate(pull, own)

    def _find_exchange(self, own: int, other: int) -> None:
        self.best_push = -1
        self.best_pull = -1
        is_updated = 0
        push = self.member_first[own]
        while push >= 0:
            self._update_own_load(push, 0)
            if self._is_migrateable(push, other):
                pull = self.member_first[other]
                while pull >= 0:
                    if not is_updated:
                        self._update_own_load(pull, 0)
                    if self._is_migrateable(pull, own):
                        self._consider(own, other, push, pull)
                    pull = self.member_next[pull]
                is_updated = 1
                self._consider(own, other, push, -1)
            push = self.member_next[push]
        pull = self.member_first[other]
        while pull >= 0:
            if self._is_migrateable(pull, own):
                self._consider(own, other, -1, pull)
            pull = self.member_next[pull]

    def _consider(self, own: int, other: int, push: int, pull: int) -> None:
        # As consider() of credit2.c has it.
        shifted = 0
        if push >= 0:
            shifted += self.own_average[push]
        if pull >= 0:
            shifted -= self.own_average[pull]
        delta = self.balance_average[own] - self.balance_average[other] - 2 * shifted
        if delta < 0:
            delta = -delta
        if delta < self.best_delta:
            self.best_delta = delta
            self.best_push = push
            self.best_pull = pull

    def _is_migrateable(self, vcpu: int, rqd: int) -> bool:
        # unit_is_migrateable: hard affinity alone.
        return self.wanted_rqd[vcpu] < 0 and self._meets(vcpu, rqd, 1) != 0

    # Scheduling.

    def do_schedule(self, cpu: int) -> int:
        """csched2_schedule."""
        rqd = self.rqd_of[cpu]
        bit = self.bit[cpu]
        if self.tickled[cpu >> 6] & bit:
            self.tickled[cpu >> 6] &= ~bit
            if self.idle[cpu >> 6] & bit:
                self._smt_idle_set(cpu)
        current = self.running[cpu]
        if current >= 0:
            self._burn_credits(current, rqd)
            if self.cap[self.guest[current]] and self.budget[current] <= 0:
                self._grab_budget(current)
        chosen = self._runq_candidate(cpu, current, rqd)
        if current >= 0 and chosen != current and self.is_runnable(current):
            self.delayed_add[current] = 1
        if chosen < 0:
            if not self.idle[cpu >> 6] & bit:
                self.idle[cpu >> 6] |= bit
                self._smt_idle_set(cpu)
            self._update_runq_load(rqd, 0)
            self.slice_ns = -1
            return -1
        if chosen != current:
            self._runq_remove(chosen)
            self.scheduled[chosen] = 1
        if self.idle[cpu >> 6] & bit:
            self.idle[cpu >> 6] &= ~bit
            self._smt_idle_clear(cpu)
        top = self.credit[chosen]
        head = self.rqd_first[rqd]
        if head >= 0 and self.credit[head] > top:
            top = self.credit[head]
        if top <= 0:
            self._reset_credit(cpu, chosen)
            self._balance_load(cpu)
        self.burnt_at[chosen] = self.now
        self.tickled_cpu[chosen] = -1
        if self.processor[chosen] != cpu:
            self.credit[chosen] += MIGRATE_COMPENSATION
            self.processor[chosen] = cpu
        self.slice_ns = self._runtime(cpu, chosen, current, rqd)
        return chosen

    def _runq_candidate(self, cpu: int, current: int, rqd: int) -> int:
        # runq_candidate
        chosen = -1
        yields = 0
        if current >= 0:
            yields = self.yields[current]
            self.yields[current] = 0
            runnable = self.is_runnable(current)
            if not yields and self.ratelimit and runnable:
                if self.now - self.begun[cpu] < self.ratelimit:
                    return current
            if runnable and not self._should_go_home(cpu, current, rqd):
                chosen = current
        at = self.rqd_first[rqd]
        while at >= 0:
            following = self.next_in[at]
            if self._is_for_this_cpu(at, cpu):
                credit = self.credit[chosen] if chosen >= 0 else IDLE_CREDIT
                if self.processor[at] == cpu or credit + MIGRATE_RESIST <= self.credit[at]:
                    if (yields or self.credit[at] > credit) and (
                        not self.cap[self.guest[at]] or self._grab_budget(at)
                    ):
                        chosen = at
                    return chosen
            at = following
        return chosen

    def _should_go_home(self, cpu: int, current: int, rqd: int) -> bool:
        # A cpu of this run queue that the vcpu prefers is idle, and this one is none.
        if not self.has_soft[current] or self.is_in(self.soft, current * self.words, cpu):
            return False
        return self._idle_cpu(current, cpu, rqd, 0) >= 0

    def _is_for_this_cpu(self, vcpu: int, cpu: int) -> bool:
        if not self.is_runnable(vcpu) or not self.is_in(self.hard, vcpu * self.words, cpu):
            return False
        told = self.tickled_cpu[vcpu]
        return told < 0 or told == cpu or not self.is_in(self.tickled, 0, told)

    def _runtime(self, cpu: int, vcpu: int, current: int, rqd: int) -> int:
        # csched2_runtime: until its credit is that of the next one, or 0.
        shortest = MIN_TIMER
        if self.ratelimit:
            least = self.ratelimit
            if vcpu == current:
                least = self.begun[cpu] + self.ratelimit - self.now
            if least > shortest:
                shortest = least
        credit = self.credit[vcpu]
        head = self.rqd_first[rqd]
        if head >= 0 and self.credit[head] > 0:
            credit -= self.credit[head]
        time = 0
        if credit > 0:
            time = credit * self.own_weight[vcpu] // self.max_weight[rqd]
        if self.cap[self.guest[vcpu]] and self.budget[vcpu] < time:
            time = self.budget[vcpu]
        if time < shortest:
            return shortest
        return time if time < MAX_TIMER else MAX_TIMER
