"""How much memory a control group has on each node, as the kernel's files say.

``memory.numa_stat`` has it in bytes with version 2 of control groups, and in pages with version 1
(Linux, Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst).
"""

from collections.abc import Mapping

from homenode.formats.columns import whole_number

_PAGE_KIB = 4
_OF_THE_GUEST = ("anon", "shmem")
_V1 = "hierarchical_"
_MOST_NODES = 4096


def memory_kib(text: str, *, page_kib: int = _PAGE_KIB) -> dict[int, int]:
    """Return the KiB by node of a ``memory.numa_stat`` that are a process's own.

    That is anonymous and shared memory; what is cached of files, and the kernel's own, is left out.
    `page_kib` is the size of the kernel's pages, in which version 1 counts.
    """
    rows = dict(_rows(text))
    if _V1 + "anon" in rows or "total" in rows:
        # Shared memory of version 1 is among what is called "file" there; locked is apart.
        names = [_V1 + name for name in ("anon", "unevictable")]
        names = names if names[0] in rows else ["anon", "unevictable"]
        return _sum([rows[name] for name in names if name in rows], page_kib)
    named = [rows[name] for name in _OF_THE_GUEST if name in rows]
    return {node: amount >> 10 for node, amount in _sum(named, 1).items()}


def _rows(text: str) -> list[tuple[str, dict[int, int]]]:
    rows = []
    for line in text.splitlines():
        name, *words = line.split()[:_MOST_NODES] or [""]
        by_node = {}
        if "=" in name:  # version 1: total=12 N0=5
            name = name.partition("=")[0]
        for word in words:
            name_of_node, _, text_of_amount = word.partition("=")
            node, amount = whole_number(name_of_node[1:]), whole_number(text_of_amount)
            if name_of_node.startswith("N") and node is not None and amount is not None:
                by_node[node] = amount
        if by_node:
            rows.append((name, by_node))
    return rows


def _sum(rows: list[dict[int, int]], unit: int) -> dict[int, int]:
    total: dict[int, int] = {}
    for by_node in rows:
        for node, amount in by_node.items():
            total[node] = total.get(node, 0) + amount * unit
    return total


def paths(text: str) -> Mapping[str, str]:
    """Return the groups of a process by controller, from ``/proc/PID/cgroup``.

    The key of version 2 is empty.
    """
    found = {}
    for line in text.splitlines():
        _, _, rest = line.partition(":")
        names, colon, path = rest.partition(":")
        if colon and path.startswith("/"):
            found.update(dict.fromkeys(names.split(",") if names else [""], path))
    return found
