"""Arrivals of Azure's public data set of 2017, with lifetimes in bins: ``azure_v1_test.csv.gz``.

(Azure Public Dataset V1 by way of huaweicloud/trace_generation_rnn.) A row is a VM, in the order
in which they start: ``vm``, ``start_s`` (in steps of 300 s since the trace began), ``vcpu``,
``mem_gb`` (GiB), ``dur_bin_lo_s`` and ``dur_bin_hi_s`` (the lifetime is from the one to the
other, both included; exact where they are equal), ``censored`` (1: it was there when the recording
ended, and stays to the end here). A bin without an upper bound is the last one: who is in it stays
to the end, too. Where nobody has a lifetime, nobody goes.
Of the ends that are drawn, one in 500 is later than the recording's own end, after 30 days.
"""

from homenode.fleet.reading.columns import LATEST_S, MOST_GIB, MOST_VCPUS, Column, Rows
from homenode.fleet.reading.events import Draft, kib_of_gib, planned, uniform
from homenode.fleet.reading.library import pl
from homenode.fleet.reading.rules import Rules
from homenode.fleet.reading.tables import TableFile

COLUMNS = (
    Column("vm", "text"),
    Column("start_s", "whole", most=LATEST_S),
    Column("vcpu", "whole", least=1, most=MOST_VCPUS),
    Column("mem_gb", "number", most=MOST_GIB),
    Column("dur_bin_lo_s", "whole", most=LATEST_S, may_be_empty=True),
    Column("dur_bin_hi_s", "whole", most=LATEST_S, may_be_empty=True),
    Column("censored", "whole", most=1, may_be_empty=True),
)

_NODES = "guests are on as few nodes as can be: the trace does not say on how many"
_LIFETIMES = (
    "lifetimes are whole seconds drawn evenly from their bins (seed {seed}), exact where a bin is "
    "one value; guests whose end the trace does not have stay to the end"
)


def read(table: TableFile, rules: Rules) -> Draft:
    """Return what the VMs in `table` are; the seed of `rules` draws lifetimes from their bins."""
    rows = table.read(COLUMNS)
    rows.refuse_disorder("start_s", may_stay=True)
    rows.refuse(~pl.col("vm").is_first_distinct(), "vm", "{vm} comes twice")
    arrivals = pl.DataFrame(
        {
            "vcpus": rows.frame["vcpu"],
            "memory_kib": kib_of_gib(rows, "mem_gb"),
            "nodes": pl.repeat(0, len(rows.frame), dtype=pl.Int32, eager=True),
        }
    )
    synthetic = [] if rules.wide else [_NODES]
    starts_ms = rows.frame["start_s"] * 1000
    if rows.frame["dur_bin_lo_s"].is_null().all() and rows.frame["dur_bin_hi_s"].is_null().all():
        events = pl.int_range(len(arrivals), dtype=pl.Int64, eager=True)
        return Draft(arrivals, events, starts_ms, tuple(synthetic))
    synthetic.append(_LIFETIMES.format(seed=rules.seed))
    ends_ms = starts_ms + _lifetimes_s(rows, rules.seed) * 1000
    return Draft(arrivals, *planned(starts_ms, ends_ms), tuple(synthetic))


def _lifetimes_s(rows: Rows, seed: int) -> pl.Series:
    """Return how long each VM lives; null if it stays to the end."""
    low, high, censored = pl.col("dur_bin_lo_s"), pl.col("dur_bin_hi_s"), pl.col("censored")
    rows.refuse(censored.is_null(), "censored", "is empty")
    rows.refuse((censored == 0) & low.is_null(), "dur_bin_lo_s", "is empty")
    rows.refuse(high < low, "dur_bin_hi_s", "{dur_bin_hi_s} is less than {dur_bin_lo_s}")
    # One number for each VM, so that what one lives does not hang on another's bin.
    drawn = uniform(len(rows.frame), seed)
    seconds = low + (pl.lit(drawn) * (high - low + 1)).floor().cast(pl.Int64)
    return rows.frame.select(pl.when(censored == 0).then(seconds).alias("seconds"))["seconds"]
