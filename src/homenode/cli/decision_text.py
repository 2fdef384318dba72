"""A decision, as the document that ``--json`` prints and as the lines that people read."""

from typing import TYPE_CHECKING

from homenode.bitmap import NodeMap
from homenode.guest import VirtualNode
from homenode.host import LEVELS, ORDINARY_PAGE_KIB, Host
from homenode.placement.decision import Candidate, Decision, MemoryShare, Warned
from homenode.placement.facts import FACTS
from homenode.units import format_memory, format_page

if TYPE_CHECKING:
    from homenode.placement.explain import Explanation

DOCUMENT_VERSION = 1
_LONGEST = 40


def decision_document(told: "Explanation", digest: str) -> dict[str, object]:
    """Return the versioned document of a decision (``place --json``)."""
    decision = told.decision
    document: dict[str, object] = {
        "version": DOCUMENT_VERSION,
        "guest": decision.guest,
        "policy": decision.policy,
        "fits": decision.fits,
        "optimal": decision.optimal,
        "nodes": list(decision.nodes),
        "memory": [_share(share) for share in decision.memory],
        "vcpus": [
            {
                "vcpus": run.vcpus,
                "hard": None if run.hard is None else str(run.hard),
                "soft": None if run.soft is None else str(run.soft),
            }
            for run in decision.vcpus
        ],
        "virtual_nodes": [
            {**cell._asdict(), "vcpus": str(cell.vcpus)} for cell in decision.virtual_nodes
        ],
        "memory_needed_kib": decision.memory_needed_kib,
        "facts": dict(decision.facts),
        "candidates": [_candidate(candidate) for candidate in told.candidates],
        "rejected": _rejected(told),
        "remedies": [
            {"kind": remedy.kind, "nodes": list(remedy.nodes), "text": remedy.text}
            for remedy in told.remedies
        ],
        "reason": decision.reason,
        "warnings": [{"code": warned.code, "text": warned.text} for warned in decision.warnings],
        "snapshot": digest,
    }
    if decision.gap is not None:
        document["gap"] = decision.gap._asdict()
    return document


def _share(share: MemoryShare) -> dict[str, object]:
    return share._asdict()


def _candidate(candidate: Candidate) -> dict[str, object]:
    facts = {name: value for name, value in candidate.facts if name != "nodes"}
    return {
        "nodes": list(candidate.nodes),
        "memory": [_share(share) for share in candidate.memory],
        **facts,
    }


def _rejected(told: "Explanation") -> list[dict[str, object]]:
    rivals = zip(told.candidates[1:], told.lost_by[1:], strict=True)
    outranked = [(candidate.nodes, why) for candidate, why in rivals]
    return [
        {"nodes": list(nodes), "reason": reason} for nodes, reason in [*outranked, *told.rejected]
    ]


def decision_lines(decision: Decision, host: Host) -> list[str]:
    """Return the decision in a few lines."""
    lines = [_headline(decision)]
    if decision.fits:
        memory = ", ".join(_share_words(share, host) for share in decision.memory)
        lines.append(f"  memory   {memory or 'none'}")
        lines += [f"  vcpus    {line}" for line in _vcpu_lines(decision)]
        lines += [f"  virtual  {_cell_words(cell)}" for cell in decision.virtual_nodes]
    lines.append(f"  because  {decision.reason}")
    if decision.gap is not None:
        gap = decision.gap
        lines.append(f"  not proved: {gap.fact} is {gap.value}, and might be as low as {gap.bound}")
    return list(map(_shown, lines + warning_lines(decision.warnings)))


def written_line(path: str) -> str:
    """Return that the guest's file at `path` has the decision in it."""
    return _shown(f"  written  {path}")


def _share_words(share: MemoryShare, host: Host) -> str:
    node = host.nodes_by_id[share.node]
    pages = f" in pages of {format_page(share.page_kib)}" * (share.page_kib > ORDINARY_PAGE_KIB)
    # Which kind it is matters where it is not that of the cpus.
    kind = "" if host.cpus_by_node[node.id] else f" ({node.kind or 'no cpus'})"
    return f"{format_memory(share.kib)}{pages} on node {node.id}{kind}"


def _cell_words(cell: VirtualNode) -> str:
    vcpus = f"vcpus {cell.vcpus}" if cell.vcpus else "no vcpus"
    where = "" if cell.node is None else f" on node {cell.node}"
    return f"node {cell.id}: {vcpus}, {format_memory(cell.memory_kib)}{where}"


def _headline(decision: Decision) -> str:
    name = decision.guest
    if len(name) > _LONGEST:
        name = name[:_LONGEST] + "..."
    if not decision.fits:
        return f"{name}: does not fit"
    where = decision.nodes.named
    if not decision.nodes:
        where = (
            f"memory on {NodeMap(share.node for share in decision.memory).named}, vcpus elsewhere"
        )
    return f"{name}: {where}"


def _vcpu_lines(decision: Decision) -> list[str]:
    lines = []
    for run in decision.vcpus:
        said = []
        if run.hard is not None:
            said.append(f"held to cpus {run.hard}")
        # What a vcpu prefers says nothing where it may run nowhere else.
        if run.soft is not None and not (run.hard is not None and run.hard <= run.soft):
            said.append(f"preferring cpus {run.soft}")
        lines.append(f"{run.vcpus} {', '.join(said) or 'on any cpu'}")
    return lines


def _shown(line: str) -> str:
    if line.isprintable():
        return line
    from homenode.drawing import printable  # noqa: PLC0415 - rarely

    return printable(line)


def warning_lines(warnings: tuple[Warned, ...]) -> list[str]:
    """Return a line for each warning."""
    return [f"  warning  {warned.text} [{warned.code}]" for warned in warnings]


def explanation_lines(told: "Explanation") -> list[str]:
    """Return what `decision_lines` leaves out: rivals, what was passed over, remedies."""
    lines = []
    if told.candidates:
        lines += ["", "candidates that fit:", *_table(_candidate_rows(told))]
    if told.rejected:
        lines += ["", "nodes that are not taken:"]
        lines += [f"  {rejected.nodes.named}: {rejected.reason}" for rejected in told.rejected]
    if told.remedies:
        lines += ["", "what would make it fit (each was tried):"]
        lines += [f"  - {remedy.text}" for remedy in told.remedies]
    return list(map(_shown, lines))


def _candidate_rows(told: "Explanation") -> list[tuple[str, ...]]:
    # Facts in which the candidates are all alike tell nothing.
    facts = [dict(candidate.facts) for candidate in told.candidates]
    names = [name for name in told.ranked_by if len({str(one[name]) for one in facts}) > 1]
    rows = [("nodes", *names, "memory", "why")]
    for candidate, values, why in zip(told.candidates, facts, told.lost_by, strict=True):
        shares = " + ".join(format_memory(share.kib) for share in candidate.memory)
        shown = (_spoken(name, values[name]) for name in names)
        rows.append((str(candidate.nodes), *shown, shares, why))
    return rows


def _spoken(fact: str, value: float) -> str:
    if fact == "level":
        return LEVELS[int(value)]
    return format_memory(int(value)) if FACTS[fact].unit == "KiB" else str(value)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
