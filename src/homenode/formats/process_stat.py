"""What Linux tells of cpus and processes in ``/proc/stat`` and ``/proc/PID/stat``.

Source: Linux, fs/proc/stat.c, show_stat(); fs/proc/array.c, do_task_stat(); proc(5).
"""

_LAST_CPU = 36
_STARTED_AT = 19
"""Counted behind the name, which stands in brackets and may hold anything."""


def busy_ticks(text: str) -> dict[int, int]:
    """Return by cpu for how many ticks it has done anything, from ``/proc/stat``.

    Waiting for input or output is idle; what guests ran is part of ``user``.
    """
    busy = {}
    for line in text.splitlines():
        if not line.startswith("cpu"):
            break  # what follows is long
        words = line.split()
        number = words[0][3:]
        if number.isdecimal():
            user, nice, system, _, _, interrupts, soft, stolen = (*map(int, words[1:9]),)
            busy[int(number)] = user + nice + system + interrupts + soft + stolen
    return busy


def last_cpu(text: bytes) -> int:
    """Return the cpu that a process or thread was on last; -1 if it is not told."""
    words = text.rpartition(b")")[2].split(None, _LAST_CPU + 1)
    return int(words[_LAST_CPU]) if len(words) > _LAST_CPU else -1


def started_at(text: str) -> str:
    """Return when a process began, in ticks since the boot; empty if it is not told."""
    words = text.rpartition(")")[2].split()
    return words[_STARTED_AT] if len(words) > _STARTED_AT else ""
