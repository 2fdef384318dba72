"""From what a format has to a `Trace`: who comes and goes, numbered, and what they want, interned.

All of it is done on whole columns. Guests are numbered in the order in which they come; a guest
that goes is the bitwise complement of its number, as in `Trace`.
"""

from array import array
from random import Random
from typing import Any, NamedTuple

from homenode.errors import HomenodeError, ParseError
from homenode.fleet.groups import GROUP_RULES, Membership
from homenode.fleet.reading.columns import Problem, Rows
from homenode.fleet.reading.library import pl
from homenode.fleet.reading.rules import Rules
from homenode.fleet.trace import NO_MEMBERSHIP, Trace
from homenode.guest import GuestRequest

KIB_PER_GIB = 1 << 20

_SIZE = ("vcpus", "memory_kib", "nodes")
_MEMBERSHIP = ("group", "rule", "domain")
_SLICE = 100_000
_JOINED = 1_000_000
"""Rows that are looked at together: a join of all of them would take several times their room."""
_STEP = 1000
"""Into so many steps the time from one arrival to the next is divided."""


class Draft(NamedTuple):
    """What a source has, before the rules.

    `arrivals` has a row for each guest: `vcpus`, `memory_kib`, `nodes` (0: as few as can be), and
    if anybody is in a group, `group`, `rule` and `domain` (empty or null without). `events` and
    `times_ms` are as in `Trace`. `synthetic` is what the reader itself had to supply.
    """

    arrivals: pl.DataFrame
    events: pl.Series
    times_ms: pl.Series
    synthetic: tuple[str, ...] = ()


def request_of(vcpus: int, memory_kib: int, nodes: int | None) -> GuestRequest:
    """Return the request of a guest of that size; its name is its flavour, such as ``4x16GiB``."""
    size, unit = memory_kib, "KiB"
    for larger in ("MiB", "GiB"):
        if size % 1024 == 0:
            size, unit = size // 1024, larger
    return GuestRequest(
        f"{vcpus}x{size}{unit}", vcpus, memory_kib, guest_memory_kib=memory_kib, node_count=nodes
    )


def milliseconds(column: str) -> pl.Expr:
    """Return a column of seconds as whole milliseconds, the nearest ones."""
    return (pl.col(column) * 1000).round().cast(pl.Int64)


def kib_of_gib(rows: Rows, column: str) -> pl.Series:
    """Return a column of GiB in KiB, rounded up; `ParseError` if one is not more than 0."""
    rows.refuse(pl.col(column) <= 0, column, f"{{{column}}} is not more than 0")
    return (rows.frame[column] * KIB_PER_GIB).ceil().cast(pl.Int64)


def numbered(rows: Rows, guest: str, *, comes: pl.Series) -> pl.Series:
    """Return the events of `rows`, in which `comes` tells whether the one named in `guest` does.

    Raises `ParseError` for the first that comes while it is there, or goes while it is not. A
    name may be used again by one who comes after the other has gone.
    """
    # Sorted by name, and still in order for each: then the row above is what happened before. A
    # guest was named before if that is one of its own, and is there if it came by that.
    was = (pl.col("guest") == pl.col("guest").shift(1)).fill_null(value=False)
    frame = pl.DataFrame(
        {
            "guest": rows.frame[guest],
            "comes": comes,
            "number": comes.cum_sum().cast(pl.Int32) - 1,
            "row": pl.int_range(len(comes), dtype=pl.UInt32, eager=True),
        }
    ).sort("guest", maintain_order=True)
    frame = frame.select(
        "row",
        "comes",
        "number",
        above=pl.col("number").shift(1).fill_null(0),
        was=was,
        is_there=(was & pl.col("comes").shift(1)).fill_null(value=False),
    )
    wrong = frame.filter(pl.col("comes") == pl.col("is_there"))
    if not wrong.is_empty():
        raise _unlikely(rows, guest, wrong.row(wrong["row"].arg_min() or 0, named=True))
    events = frame.select(
        "row",
        event=pl.when("comes").then(pl.col("number")).otherwise(-1 - pl.col("above")),
    )
    del frame
    return events.sort("row")["event"].cast(pl.Int64)


def _unlikely(rows: Rows, guest: str, event: dict[str, Any]) -> ParseError:
    name = rows.frame[guest][event["row"]]
    what = (
        "comes, and is there already" if event["comes"]
        else "goes, and has gone before" if event["was"]
        else "goes, and has never come"
    )  # fmt: skip
    return rows.error(Problem(event["row"], guest, f"{name!r:.40} {what}"))


def planned(starts_ms: pl.Series, ends_ms: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Return events and times of guests that come and go at these times; an end may be null.

    At one time, those who came before go first, then others come, and those who stay for no time
    at all go last.
    """
    numbers = pl.int_range(len(starts_ms), dtype=pl.Int64, eager=True)
    ends = pl.DataFrame({"event": -1 - numbers, "time": ends_ms, "start": starts_ms}).drop_nulls()
    going = ends.select(
        "event", "time", turn=pl.when(pl.col("time") > pl.col("start")).then(0).otherwise(2)
    )
    coming = pl.DataFrame({"event": numbers, "time": starts_ms}).with_columns(turn=pl.lit(1))
    both = pl.concat([going, coming]).sort(pl.col("time") * 4 + pl.col("turn"), maintain_order=True)
    return both["event"], both["time"]


def check_membership(rows: Rows, *, comes: pl.Expr) -> None:
    """Raise `ParseError` for a guest whose `group`, `rule` and `domain` do not go together."""
    group, rule, domain = (pl.col(name) for name in _MEMBERSHIP)
    rows.refuse(comes & group.is_not_null() & rule.is_null(), "rule", "is empty, and group is not")
    rows.refuse(comes & group.is_null() & rule.is_not_null(), "group", "is empty, and rule is not")
    apart = rule == "fault-domain"
    rows.refuse(comes & apart & domain.is_null(), "domain", "is empty, and rule is fault-domain")
    rows.refuse(
        comes & domain.is_not_null() & ~apart.fill_null(value=False),
        "domain",
        "has a value, and rule is not fault-domain",
    )
    members = (
        rows.frame.lazy()
        .select("group", "rule", comes=comes)
        .with_row_index("row")
        .filter(pl.col("comes") & pl.col("group").is_not_null())
        .select("row", "group", "rule")
        .collect()
    )
    firsts = members.unique("group", keep="first", maintain_order=True)
    other = members.join(firsts, on="group").filter(pl.col("rule") != pl.col("rule_right"))
    if not other.is_empty():
        row, group_, rule_, _, first = other.sort("row").row(0)
        message = f"group {group_!r:.40} is {first} before, and {rule_} here"
        raise rows.error(Problem(row, "rule", message, "a group has one rule"))


def trace_of(draft: Draft, rules: Rules, *, name: str, source: str) -> Trace:
    """Return the trace that `rules` make of `draft`.

    Raises `HomenodeError` for rules that supply what the source has itself.
    """
    had_departures = len(draft.events) > len(draft.arrivals)
    if rules.lifetimes is not None and had_departures:
        raise HomenodeError(
            f"{source}: guests go in this trace, and so have lifetimes of their own",
            hint="lifetimes are drawn only for a trace without departures",
        )
    if rules.first is not None:
        draft = _first(draft, rules.first)
    if rules.wide is not None:
        draft = _widened(draft, rules.wide, source)
    if rules.lifetimes is not None:
        draft = _with_lifetimes(draft, rules.lifetimes, rules.seed)
    requests, wanted = _interned(draft.arrivals)
    memberships, membership = _memberships(draft.arrivals)
    return Trace(
        name=name,
        source=source,
        requests=requests,
        wanted=wanted,
        events=_array("q", draft.events),
        times_ms=_array("q", draft.times_ms),
        memberships=memberships,
        membership=membership,
        synthetic=draft.synthetic,
    )


def _first(draft: Draft, count: int) -> Draft:
    kept = (draft.events < count) & (draft.events >= -count)
    return draft._replace(
        arrivals=draft.arrivals.head(count),
        events=draft.events.filter(kept),
        times_ms=draft.times_ms.filter(kept),
    )


def _widened(draft: Draft, wide: tuple[int, int], source: str) -> Draft:
    vcpus, nodes = wide
    if not (draft.arrivals["nodes"] == 0).any():
        raise HomenodeError(
            f"{source}: this trace says on how many nodes each guest is",
            hint="leave out the rule for wide guests",
        )
    is_wide = (pl.col("nodes") == 0) & (pl.col("vcpus") >= vcpus)
    arrivals = draft.arrivals.with_columns(
        nodes=pl.when(is_wide).then(pl.lit(nodes, pl.Int32)).otherwise(pl.col("nodes"))
    )
    rule = (
        f"guests of {vcpus} vcpus or more are on {nodes} node{'s' * (nodes > 1)}, others on as few "
        "as can be, where the trace does not say on how many"
    )
    return draft._replace(arrivals=arrivals, synthetic=(*draft.synthetic, rule))


def _with_lifetimes(draft: Draft, mean: int, seed: int) -> Draft:
    """Let every guest go after a number of arrivals that is drawn; later than the last: never.

    The time between two arrivals is divided evenly, since it may be 0 for thousands of them.
    """
    count = len(draft.arrivals)
    number = pl.int_range(count, dtype=pl.Int64, eager=True)
    stays = -(1 - uniform(count, seed)).log() * mean
    # At least one step, or it would go before it comes; and no more than an int holds.
    steps = ((stays * _STEP).floor().clip(0, count * _STEP)).cast(pl.Int64) + 1
    goes = pl.DataFrame({"event": -1 - number, "step": number * _STEP + steps})
    goes = goes.filter(pl.col("step") < (count - 1) * _STEP)
    times = draft.times_ms
    before, after = times.gather(goes["step"] // _STEP), times.gather(goes["step"] // _STEP + 1)
    goes = goes.with_columns(time=before + (after - before) * (goes["step"] % _STEP) // _STEP)
    comes = pl.DataFrame({"event": number, "step": number * _STEP, "time": times})
    both = pl.concat([goes, comes]).sort("step", maintain_order=True)
    rule = (
        f"each guest stays for {mean} arrivals in the mean, exponentially distributed (seed "
        f"{seed}), or to the end: the trace has no departures"
    )
    return draft._replace(
        events=both["event"], times_ms=both["time"], synthetic=(*draft.synthetic, rule)
    )


def uniform(count: int, seed: int) -> pl.Series:
    """Return `count` numbers from 0 to less than 1, the same ones on every machine."""
    draw = Random(seed).random  # noqa: S311 - nothing here is secret
    return pl.Series(array("d", (draw() for _ in range(count))), dtype=pl.Float64)


def _interned(arrivals: pl.DataFrame) -> "tuple[tuple[GuestRequest, ...], array[int]]":
    sizes = arrivals.select(_SIZE)
    kinds = sizes.unique(maintain_order=True)
    requests = tuple(
        request_of(vcpus, kib, nodes or None) for vcpus, kib, nodes in kinds.iter_rows()
    )
    return requests, _numbers("I", sizes, kinds)


def _memberships(arrivals: pl.DataFrame) -> "tuple[tuple[Membership, ...], array[int]]":
    if "group" not in arrivals.columns:
        return (), array("i")
    belongs = arrivals.select(
        pl.col("group").cast(pl.String),
        pl.col("rule").cast(pl.String),
        pl.col("domain").cast(pl.String).fill_null(""),
    )
    kinds = belongs.filter(pl.col("group").is_not_null()).unique(maintain_order=True)
    if kinds.is_empty():
        return (), array("i")
    by_name = {rule: rule for rule in GROUP_RULES}
    memberships = tuple(
        Membership(group, by_name[rule], domain) for group, rule, domain in kinds.iter_rows()
    )
    return memberships, _numbers("i", belongs, kinds)


def _numbers(code: str, rows: pl.DataFrame, kinds: pl.DataFrame) -> "array[int]":
    """Return for each row the number of the kind that it equals; -1 if it equals none."""
    made: array[int] = array(code)
    numbered_kinds = kinds.with_row_index("kind")
    for part in rows.iter_slices(_JOINED):
        joined = part.join(numbered_kinds, on=kinds.columns, how="left", maintain_order="left")
        made.extend(_array(code, joined["kind"].cast(pl.Int32).fill_null(NO_MEMBERSHIP)))
    return made


def _array(code: str, values: pl.Series) -> "array[int]":
    # Slice by slice: a list of all of them would take ten times the room.
    made: array[int] = array(code)
    for begin in range(0, len(values), _SLICE):
        made.fromlist(values.slice(begin, _SLICE).to_list())
    return made
