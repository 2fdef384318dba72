"""The run queues of Xen's credit2: which cpus share one, who is in it, and how loaded it is.

Each rule is one method, named as the function of xen/common/sched/credit2.c that it is. Loads are
averages over about a second, in units of ``1 << PRECISION_SHIFT`` for a vcpu that always runs.
"""

from collections.abc import Sequence

from homenode.errors import HomenodeError
from homenode.scheduler import flat
from homenode.scheduler.engine import Engine
from homenode.scheduler.tasks import Ground, Queue, Share, Task

ARRANGEMENTS = ("cpu", "core", "socket", "node", "all")
"""``credit2_runqueue``: the cpus that share a run queue; ``socket`` is the default."""

MAX_CPUS_OF_QUEUE: int = 16
"""``sched_credit2_max_cpus_runqueue``."""

GRANULARITY_SHIFT: int = 10
WINDOW_SHIFT: int = 30 - GRANULARITY_SHIFT
PRECISION_SHIFT: int = 18
UNDERLOAD_TOLERANCE: int = 0
OVERLOAD_TOLERANCE: int = -3


def run_queues(ground: Ground, arrangement: str) -> tuple[int, ...]:
    """Return the number of the run queue of each cpu: cpu_add_to_runqueue, cpu by cpu.

    Threads of a core stay together; else the queues are as even as can be.
    """
    if arrangement not in ARRANGEMENTS:
        raise HomenodeError(
            f"credit2: cpus cannot share a run queue by {arrangement!r}",
            hint="known: " + ", ".join(ARRANGEMENTS),
        )
    groups = {
        "cpu": range(ground.cpus),
        "core": ground.core,
        "socket": ground.socket,
        "node": ground.node,
        "all": (0,) * ground.cpus,
    }[arrangement]
    fewest = (ground.cpus - 1) // MAX_CPUS_OF_QUEUE + 1
    most = ground.cpus // fewest
    threads: dict[int, int] = {}
    for core in ground.core:
        threads[core] = threads.get(core, 0) + 1
    members: list[list[int]] = []
    of_cpu: list[int] = []
    for cpu in range(ground.cpus):
        chosen = None
        for number, own in enumerate(members):
            if groups[own[0]] != groups[cpu]:
                continue
            if arrangement != "cpu" and any(ground.core[o] == ground.core[cpu] for o in own):
                chosen = number
                break
            room = sum(threads[core] for core in {ground.core[other] for other in own})
            if len(own) < most and room + threads[ground.core[cpu]] <= most:
                if chosen is None or len(own) < len(members[chosen]):
                    chosen = number
        if chosen is None:
            chosen = len(members)
            members.append([])
        members[chosen].append(cpu)
        of_cpu.append(chosen)
    return tuple(of_cpu)


class RunQueues(Engine):
    """A host whose cpus share run queues, by `arrangement` (``credit2_runqueue``)."""

    def __init__(
        self,
        ground: Ground,
        tasks: Sequence[Task],
        shares: Sequence[Share],
        queues: Sequence[Queue] = (),
        *,
        arrangement: str,
        timer_delay_us: int = 0,
        seed: int = 0,
        record: bool = False,
    ) -> None:
        Engine.__init__(
            self, ground, tasks, shares, queues, timer_delay_us=timer_delay_us, seed=seed,
            record=record,
        )  # fmt: skip
        of_cpu = run_queues(ground, arrangement)
        count = max(of_cpu, default=-1) + 1
        self.run_queue_count = count
        self.rqd_of = flat.integers(self.cpus)
        self.rqd_cpus = flat.bits(count * self.words)
        self.rqd_size = flat.integers(count)
        self.pick_bias = flat.integers(count, -1)
        for cpu in range(self.cpus):
            rqd = of_cpu[cpu]
            self.rqd_of[cpu] = rqd
            self.rqd_cpus[rqd * self.words + (cpu >> 6)] |= self.bit[cpu]
            self.rqd_size[rqd] += 1
            if self.pick_bias[rqd] < 0:
                self.pick_bias[rqd] = cpu
        self.rqd_first = flat.integers(count, -1)
        self.load = flat.integers(count)
        self.average = flat.integers(count)
        self.balance_average = flat.integers(count)
        self.load_updated = flat.integers(count)
        self.max_weight = flat.integers(count, 1)
        # The vcpus of a run queue, whether they wait, run or sleep; who comes is last.
        self.member_first = flat.integers(count, -1)
        self.member_last = flat.integers(count, -1)
        self.member_next = flat.integers(self.vcpus, -1)

        self.rqd = flat.integers(self.vcpus, -1)
        self.next_in = flat.integers(self.vcpus, -1)
        self.queued = flat.integers(self.vcpus)
        self.credit = flat.integers(self.vcpus)
        self.own_weight = flat.integers(self.vcpus)
        self.own_average = flat.integers(self.vcpus, 1 << (PRECISION_SHIFT - 1))
        self.own_updated = flat.integers(self.vcpus)
        for vcpu in range(self.vcpus):
            self.own_weight[vcpu] = self.weight[self.guest[vcpu]]

    def _runq_insert(self, vcpu: int) -> None:
        # runq_insert: by credit, behind those that have as much.
        rqd = self.rqd[vcpu]
        credit = self.credit[vcpu]
        before = -1
        at = self.rqd_first[rqd]
        while at >= 0 and credit <= self.credit[at]:
            before = at
            at = self.next_in[at]
        self.next_in[vcpu] = at
        if before < 0:
            self.rqd_first[rqd] = vcpu
        else:
            self.next_in[before] = vcpu
        self.queued[vcpu] = 1

    def _runq_remove(self, vcpu: int) -> None:
        rqd = self.rqd[vcpu]
        at = self.rqd_first[rqd]
        if at == vcpu:
            self.rqd_first[rqd] = self.next_in[vcpu]
        else:
            while self.next_in[at] != vcpu:
                at = self.next_in[at]
            self.next_in[at] = self.next_in[vcpu]
        self.queued[vcpu] = 0

    def _runq_assign(self, vcpu: int, rqd: int) -> None:
        # _runq_assign: the queue is expected to bear the vcpu's load, too.
        self.rqd[vcpu] = rqd
        self.member_next[vcpu] = -1
        if self.member_last[rqd] < 0:
            self.member_first[rqd] = vcpu
        else:
            self.member_next[self.member_last[rqd]] = vcpu
        self.member_last[rqd] = vcpu
        if self.own_weight[vcpu] > self.max_weight[rqd]:
            self.max_weight[rqd] = self.own_weight[vcpu]
        self.balance_average[rqd] += self.own_average[vcpu]

    def _runq_deassign(self, vcpu: int) -> None:
        rqd = self.rqd[vcpu]
        before = -1
        at = self.member_first[rqd]
        while at != vcpu:
            before = at
            at = self.member_next[at]
        following = self.member_next[vcpu]
        if before < 0:
            self.member_first[rqd] = following
        else:
            self.member_next[before] = following
        if self.member_last[rqd] == vcpu:
            self.member_last[rqd] = before
        # update_max_weight
        heaviest = 1
        at = self.member_first[rqd]
        while at >= 0:
            if self.own_weight[at] > heaviest:
                heaviest = self.own_weight[at]
            at = self.member_next[at]
        self.max_weight[rqd] = heaviest
        left = self.balance_average[rqd] - self.own_average[vcpu]
        self.balance_average[rqd] = left if left > 0 else 0
        self.rqd[vcpu] = -1

    # Load.

    def _update_runq_load(self, rqd: int, change: int) -> None:
        # update_runq_load: an average over about a second, and one for balancing.
        now = self.now >> GRANULARITY_SHIFT
        load = self.load[rqd] << PRECISION_SHIFT
        delta = now - self.load_updated[rqd]
        if delta > 1 << WINDOW_SHIFT:
            self.average[rqd] = load
            self.balance_average[rqd] = load
        else:
            gained = (delta * load) >> WINDOW_SHIFT
            self.average[rqd] += gained - ((delta * self.average[rqd]) >> WINDOW_SHIFT)
            self.balance_average[rqd] += gained - (
                (delta * self.balance_average[rqd]) >> WINDOW_SHIFT
            )
        self.load[rqd] += change
        self.load_updated[rqd] = now

    def _update_own_load(self, vcpu: int, change: int) -> None:
        # update_svc_load: what it was until now, runnable or not.
        if change < 0:
            load = 1
        elif change > 0:
            load = 0
        else:
            load = 1 if self.is_runnable(vcpu) else 0
        now = self.now >> GRANULARITY_SHIFT
        delta = now - self.own_updated[vcpu]
        if delta > 1 << WINDOW_SHIFT:
            self.own_average[vcpu] = load << PRECISION_SHIFT
        else:
            self.own_average[vcpu] += ((delta * (load << PRECISION_SHIFT)) >> WINDOW_SHIFT) - (
                (delta * self.own_average[vcpu]) >> WINDOW_SHIFT
            )
        self.own_updated[vcpu] = now

    def _update_load(self, vcpu: int, change: int) -> None:
        self._update_runq_load(self.rqd[vcpu], change)
        self._update_own_load(vcpu, change)

    def _is_near(self, own: int, other: int, delta: int) -> bool:
        # Loads that differ by so much need no balancing: by a whole vcpu where there is room, by
        # an eighth where there is none.
        load = max(self.balance_average[own], self.balance_average[other])
        cpus = max(self.rqd_size[own], self.rqd_size[other])
        if load < cpus << PRECISION_SHIFT:
            return delta < 1 << (PRECISION_SHIFT + UNDERLOAD_TOLERANCE)
        return delta < 1 << (PRECISION_SHIFT + OVERLOAD_TOLERANCE)

    # Their cpus.

    def _meets(self, vcpu: int, rqd: int, step: int) -> int:
        # Leaves in `scratch` the cpus of the run queue in the affinity; whether there are any.
        sets = self.soft if step == 0 else self.hard
        found = 0
        for word in range(self.words):
            part = sets[vcpu * self.words + word] & self.rqd_cpus[rqd * self.words + word]
            self.scratch[word] = part
            if part:
                found = 1
        return found

    def first_of(self, rqd: int) -> int:
        """Return the first cpu of a run queue."""
        for word in range(self.words):
            if self.rqd_cpus[rqd * self.words + word]:
                return (word << 6) + flat.lowest_bit(self.rqd_cpus[rqd * self.words + word])
        return -1
