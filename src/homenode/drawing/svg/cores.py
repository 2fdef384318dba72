"""The cores of a node: in dies, in last-level caches, with a square for each cpu."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from homenode.drawing.hierarchy import Cache, Package
from homenode.drawing.svg.canvas import Block, Canvas

_GAP = 2
_LABEL = 13


class Look(NamedTuple):
    """How cores are drawn: pixels of a cpu, and of the room around a cache; and whose cpus.

    `colours` has the colour and the name of the guest whose vcpu was last seen on a cpu.
    """

    thread: int
    pad: int
    colours: Mapping[int, tuple[str, str]]


class _CacheBox(NamedTuple):
    """A cache's place within its package: its size, its cores in a row, and cpus in a core's row.

    A core is one row of cpus, but for made-up ones with more threads than are wide.
    """

    cache: Cache
    x: float
    y: float
    width: float
    height: float
    columns: int
    threads: int


def cores_block(packages: Sequence[Package], width: float, look: Look) -> Block:
    """Return the drawing of a node's cores; of no height where it has none."""
    if len(packages) == 1:
        return _package_block(packages[0], width, look, framed=False)
    blocks = [_package_block(package, width, look, framed=True) for package in packages]

    def draw(canvas: Canvas, x: float, y: float) -> None:
        for block in blocks:
            block.draw(canvas, x, y)
            y += block.height + 4

    return Block(sum(block.height + 4 for block in blocks), draw)


def _package_block(package: Package, width: float, look: Look, *, framed: bool) -> Block:
    pad = 4 if framed else 0
    head = _LABEL if framed and package.label else 0
    boxes, inner = _caches(package.caches, width - 2 * pad, look)

    def draw(canvas: Canvas, x: float, y: float) -> None:
        if framed:
            canvas = canvas.group(package.label or "a part whose socket and die nobody states")
            canvas.box(x, y, width=width, height=inner + head + 2 * pad, style="package", radius=3)
        if head:
            canvas.text(x + pad, y + 11, package.label, "quiet small")
        for box in boxes:
            _draw_cache(canvas, box, look, (x + pad, y + pad + head))

    return Block(inner + head + 2 * pad, draw)


def _caches(caches: Sequence[Cache], width: float, look: Look) -> tuple[list[_CacheBox], float]:
    """Return the places of caches, which flow in rows, and the height of them all."""
    boxes: list[_CacheBox] = []
    x = y = height = 0.0
    for cache in caches:
        box = _cache_box(cache, width, look)
        if x and x + box.width > width:
            x, y, height = 0.0, y + height + _GAP + 1, 0.0
        boxes.append(box._replace(x=x, y=y))
        x += box.width + _GAP + 1
        height = max(height, box.height)
    return boxes, y + height


def _cache_box(cache: Cache, width: float, look: Look) -> _CacheBox:
    pad = look.pad if cache.llc is not None else 0
    side = look.thread + 1
    most = max(len(core) for core in cache.cores)
    threads = max(1, min(most, int((width - 2 * pad - 3) // side)))
    core = threads * side + 3
    most_columns = max(1, int((width - 2 * pad + _GAP) // (core + _GAP)))
    rows = -(-len(cache.cores) // most_columns)
    columns = -(-len(cache.cores) // rows)
    return _CacheBox(
        cache,
        x=0,
        y=0,
        width=columns * (core + _GAP) - _GAP + 2 * pad,
        height=rows * (_core_height(most, threads, look) + _GAP) - _GAP + 2 * pad,
        columns=columns,
        threads=threads,
    )


def _core_height(cpus: int, threads: int, look: Look) -> float:
    return -(-cpus // threads) * (look.thread + 1) + 3


def _draw_cache(canvas: Canvas, box: _CacheBox, look: Look, place: tuple[float, float]) -> None:
    left, top = place[0] + box.x, place[1] + box.y
    pad = 0
    if box.cache.llc is not None:
        pad = look.pad
        outline = canvas.box(left, top, width=box.width, height=box.height, style="llc", radius=3)
        outline.title(f"last-level cache {box.cache.llc}")
    side = look.thread + 1
    most = max(len(core) for core in box.cache.cores)
    width, height = box.threads * side + 3, _core_height(most, box.threads, look)
    for at, core in enumerate(box.cache.cores):
        row, column = divmod(at, box.columns)
        x, y = left + pad + column * (width + _GAP), top + pad + row * (height + _GAP)
        own = min(len(core), box.threads) * side + 3
        canvas.box(x, y, width=own, height=_core_height(len(core), box.threads, look),
                   style="core", radius=2)  # fmt: skip
        for thread, cpu in enumerate(core):
            down, right = divmod(thread, box.threads)
            fill, name = look.colours.get(cpu, ("", ""))
            square = canvas.box(x + 2 + right * side, y + 2 + down * side, width=look.thread,
                                height=look.thread, style="" if fill else "thread", fill=fill,
                                radius=1)  # fmt: skip
            square.title(f"cpu {cpu}{name and ': '}{name}")
