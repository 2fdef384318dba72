"""Small hosts and vcpus for the tests of the simulators."""

from homenode.scheduler.codes import Happening, Kind
from homenode.scheduler.credit import Credit
from homenode.scheduler.credit2 import Credit2
from homenode.scheduler.ideal import Ideal
from homenode.scheduler.tasks import Ground, Share, Task
from homenode.scheduler.versions import credit_version

MS = 1_000_000
S = 1_000_000_000


def host(nodes=1, cores=1, threads=1, sockets=None):
    """Return a ground of `nodes` nodes with so many cores each; a socket for each node."""
    cpus = nodes * cores * threads
    node = tuple(cpu // (cores * threads) for cpu in range(cpus))
    sockets = nodes if sockets is None else sockets
    return Ground(
        node,
        tuple(cpu // threads for cpu in range(cpus)),
        tuple(at * sockets // nodes for at in node),
        tuple(range(cpus)),
        tuple(range(nodes)),
    )


def cpus(*numbers):
    """Return a set of cpus as bits."""
    return sum(1 << number for number in numbers)


def task(guest=0, kind=Kind.SPIN, *, hard=None, soft=None, start=0, **more):
    """Return a vcpu that may run anywhere."""
    everywhere = (1 << 1024) - 1
    return Task(
        guest,
        everywhere if hard is None else hard,
        everywhere if soft is None else soft,
        kind,
        start_ns=start,
        **more,
    )


def cycle(guest=0, run=MS, sleep=MS, **more):
    """Return a vcpu that runs and sleeps."""
    return task(guest, Kind.CYCLE, burst_ns=run, sleep_ns=sleep, **more)


def shares(tasks, weights=(), caps=()):
    """Return the guests' shares."""
    count = max(one.guest for one in tasks) + 1
    return [Share(weights[at] if weights else 256, caps[at] if caps else 0) for at in range(count)]


def credit(ground, tasks, *, version="4.18", weights=(), caps=(), **more):
    """Return a host under credit that has begun."""
    changes = more.pop("changes", {})
    chosen = credit_version(version)._replace(**changes)
    made = Credit(ground, tasks, shares(tasks, weights, caps), version=chosen, record=True, **more)
    made.begin()
    return made


def credit2(ground, tasks, *, weights=(), caps=(), **more):
    """Return a host under credit2 that has begun."""
    made = Credit2(ground, tasks, shares(tasks, weights, caps), record=True, **more)
    made.begin()
    return made


def ideal(ground, tasks, **more):
    """Return a host under the ideal scheduler that has begun."""
    made = Ideal(ground, tasks, shares(tasks), record=True, **more)
    made.begin()
    return made


def told(engine, *kinds):
    """Return what happened of these kinds."""
    return [one for one in engine.happenings() if one[1] in kinds]


def runs(engine, vcpu=None):
    """Return (time, cpu, vcpu) of every start of a vcpu."""
    return [
        (time, cpu, who)
        for time, what, cpu, who in engine.happenings()
        if what == Happening.RUN and who >= 0 and vcpu in (None, who)
    ]


def idle_waits(engine, tasks):
    """Return how long each vcpu waited, at the longest, while a cpu that it may use idled."""
    running = dict.fromkeys(range(engine.cpus), -1)
    since = {}
    longest = [0] * len(tasks)
    waiting = set()
    for time, what, cpu, vcpu in engine.happenings():
        if what in (Happening.WAKE, Happening.UNPARK):
            waiting.add(vcpu)
        elif what in (Happening.BLOCK, Happening.PARK):
            waiting.discard(vcpu)
        elif what == Happening.RUN:
            running[cpu] = vcpu
        on = {who for who in running.values() if who >= 0}
        for who in range(len(tasks)):
            idles = any(running[at] < 0 and tasks[who].hard >> at & 1 for at in range(engine.cpus))
            if who in waiting and who not in on and idles:
                since.setdefault(who, time)
            elif who in since:
                longest[who] = max(longest[who], time - since.pop(who))
    return longest
