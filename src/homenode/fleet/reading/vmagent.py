"""Episodes of VMAgent on Huawei-East-1: real requests, with their departures.

(mail-ecnu/VMAgent; huaweicloud/VM-placement-dataset.) A row is an event, in order: ``step``,
``vm``, ``cpu``, ``mem_gb`` (GiB), ``time_s``, ``is_double`` (1: on two nodes, half of its ``cpu``
and memory on each; 0: on one), ``type`` (create, delete). What else is there is the state of
VMAgent's own servers, and is not read.
"""

from homenode.fleet.reading.columns import LATEST_S, MOST_GIB, MOST_VCPUS, Column
from homenode.fleet.reading.events import Draft, kib_of_gib, milliseconds, numbered
from homenode.fleet.reading.library import pl
from homenode.fleet.reading.rules import Rules
from homenode.fleet.reading.tables import TableFile

COLUMNS = (
    Column("step", "whole"),
    Column("vm", "whole"),
    Column("cpu", "whole", least=1, most=MOST_VCPUS),
    Column("mem_gb", "number", most=MOST_GIB),
    Column("time_s", "number", most=LATEST_S),
    Column("is_double", "whole", most=1),
    Column("type", "word", words=("create", "delete")),
)


def read(table: TableFile, _: Rules) -> Draft:
    """Return what the events in `table` are."""
    rows = table.read(COLUMNS)
    rows.refuse_disorder("step", may_stay=False)
    rows.refuse_disorder("time_s", may_stay=True)
    rows.refuse((pl.col("is_double") == 1) & (pl.col("cpu") < 2), "is_double",
                "2 nodes for {cpu} vcpu")  # fmt: skip
    kib = kib_of_gib(rows, "mem_gb")
    comes = rows.frame["type"] == "create"
    arrivals = rows.frame.select(
        pl.col("cpu").alias("vcpus"),
        kib.alias("memory_kib"),
        (pl.col("is_double") + 1).alias("nodes"),
    ).filter(comes)
    times_ms = rows.frame.select(milliseconds("time_s"))["time_s"]
    return Draft(arrivals, numbered(rows, "vm", comes=comes), times_ms)
