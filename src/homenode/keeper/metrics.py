"""The keeper's metrics, as a text file that node_exporter's textfile collector reads.

The official client writes them (``homenode[metrics]``; python3-prometheus-client of Debian): the
file is replaced as a whole. Labels are nodes, guests that run, and the kinds of events.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from homenode.errors import HomenodeError
from homenode.keeper.loop import Keeper

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def writer(path: str, keeper: Keeper) -> Callable[[], None]:
    """Return what writes the metrics of `keeper` into the file at `path`.

    Raises `HomenodeError` without the client.
    """
    try:
        from prometheus_client import CollectorRegistry, write_to_textfile  # noqa: PLC0415 - extra
    except ImportError:
        raise HomenodeError(
            "metrics want the client of Prometheus",
            hint="apt install python3-prometheus-client, or pip install 'homenode[metrics]'",
        ) from None
    registry = CollectorRegistry()
    registry.register(_Collector(keeper))
    return lambda: write_to_textfile(path, registry)


class _Collector:
    """Hands the keeper's numbers to the client."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def collect(self) -> "Iterator[Metric]":
        """Yield the metrics as they are now."""
        from prometheus_client.core import (  # noqa: PLC0415 - an extra
            CounterMetricFamily,
            GaugeMetricFamily,
        )

        keeper = self._keeper
        kinds = CounterMetricFamily(
            "homenode_keeper_events", "What the keeper did and told.", labels=["event"]
        )
        for kind, count in sorted(keeper.changes.items()):
            kinds.add_metric([kind], count)
        yield kinds
        for name, help_text, value in (
            ("homenode_keeper_guests_kept", "Guests that are kept.", len(keeper.kept)),
            ("homenode_keeper_guests_left_alone", "Guests not kept.", len(keeper.left_alone)),
            ("homenode_keeper_guests_masked", "Guests with masks of its own.", len(keeper.own)),
        ):
            gauge = GaugeMetricFamily(name, help_text)
            gauge.add_metric([], value)
            yield gauge
        yield from self._of_guests()
        yield from self._of_nodes()

    def _of_guests(self) -> "Iterator[Metric]":
        from prometheus_client.core import CounterMetricFamily  # noqa: PLC0415 - an extra

        for word, help_text, field in (
            ("run", "Time that vcpus ran.", "ran_s"),
            ("run_home", "Time that vcpus ran where their memory is.", "home_s"),
            ("wait", "Time that vcpus waited for a cpu.", "waited_s"),
        ):
            family = CounterMetricFamily(
                f"homenode_guest_{word}_seconds", help_text, labels=["guest"]
            )
            for account in self._keeper.accounts.values():
                family.add_metric([account.name], getattr(account, field))
            yield family

    def _of_nodes(self) -> "Iterator[Metric]":
        from prometheus_client.core import GaugeMetricFamily  # noqa: PLC0415 - an extra

        last = self._keeper.last
        if last is None:
            return
        busy = GaugeMetricFamily("homenode_node_busy_cpus", "Cpus in use.", labels=["node"])
        cpus = GaugeMetricFamily("homenode_node_cpus", "Cpus online.", labels=["node"])
        for node, count in last.cpus.items():
            busy.add_metric([str(node)], last.busy.get(node, 0.0))
            cpus.add_metric([str(node)], count)
        took = GaugeMetricFamily("homenode_keeper_round_cpu_seconds", "Cpu time of the last round.")
        took.add_metric([], last.own_cpu_s)
        yield from (busy, cpus, took)
