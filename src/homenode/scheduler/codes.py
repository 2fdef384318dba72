"""Numbers that stand for things in the flat arrays of the simulators."""

from enum import IntEnum


class Kind(IntEnum):
    """Kinds of work of a vcpu (see `tasks.Task`)."""

    IDLE = 0
    SPIN = 1
    CYCLE = 2
    CHAIN = 3
    SERVE = 4
    BATCH = 5
    YIELD = 6


class Happening(IntEnum):
    """What the record of a simulation tells; each with a time, a cpu and a vcpu (or -1).

    RUN: from now on the cpu runs this vcpu, or -1: nothing. WAKE, BLOCK: the vcpu has work, or has
    none any more. TICKLE: the cpu is told to choose anew, because of the vcpu. STEAL: the cpu takes
    it from the queue of another. MIGRATE: it was picked for the cpu. BOOST, PARK, UNPARK: as Xen's
    credit has it. RESET: credits are given anew in the run queue of the cpu, as the vcpu was next.
    MOVE: it goes to the run queue of the cpu. ACCOUNT: credits are handed out.
    """

    RUN = 0
    WAKE = 1
    BLOCK = 2
    TICKLE = 3
    STEAL = 4
    MIGRATE = 5
    BOOST = 6
    PARK = 7
    UNPARK = 8
    RESET = 9
    MOVE = 10
    ACCOUNT = 11
