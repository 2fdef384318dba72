"""Requests of Huawei Cloud's topology-aware data set: ``vm_data_c1.csv`` to ``vm_data_c5.csv``.

(mdl1104/Dataset-for-topology-aware-VM-placement.) A row is a request, in order: ``seq``,
``flavor_vcpus``, ``flavor_ram`` (GiB), ``numa`` (on how many nodes), and for about half of them
``strategy``, ``group`` and ``domain``. There are no times and no departures. Every strategy numbers
its groups from 0 by itself: affinity 0 and anti-affinity 0 are two groups. Domains are numbered
within a group, and only fault domains have them. What the strategies mean is not written down
there; this is our reading: affinity is one host for all, anti-affinity a host for each, and
members of different fault domains are in different racks.
"""

from homenode.fleet.reading.columns import MOST_GIB, MOST_NODES, MOST_VCPUS, Column, Rows
from homenode.fleet.reading.events import Draft, kib_of_gib
from homenode.fleet.reading.library import pl
from homenode.fleet.reading.rules import Rules
from homenode.fleet.reading.tables import TableFile

COLUMNS = (
    Column("seq", "whole"),
    Column("flavor_vcpus", "whole", least=1, most=MOST_VCPUS),
    Column("flavor_ram", "number", most=MOST_GIB),
    Column("numa", "whole", least=1, most=MOST_NODES),
    Column(
        "strategy",
        "word",
        words=("affinity", "anti-affinity", "fault_domain"),
        may_be_empty=True,
    ),
    Column("group", "whole", may_be_empty=True),
    Column("domain", "whole", may_be_empty=True),
)


def read(table: TableFile, _: Rules) -> Draft:
    """Return what the requests in `table` are."""
    rows = table.read(COLUMNS)
    rows.refuse_disorder("seq", may_stay=False)
    rows.refuse(
        pl.col("numa") > pl.col("flavor_vcpus"), "numa", "{numa} nodes for {flavor_vcpus} vcpus"
    )
    _check_groups(rows)
    kib = kib_of_gib(rows, "flavor_ram")
    strategy = pl.col("strategy").cast(pl.String)
    arrivals = rows.frame.select(
        pl.col("flavor_vcpus").alias("vcpus"),
        kib.alias("memory_kib"),
        pl.col("numa").alias("nodes"),
        # Null if either is: no group.
        (strategy + " " + pl.col("group").cast(pl.String)).alias("group"),
        strategy.str.replace("_", "-", literal=True).alias("rule"),
        "domain",
    )
    events = pl.int_range(len(arrivals), dtype=pl.Int64, eager=True)
    rule = "arrivals are a second apart: the trace has their order and no times"
    return Draft(arrivals, events, events * 1000, (rule,))


def _check_groups(rows: Rows) -> None:
    has_strategy, has_group = pl.col("strategy").is_not_null(), pl.col("group").is_not_null()
    rows.refuse(has_strategy & ~has_group, "group", "is empty, and strategy is not")
    rows.refuse(has_group & ~has_strategy, "strategy", "is empty, and group is not")
    has_domains = (pl.col("strategy") == "fault_domain").fill_null(value=False)
    has_domain = pl.col("domain").is_not_null()
    rows.refuse(has_domains & ~has_domain, "domain", "is empty, and strategy is fault_domain")
    rows.refuse(
        has_domain & ~has_domains, "domain", "has a value, and strategy is not fault_domain"
    )
