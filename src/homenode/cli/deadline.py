"""A time by which whoever waits for homenode gets an answer, come what may."""

import signal


class LateError(BaseException):
    """The time is over.

    Not an `Exception`: who reads on where a file cannot be read (`TimeoutError` is an `OSError`)
    would go on without a deadline.
    """


def set_deadline(seconds: float) -> None:
    """Raise `LateError` in so many seconds, wherever this process is then."""

    def late(_number: int, _frame: object) -> None:
        raise LateError(f"no answer within {seconds:g} s")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def lift_deadline() -> None:
    """Raise nothing any more: the answer is there."""
    signal.setitimer(signal.ITIMER_REAL, 0)
