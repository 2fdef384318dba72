"""What the vcpus of simulated guests do: how much of a cpu each wants, over time.

Written as words with commas between them, each for one guest (``NAME:WORD``) or for all others:

============== ====================================================================
word           meaning
============== ====================================================================
``idle``       nothing
``busy``       a whole cpu, always
``0.3``        that share of a cpu, always
``square/60``  a whole cpu for 30 s and nothing for 30 s, by turns
============== ====================================================================
"""

from collections.abc import Callable

from homenode.errors import HomenodeError

Load = Callable[[str, int, float], float]
"""From a guest's name, the number of a vcpu and the time in seconds to the share that it wants."""


def idle(_guest: str, _vcpu: int, _time_s: float) -> float:
    """Want nothing."""
    return 0.0


def parse_load(text: str) -> Load:
    """Read what guests do."""
    named: dict[str, Callable[[float], float]] = {}
    others: Callable[[float], float] = lambda _time_s: 0.0  # noqa: E731 - one of several
    for part in text.split(","):
        name, colon, word = part.rpartition(":")
        wave = _wave(word)
        if colon:
            named[name] = wave
        else:
            others = wave
    return lambda guest, _vcpu, time_s: named.get(guest, others)(time_s)


def _wave(word: str) -> Callable[[float], float]:
    kind, slash, number = word.partition("/")
    share = {"idle": 0.0, "busy": 1.0}.get(word)
    try:
        if share is None and not slash:
            share = float(word)
        period_s = float(number) if slash else 0.0
    except ValueError:
        share, kind = None, ""
    if share is not None and 0 <= share <= 1:
        wants = share
        return lambda _time_s: wants
    if kind == "square" and 0 < period_s < 1e9:
        return lambda time_s: 1.0 if time_s % period_s < period_s / 2 else 0.0
    raise HomenodeError(
        f"load: no guest can do {word[:40]!r}", hint="busy, idle, a share such as 0.3, or square/60"
    )
