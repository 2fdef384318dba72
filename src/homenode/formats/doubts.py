"""What is odd in a host, however it was read: sentences for the user."""

from homenode.bitmap import CpuMap, NodeMap
from homenode.host import Host


def with_doubts(host: Host) -> Host:
    """Return the host with a note for everything that is unlikely in its distances and cpus."""
    found = doubts(host)
    return host.replace(notes=(*host.notes, *found)) if found else host


def doubts(host: Host) -> list[str]:
    """Return what can hardly be true of a host, or is missing, as sentences for the user.

    The host is used as it is stated all the same. By ACPI's SLIT a node is at distance 10 from
    itself, and every other one is farther.
    """
    found = []
    homeless = CpuMap(cpu.id for cpu in host.cpus if cpu.online and cpu.node is None)
    if homeless:
        found.append(f"cpus {homeless} are on no node that is described")
    if len(host.nodes) > 1:
        found += [*_unknown(host), *_too_near(host), *_uneven(host)]
    return found


def _unknown(host: Host) -> list[str]:
    lacking = NodeMap(
        node.id for node, row in zip(host.nodes, host.distances, strict=True) if None in row
    )
    if not lacking:
        return []
    apart = [
        value
        for at, row in enumerate(host.distances)
        for other, value in enumerate(row)
        if other != at and value is not None
    ]
    if not apart:
        return ["no distances between nodes are stated: all count as far apart"]
    return [f"distances from nodes {lacking} are not all stated: what is unknown counts as far"]


def _too_near(host: Host) -> list[str]:
    if len({value for row in host.distances for value in row}) == 1:
        only = host.distances[0][0]
        return [] if only is None else [f"all distances are {only}, of a node to itself too"]
    doubtful = NodeMap(
        node.id
        for at, (node, row) in enumerate(zip(host.nodes, host.distances, strict=True))
        if (own := row[at]) is not None
        and any(far is not None and far <= own for far in row[:at] + row[at + 1 :])
    )
    return [f"nodes {doubtful} state that another node is as near as they are"] if doubtful else []


def _uneven(host: Host) -> list[str]:
    uneven = [
        (host.nodes[at].id, host.nodes[other].id, there, back)
        for at, row in enumerate(host.distances)
        for other, there in enumerate(row[:at])
        if there is not None and (back := host.distances[other][at]) is not None and there != back
    ]
    if not uneven:
        return []
    one, other, there, back = uneven[0]
    more = f"; so do {len(uneven) - 1} more pairs" if len(uneven) > 1 else ""
    return [
        f"distances differ by direction: node {other} to {one} is {back}, and back {there}{more}"
    ]
