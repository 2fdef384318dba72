"""Policies: an admission rule and an order on candidates.

A policy is a tuple of terms that are compared from left to right; what is smaller wins, and of
two equal candidates the one with the lexicographically earlier node set. A term is written

    [-]FACT[~STEP]

``-`` prefers the larger value; ``~STEP`` compares whole steps only (``-usable~4G``,
``vcpus_per_core~1/8``), so that one vcpu does not outweigh 500 GiB. Rounding down to steps keeps
the order transitive, which "equal within 10 %" (version 2 of the 2012 series) does not.
"""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, Protocol

from homenode.errors import HomenodeError, ParseError
from homenode.guest import GuestRequest
from homenode.host import LEVELS
from homenode.placement.facts import FACTS, Ratio, Value
from homenode.units import format_memory, parse_memory_kib


class Term(NamedTuple):
    """One fact of a policy: its name, its sign, and its step as a fraction (None: exact)."""

    fact: str
    sign: Literal[1, -1] = 1
    step: tuple[int, int] | None = None
    step_text: str = ""

    def __str__(self) -> str:
        step = f"~{self.step_text}" if self.step_text else ""
        return f"{'-' if self.sign < 0 else ''}{self.fact}{step}"

    def spoken(self, value: Value) -> str:
        """Return a compared value as people read it: the fact itself, in its unit."""
        if not isinstance(value, int):
            return str(value) if self.sign > 0 else str(-value)
        plain = value if self.sign > 0 else -value
        if self.step is not None:
            plain = plain * self.step[0] // self.step[1]
        if self.fact == "level" and self.step is None:
            return LEVELS[plain]
        return format_memory(plain) if FACTS[self.fact].unit == "KiB" else str(plain)

    def value(self, raw: int | Ratio) -> int | Ratio:
        """Return what is compared for a raw value of the fact: smaller is better."""
        if self.step is not None:
            above, below = self.step
            if isinstance(raw, Ratio):
                raw = raw.above * below // (raw.below * above)
            else:
                raw = raw * below // above
        return raw if self.sign > 0 else -raw


class Policy(NamedTuple):
    """A named order on candidates, and how a candidate is admitted.

    Admission ``usable`` (all but one): vcpus and memory must fit in what is usable. ``libxl``:
    as libxl runs, raw free memory is summed, and a vcpu counts on each node that it may use.
    """

    name: str
    terms: tuple[Term, ...]
    purpose: str = "an order of your own"
    admission: Literal["usable", "libxl"] = "usable"
    aliases: tuple[str, ...] = ()

    @property
    def order(self) -> str:
        """The terms as they are written."""
        return ",".join(map(str, self.terms))


class Measured(Protocol):
    """Of a row of a table of facts, what an order has to know."""

    @property
    def unit(self) -> str:
        """The unit of the fact, empty if it has none."""


MOST_TERMS = 100
"""More than there are facts; each may come again with a finer step."""

_LONGEST_SHOWN = 120


def parse_order(text: str, facts: Mapping[str, Measured] = FACTS) -> tuple[Term, ...]:
    """Read an order such as ``nodes,distance,-usable~4G`` of these facts."""
    count = text.count(",") + 1
    if count > MOST_TERMS:
        raise ParseError(
            f"{count} terms in policy {_shown(text)}", hint=f"no more than {MOST_TERMS} are read"
        )
    terms = tuple(_term(part.strip(), text, facts) for part in text.split(","))
    names = [term.fact for term in terms]
    for at, name in enumerate(names):
        if name in names[:at] and terms[names.index(name)].step is None:
            raise ParseError(
                f"policy {_shown(text)} names {name} again",
                hint="the first one already decides on it",
            )
    return terms


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "...")


def _term(part: str, text: str, facts: Mapping[str, Measured]) -> Term:
    name, tilde, step_text = part.removeprefix("-").partition("~")
    if name not in facts:
        raise ParseError(
            f"there is no fact {_shown(name)} in policy {_shown(text)}",
            hint=f"there are {', '.join(facts)}",
        )
    step = _step(step_text, facts[name].unit, part) if tilde else None
    return Term(name, -1 if part.startswith("-") else 1, step, step_text)


def _step(text: str, unit: str, part: str) -> tuple[int, int]:
    above_text, slash, below_text = text.partition("/")
    try:
        if unit == "KiB" and not slash:
            above, below = parse_memory_kib(above_text), 1
        else:
            above, below = _count(above_text), _count(below_text) if slash else 1
    except ParseError as error:
        raise ParseError(f"not a step: {_shown(part)}: {error.message}", hint=error.hint) from None
    if not above or not below:
        raise ParseError(f"not a step: {_shown(part)}", hint="a step is larger than nothing")
    return above, below


def _count(text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise ParseError(f"not a number: {_shown(text)}", hint="write a step as 8, 1/8 or 4GiB")
    return int(text)


def order_for(policy: Policy, request: GuestRequest) -> tuple[Term, ...]:
    """Return the terms by which the policy ranks sets of nodes for `request`.

    Spilling comes before all that the policy says, for it is meant for want of memory alone. A
    guest that is to be split goes onto as few nodes as can be.
    """
    if not (request.spill or request.split):
        return policy.terms
    first = ("spilled",) * request.spill + ("nodes",) * request.split
    return (*(Term(name) for name in first if Term(name) != policy.terms[0]), *policy.terms)


def _named(
    name: str,
    order: str,
    purpose: str,
    *,
    aliases: tuple[str, ...] = (),
    admission: Literal["usable", "libxl"] = "usable",
) -> Policy:
    return Policy(name, parse_order(order), purpose, admission, aliases)


DEFAULT: Final = "balanced"

POLICIES: Final[dict[str, Policy]] = {
    policy.name: policy
    for policy in (
        _named(
            "balanced",
            "level,nodes,distance,cores_short,vcpus_per_core~1/8,far_distance,device_distance,"
            "device_scarcity,hole~4G,-usable~4G",
            "near together, on whole cores, where load is low, and keeping large nodes whole",
        ),
        _named(
            "first-fit",
            "nodes",
            "the fewest nodes, and of those the first that fit",
            aliases=("greedy",),
        ),
        _named(
            "best-fit",
            "nodes,usable",
            "the fewest nodes, filling up what is fullest: keeps large nodes free",
            aliases=("packed",),
        ),
        _named(
            "worst-fit",
            "nodes,-usable",
            "the fewest nodes, taking the emptiest: spreads guests",
            aliases=("spread",),
        ),
        _named(
            "xl",
            "nodes,vcpus,-usable",
            "libxl as it runs: raw free memory, no distances; but hard affinity counts",
            admission="libxl",
        ),
        _named(
            "xapi",
            "distance_max,distance_mean,vcpus",
            "as XenServer's planner: nearest nodes first, then the least used",
        ),
    )
}
"""The register of policies; `policy` finds them by name or alias."""


def policy(text: str) -> Policy:
    """Return the policy of that name or alias, or the one that the order describes."""
    for known in POLICIES.values():
        if text == known.name or text in known.aliases:
            return known
    name = text.lstrip("-").partition("~")[0].partition(",")[0].strip()
    if name not in FACTS:
        raise HomenodeError(
            f"there is no policy {_shown(text)}",
            hint=f"there are {', '.join(POLICIES)}, or compose one: see homenode policies",
        )
    return Policy(text, parse_order(text))
