"""Traces in, from files of other people's and of our own; and out again. Polars is used here alone.

A file is a table (`tables`: CSV, also compressed by gzip, or Parquet) with columns whose every
value is checked (`columns`). A reader for each format (`huawei`, `vmagent`, `azure`, `own`) makes
a draft of it, and `events` makes the trace, by rules that supply what the source does not have
(`rules`). `recognising.read_trace` is the way in, `own.write_trace` the way out. `huawei_hosts`
reads hosts for `homenode.fleet.fleet_file`.
"""
