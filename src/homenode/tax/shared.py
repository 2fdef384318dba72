"""Documents that others have shared: read with care, and set side by side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from homenode.errors import HomenodeError
from homenode.tax.protocol import CASES
from homenode.tax.results import VERSION

_LONGEST = 60
_NOTHING = "-"


class Shared(NamedTuple):
    """A document, and what it is called here: its file."""

    name: str
    document: Mapping[str, object]


def read(text: str, *, source: str) -> Shared:
    """Return the document; `HomenodeError` for what is none of ours, or of a later version."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HomenodeError(f"{source}: is no JSON: {error}"[:200]) from None
    if not isinstance(document, dict) or document.get("kind") != "tax":
        raise HomenodeError(
            f"{source}: is no document of homenode tax", hint="homenode tax -o FILE writes one"
        )
    if document.get("version") != VERSION:
        raise HomenodeError(
            f"{source}: is of version {str(document.get('version'))[:20]}, and {VERSION} is known"
            " here",
            hint="a newer homenode reads it",
        )
    return Shared(source, document)


def side_by_side(shared: Sequence[Shared]) -> list[list[str]]:
    """Return the rows of a table: what, and a column for each document."""
    columns = [_lines(one.document) for one in shared]
    names: dict[str, None] = {}
    for column in columns:
        names.update(dict.fromkeys(column))
    head = ["", *(_text(one.name) for one in shared)]
    return [
        head,
        *([name, *(one.get(name, _NOTHING) for one in columns)] for name in _sorted(names)),
    ]


def _sorted(names: Mapping[str, None]) -> list[str]:
    """Return names with the facts of the machine first, then the figures by copies and measure."""
    facts = [name for name in names if not name.startswith("x")]
    figures = [name for name in names if name.startswith("x")]
    titles = [_parts(name)[1] for name in figures]

    def rank(name: str) -> tuple[int, int, int]:
        count, title, case = _parts(name)
        return count, titles.index(title), CASES.index(case) if case in CASES else -1

    return facts + sorted(figures, key=rank)


def _parts(name: str) -> tuple[int, str, str]:
    count, _, rest = name[1:].partition(" ")
    title, _, case = rest.rpartition(", ")
    return int(count), title, case


def _lines(document: Mapping[str, object]) -> dict[str, str]:
    machine = _table(document.get("machine"))
    nodes = [_table(node) for node in _list(machine.get("nodes"))]
    protocol = _table(document.get("protocol"))
    words = [_text(machine.get(key)) for key in ("vendor", "product")]
    lines = {
        "machine": " ".join(word for word in words if word != _NOTHING) or _NOTHING,
        "cpu": _text(machine.get("cpu")),
        "virtual": "yes" if machine.get("virtual") is True else "no",
        "sockets, cores, cpus": ", ".join(
            _text(machine.get(key)) for key in ("sockets", "cores", "cpus")
        ),
        "nodes": str(len(nodes)),
        "distance": _text(protocol.get("distance")),
        "last cache": _last_cache(machine),
        "kernel": _text(machine.get("kernel")),
        "hypervisor": _text(machine.get("hypervisor")),
        "governor": _text(machine.get("governor")),
        "measured by": _text(document.get("by")),
        "homenode": _text(document.get("homenode")),
    }
    for measure in map(_table, _list(document.get("measures"))):
        lines.update(_figures(measure, document))
    return lines


def _last_cache(machine: Mapping[str, object]) -> str:
    caches = [_table(cache) for cache in _list(machine.get("caches"))]
    if not caches:
        return _NOTHING
    kib = _number(caches[-1].get("kib"))
    return _NOTHING if kib is None else f"{kib / 1024:g} MiB"


def _figures(
    measure: Mapping[str, object], document: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    name, title, unit = (_text(measure.get(key)) for key in ("name", "title", "unit"))
    for row in map(_table, _list(document.get("results"))):
        figure = _table(_table(row.get("figures")).get(name))
        case, copies = _text(row.get("case")), row.get("copies")
        if not figure or not isinstance(copies, int) or isinstance(copies, bool):
            continue
        middle, cost = _number(figure.get("median")), _number(figure.get("cost_percent"))
        told = _NOTHING if middle is None else f"{middle:.4g} {unit}"
        if case != "best" and cost is not None:
            told += f" ({cost:+.0f} %)".replace("-0 ", "+0 ")
        yield f"x{copies} {title}, {case}", told


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, (int, float)) else None
    except OverflowError:  # an integer of more digits than a machine measures
        return None


def _table(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    """Return a text of somebody else's such that it neither steers a terminal nor fills it."""
    if value is None or isinstance(value, (dict, list)):
        return _NOTHING
    plain = "".join(letter if letter.isprintable() else "?" for letter in str(value)[:_LONGEST])
    return plain or _NOTHING
