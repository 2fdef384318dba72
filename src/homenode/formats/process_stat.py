"""What Linux tells of cpus and processes in ``/proc/stat`` and ``/proc/PID/stat``.

Source: Linux, fs/proc/stat.c, show_stat(); fs/proc/array.c, do_task_stat(); proc(5).
"""

from homenode.formats.columns import whole_number

_TIMES = 8
"""user, nice, system, idle, iowait, irq, softirq and steal; what follows is part of them."""
_AT_REST = (3, 4)

_LAST_CPU = 36
_STARTED_AT = 19
"""Counted behind the name, which stands in brackets and may hold anything."""


def busy_ticks(text: str) -> dict[int, int]:
    """Return by cpu for how many ticks it has done anything, from ``/proc/stat``.

    Waiting for input or output is idle; what guests ran is part of ``user``. A cpu whose line is
    no such line is left out.
    """
    busy = {}
    for line in text.splitlines():
        if not line.startswith("cpu"):
            break  # what follows is long
        words = line.split(None, _TIMES + 1)
        cpu = whole_number(words[0][3:])
        ticks = [whole_number(word) for word in words[1 : _TIMES + 1]]
        told = [one for at, one in enumerate(ticks) if at not in _AT_REST and one is not None]
        if cpu is not None and len(told) == _TIMES - len(_AT_REST):
            busy[cpu] = sum(told)
    return busy


def last_cpu(text: bytes) -> int:
    """Return the cpu that a process or thread was on last; -1 if it is not told."""
    words = text.rpartition(b")")[2].split(None, _LAST_CPU + 1)
    if len(words) <= _LAST_CPU:
        return -1
    cpu = whole_number(words[_LAST_CPU].decode("ascii", "replace"))
    return -1 if cpu is None else cpu


def started_at(text: str) -> str:
    """Return when a process began, in ticks since the boot; empty if it is not told."""
    words = text.rpartition(")")[2].split()
    return words[_STARTED_AT] if len(words) > _STARTED_AT else ""
