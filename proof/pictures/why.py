"""Why placement matters: a host, what others measured, what our labs show, what the model says."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import altair as alt
from altair.typing import ChartType

from homenode.bitmap import CpuMap, NodeMap
from homenode.drawing import svg
from homenode.fleet.pictures.look import INK, QUIET
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.scheduler.memory import Appetite, Use, paces
from homenode.scheduler.models import Model as Machine
from homenode.scheduler.models import Work, machine, work
from proof import published
from proof.pictures import DOCS
from proof.pictures.plots import (
    BLUE,
    BROWN,
    GREEN,
    PURPLE,
    RED,
    SKY,
    VIOLET,
    WIDTH,
    YELLOW,
    Plot,
    colour,
    plot,
    rounded,
)

if TYPE_CHECKING:
    from homenode.fleet.pictures import Row

GIB = 1 << 20


def host() -> str:
    """Return the picture of a host with a guest at home, and one that is not."""
    model = machine("8269cy-snc2")
    # What the firmware of that machine says; the model's own host has them from latencies.
    distances = [[10, 11, 21, 21], [11, 10, 21, 21], [21, 21, 10, 11], [21, 21, 11, 10]]
    drawn = model.host.replace(name="2x Xeon Platinum 8269CY, SNC2", distances=distances)
    guests = [_guest("home", drawn.cpus_by_node[0], 0), _guest("away", drawn.cpus_by_node[1], 2)]
    nodes = [
        node._replace(free_kib=(node.free_kib or 0) - (48 * GIB if node.id in (0, 2) else 0))
        for node in drawn.nodes
    ]
    return svg.topology(drawn.replace(nodes=nodes), guests, width=800)


def _guest(name: str, cpus: CpuMap, memory: int) -> Guest:
    # A vcpu for each core.
    vcpus = [Vcpu(at, cpus, cpus, cpu=cpu) for at, cpu in enumerate(list(cpus)[:16:2])]
    kib = MemoryByNode({memory: 48 * GIB}, "drawn")
    return Guest(
        name, tuple(vcpus), memory_kib=48 * GIB, memory_by_node=kib, node_affinity=NodeMap([memory])
    )


class Gain(NamedTuple):
    """How many times as much was done where memory was near, as published."""

    what: str
    times: float
    kind: str


SATURATED, NEAR, NOTHING = "one controller had served all nodes", "memory came near", "no effect"

GAINS = (
    Gain("numa02 on 4 nodes (Molnar, 2012)", 56.1 / 14.9, SATURATED),
    Gain("numa01 on 4 nodes (Molnar, 2012)", 340.3 / 166.6, SATURATED),
    Gain("2 SpecJBB on 8 nodes (van Riel, 2014)", (755900 + 754914) / (544121 + 453553), NEAR),
    Gain("4 JVMs of 12 threads on 4 nodes (Gorman, 2012)", 676012 / 515079, NEAR),
    Gain("the same JVMs, 1 thread each", 125897 / 125247, NOTHING),
    Gain("Xen, 2 guests, SpecJBB (2012)", 49594.2 / 43275.4, NEAR),
    Gain("Xen, 2 guests, sysbench memory (2012)", 550.87 / 487.83, NEAR),
    Gain("Xen, 10 guests, sysbench memory (2012)", 321.81 / 302.49, NEAR),
    Gain("Xen, 10 guests, sysbench cpu (2012)", 90.397 / 89.975, NOTHING),
)
"""Tables of others: docs/why.md has the sources."""


def gains() -> Plot:
    """Return the picture of what others published."""
    rows: list[Row] = [
        {**one._asdict(), "times": rounded(one.times), "words": f"{one.times:.2f}", "base": 1.0}
        for one in GAINS
    ]
    up = alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=400))
    across = alt.X(
        "times:Q",
        scale=alt.Scale(domain=[0.9, 4], nice=False),
        title="times as much work where placed (1: no difference)",
    )
    kinds = {SATURATED: RED, NEAR: BLUE, NOTHING: BROWN}
    bar = alt.Chart(alt.NamedData("gains"), mark=alt.MarkDef(type="bar", size=14))
    words = alt.Chart(
        alt.NamedData("gains"), mark=alt.MarkDef(type="text", align="left", dx=5, color=INK)
    )
    chart = alt.layer(
        bar.encode(x=across, x2="base:Q", y=up, color=colour("kind", kinds)),
        words.encode(x=across, y=up, text="words:N"),
    ).properties(width=420, height=24 * len(rows))
    return plot(
        "What placing was worth, as others published it",
        "Work done with memory and threads bound to nodes or balanced onto them, as a multiple of"
        " what was done without.",
        [chart],
        {"gains": rows},
    )


class Shown(NamedTuple):
    """Two figures of a document's table, in percent: without homenode, and with it.

    They are in the column so many `after` the one of the `key`.
    """

    what: str
    page: str
    key: tuple[str, ...]
    after: int
    peers: tuple[str, str]


LABS = (
    Shown("guests that run, of eight started at once (libvirt)", "proof.md",
          ("eight at once, placement=auto",), 2, ("stock", "homenode")),
    Shown("local memory of these", "proof.md",
          ("eight at once, placement=auto",), 3, ("stock", "homenode")),
    Shown('memory on the nodes asked for, cpus="node:1" (Xen)', "proof.md",
          ('`cpus="node:1"`',), 2, ("xl", "homenode")),
    Shown("memory on the nodes asked for, a node not as free as it looks (Xen)", "proof.md",
          ("free, but not usable",), 2, ("xl", "homenode")),
    Shown("time at home of busy guests that prefer it (Xen, credit2)", "residency.md",
          ("credit2 socket",), 2, ("soft", "hard")),
)  # fmt: skip


def labs() -> Plot:
    """Return the picture of our own measurements, as the documents have them."""
    rows: list[Row] = []
    for shown in LABS:
        for peer, name in zip(shown.peers, ("stock", "homenode"), strict=True):
            percent = percent_in_table(shown, peer)
            rows.append({"what": shown.what, "who": name, "percent": percent,
                         "words": f"{name} {percent:.0f} %"})  # fmt: skip
    parts: list[ChartType] = []
    data: dict[str, list[Row]] = {}
    for at, shown in enumerate(LABS):
        data[f"labs-{at}"] = [row for row in rows if row["what"] == shown.what]
        parts.append(_pair(f"labs-{at}", shown.what, is_last=shown == LABS[-1]))
    return plot(
        "What our labs show",
        "Real Xen and real libvirt on emulated nodes: where memory lies and vcpus run is real,"
        " how fast they are is not.",
        parts,
        data,
    )


def _pair(rows: str, title: str, *, is_last: bool) -> ChartType:
    across = alt.X(
        "percent:Q",
        scale=alt.Scale(domain=[0, 100]),
        axis=alt.Axis(title="percent") if is_last else None,
    )
    up = alt.Y("who:N", sort=["stock", "homenode"], title=None, axis=None)
    who = alt.Scale(domain=["stock", "homenode"], range=[RED, BLUE])
    data = alt.NamedData(rows)
    bars = alt.Chart(data, mark=alt.MarkDef(type="bar", size=14))
    words = alt.Chart(data, mark=alt.MarkDef(type="text", align="left", dx=5))
    return alt.layer(
        bars.encode(x=across, y=up, color=alt.Color("who:N", legend=None, scale=who)),
        words.encode(x=across, y=up, text="words:N"),
    ).properties(width=560, height=40, title=alt.Title(title, fontWeight="normal", fontSize=13))


def percent_in_table(shown: Shown, peer: str) -> float:
    """Return a figure of a table of the documents, in percent."""
    for line in (DOCS / shown.page).read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and peer in cells and all(key in cells for key in shown.key):
            at = cells.index(shown.key[0]) + shown.after
            first, _, second = cells[at].partition(" of ")
            return 100 * int(first) / int(second) if second else float(first.rstrip("%"))
    raise LookupError(f"docs/{shown.page} has no row of {shown.key} and {peer}")


KINDS = {
    "stream": RED, "specjbb2005": BLUE, "web-search": GREEN, "mail": VIOLET, "kernbench": BROWN,
}  # fmt: skip
"""Kinds of work of the model, and their colours."""

MARKED = {
    "8269cy-snc2": "in a socket (8269CY)", "8269cy": "2x Platinum 8269CY", "6980p": "2x Xeon 6980P",
}  # fmt: skip
"""Machines whose latency from node 0 to node 1 is marked, and how they are named."""


def distance() -> Plot:
    """Return the picture of pace by share of remote memory, and by how far it is."""
    of_share: list[Row] = []
    of_ratio: list[Row] = []
    for name in KINDS:
        kind = work(name)
        for step in range(21):
            share, ratio = step / 20, 1 + 2.5 * step / 20
            of_share.append(
                {"kind": kind.title, "x": share, "pace": rounded(_pace(kind, share, 1.6))}
            )
            of_ratio.append(
                {"kind": kind.title, "x": ratio, "pace": rounded(_pace(kind, 1, ratio))}
            )
    colours = {work(name).title: own for name, own in KINDS.items()}
    marks: list[Row] = []
    for name, words in MARKED.items():
        far = rounded(machine(name).machine.latency[0][1])
        marks.append({"x": far, "words": f"{words}: {far:.2f}", "is_last": far > 3})
    up = alt.Y("pace:Q", scale=alt.Scale(domain=[0.2, 1], nice=False), title="pace",
               axis=alt.Axis(format="%"))  # fmt: skip
    line = alt.MarkDef(type="line", strokeWidth=2.5)
    left = alt.Chart(alt.NamedData("share"), mark=line).encode(
        x=alt.X("x:Q", axis=alt.Axis(format="%"), title="share of memory that is remote"),
        y=up,
        color=colour("kind", colours),
    )
    across = alt.X("x:Q", scale=alt.Scale(domain=[1, 3.5], nice=False),
                   title="latency of that memory, as a multiple of local")  # fmt: skip
    right = alt.Chart(alt.NamedData("ratio"), mark=line).encode(
        x=across, y=up, color=colour("kind", colours, key=False)
    )
    data = alt.NamedData("marks")
    rules = alt.Chart(data, mark=alt.MarkDef(type="rule", color=QUIET, strokeDash=[4, 3]))
    names = [
        alt.Chart(data, mark=alt.MarkDef(type="text", align=align, dx=dx, color=QUIET))
        .encode(x=across, y=alt.value(238), text="words:N")
        .transform_filter(f"{condition}datum.is_last")
        for align, dx, condition in (("left", 5, "!"), ("right", -5, ""))
    ]
    return plot(
        "Predicted: how fast a vcpu gets on, by where its memory is",
        "The memory model, on a host that is not busy; 100 % is all memory local. Above: remote is"
        " 1.6 times as far. Below: all memory is remote; dashed lines are measured machines.",
        [
            left.properties(width=WIDTH, height=210),
            alt.layer(right, rules.encode(x=across), *names).properties(width=WIDTH, height=250),
        ],
        {"share": of_share, "ratio": of_ratio, "marks": marks},
    )


def _pace(kind: Work, share: float, ratio: float) -> float:
    # The model's formula for a host on which nothing is full: docs/simulation.md.
    model = machine("8269cy").machine._replace(
        latency=((1.0, ratio), (ratio, 1.0)), controllers=(None, None),
        links=((None, None), (None, None)),
    )  # fmt: skip
    appetite = Appetite(kind.stall, 0.0, (1 - share, share))
    return paces(model, [appetite], [Use(0, 0, 1.0)]).pace[0][0]


MEMORY = {
    "each on its own node": BLUE, "striped over both": YELLOW, "all on one node": RED,
    "each on the other node": PURPLE,
}  # fmt: skip


def load() -> Plot:
    """Return the picture of work done by how many vcpus are busy, and where their memory is."""
    model, kind = machine("8269cy"), work("numa02")
    rows: list[Row] = [
        {"vcpus": count, "memory": where, "work": rounded(_work(model, kind, count, where))}
        for where in MEMORY
        for count in range(2, 53, 2)
    ]
    chart = alt.Chart(alt.NamedData("load"), mark=alt.MarkDef(type="line", strokeWidth=2.5)).encode(
        x=alt.X("vcpus:Q", title="busy vcpus, half of them on each node",
                scale=alt.Scale(domain=[0, 52], nice=False)),
        y=alt.Y("work:Q", title="work done, cpus' worth with local memory"),
        color=colour("memory", MEMORY),
    )  # fmt: skip
    return plot(
        "Predicted: work done by load, and by where memory is",
        f"{model.title}, bandwidths as measured; each vcpu streams {kind.gb_s:g} GB/s (assumed)"
        " over memory of its own, and has a core to itself.",
        [chart.properties(width=WIDTH, height=300)],
        {"load": rows},
    )


def _work(model: Machine, kind: Work, count: int, where: str) -> float:
    shares = {
        "each on its own node": ((1.0, 0.0), (0.0, 1.0)),
        "striped over both": ((0.5, 0.5), (0.5, 0.5)),
        "all on one node": ((1.0, 0.0), (1.0, 0.0)),
        "each on the other node": ((0.0, 1.0), (1.0, 0.0)),
    }[where]
    appetites = [Appetite(kind.stall, kind.gb_s, shares[at % 2]) for at in range(count)]
    found = paces(model.machine, appetites, [Use(at, at % 2, 1.0) for at in range(count)])
    return sum(found.pace[at][at % 2] for at in range(count))


SPECJBB = {
    ("cpus_all", 2): 43275.4, ("cpus_all", 6): 29716.2, ("cpus_all", 10): 19192.6,
    ("pinned", 2): 49594.2, ("pinned", 6): 33671.8, ("pinned", 10): 21891.1,
}  # fmt: skip
"""Throughput of a guest, xen commit ebce2d836c (December 2012), column "with the change"."""

COLUMNS = {
    "free, published": SKY, "free, simulated": BLUE, "node affinity (4.3), simulated": YELLOW,
    "pinned, simulated": RED, "pinned, published": PURPLE,
}  # fmt: skip


def series() -> Plot:
    """Return the picture of the tables of 2012 beside the simulator, and of the series' column."""
    truth = {
        ("specjbb2005", *cell): published.Measured(mean, 0.0) for cell, mean in SPECJBB.items()
    }
    had = {cell: published.spent(cell[1], cell[0]) for cell in SPECJBB}
    fit = published.fitted("specjbb2005", truth, had)
    rows: list[Row] = []
    for count in (2, 6, 10):
        soft = published.spent(count, "soft", published.WITH_SOFT)
        values = (
            SPECJBB["cpus_all", count], published.predicted(fit, had["cpus_all", count]),
            published.predicted(fit, soft), published.predicted(fit, had["pinned", count]),
            SPECJBB["pinned", count],
        )  # fmt: skip
        rows += (
            {"guests": f"{count} guests", "column": name, "value": round(value)}
            for name, value in zip(COLUMNS, values, strict=True)
        )
    chart = alt.Chart(alt.NamedData("series"), mark=alt.MarkDef(type="bar")).encode(
        x=alt.X("guests:N", sort=None, title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("column:N", sort=None, scale=alt.Scale(paddingOuter=0.15)),
        y=alt.Y("value:Q", title="SpecJBB2005, operations a second of a guest"),
        color=colour("column", COLUMNS),
    )
    return plot(
        "The tables of December 2012 beside the simulator",
        "Three numbers are fitted on the published figures of 2 and 10 guests, the rest predicted."
        " What the series brought (node affinity) was never published as text.",
        [chart.properties(width=WIDTH, height=280)],
        {"series": rows},
    )


_DRAWN: dict[str, Callable[[], str | Plot]] = {
    "why-host.svg": host, "why-published.svg": gains, "why-labs.svg": labs,
    "why-distance.svg": distance, "why-load.svg": load, "why-2012.svg": series,
}  # fmt: skip
NAMES = tuple(_DRAWN)


def pictures() -> Iterator[tuple[str, str | Plot]]:
    """Yield the names of the pictures, with their text, or how they are drawn."""
    for name, draw in _DRAWN.items():
        yield name, draw()
