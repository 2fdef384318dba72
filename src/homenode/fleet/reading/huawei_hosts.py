"""Hosts of Huawei Cloud's topology-aware data set: ``pm_res.csv``, ``topology_provider.csv``.

(mdl1104/Dataset-for-topology-aware-VM-placement.) Host ``pm`` has two nodes with ``CPU1``, ``RAM1``
and ``CPU2``, ``RAM2`` (GiB) free. It is ``host-N`` of the other file, which has the rack of each,
and of many more hosts.
"""

from pathlib import Path
from typing import NamedTuple

from homenode.fleet.reading.columns import MOST_GIB, MOST_VCPUS, Column, Problem
from homenode.fleet.reading.library import pl
from homenode.fleet.reading.tables import opened

COLUMNS = (
    Column("pm", "whole"),
    *(
        column
        for node in "12"
        for column in (
            Column(f"CPU{node}", "whole", most=MOST_VCPUS // 2),
            Column(f"RAM{node}", "whole", most=MOST_GIB),
        )
    ),
)
_RACKS = (Column("host_id", "text"), Column("rack_id", "text"))


class HuaweiHost(NamedTuple):
    """What is free on a host: of each of its two nodes cpus and GiB; and its rack, if told."""

    name: str
    nodes: tuple[tuple[int, int], tuple[int, int]]
    rack: str | None


def read_hosts(path: Path, racks_path: Path | None) -> list[HuaweiHost]:
    """Return the hosts of the file at `path`, in its order, with their racks from the other one.

    Raises `ParseError` for what is wrong in either, and for a host that the other does not have.
    """
    racks = None if racks_path is None else _racks(racks_path)
    with opened(path) as table:
        rows = table.read(COLUMNS)
    rows.refuse(~pl.col("pm").is_first_distinct(), "pm", "{pm} is there twice")
    hosts = []
    for row, (number, *sizes) in enumerate(rows.frame.iter_rows()):
        name = f"host-{number}"
        if racks is not None and name not in racks:
            raise rows.error(Problem(row, "pm", f"{racks_path} has no {name}"))
        cpus, gib, other_cpus, other_gib = sizes
        rack = None if racks is None else racks[name]
        hosts.append(HuaweiHost(name, ((cpus, gib), (other_cpus, other_gib)), rack))
    return hosts


def _racks(path: Path) -> dict[str, str]:
    with opened(path) as table:
        rows = table.read(_RACKS)
    rows.refuse(~pl.col("host_id").is_first_distinct(), "host_id", "{host_id} is there twice")
    return {str(host): str(rack) for host, rack in rows.frame.iter_rows()}
