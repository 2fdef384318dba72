"""Where the cells of a sweep are computed: on the cores of this machine, or on a Dask cluster.

Both are executors of `concurrent.futures`, so a sweep does not know which one it has. A cluster is
named by its scheduler (``tcp://HOST:PORT``); all its machines need this version of homenode, and
its workers the trace and fleet files at the same paths. A worker computes one cell at a time
however many threads it has, so start one for each core::

    dask worker tcp://HOST:PORT --nworkers -1 --nthreads 1

Cells wait for workers if there are none yet.
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from homenode import __version__
from homenode.errors import ExitStatus, HomenodeError
from homenode.processes import processes

if TYPE_CHECKING:
    from distributed import Client

_Found = TypeVar("_Found")

_REACHED_WITHIN_S = 5

_TALKATIVE = ("distributed", "distributed.client", "distributed.gc", "tornado.application")
"""The loggers that Dask sets a level for, each by itself (``distributed/config.py``)."""

_VERSION_THERE = "__import__('homenode').__version__"
"""Evaluated by machines that may not have homenode, and so none of its functions."""


class ClusterError(HomenodeError):
    """The cluster did not answer, or whoever computed a cell is gone."""

    exit_status = ExitStatus.HYPERVISOR


def executor(cluster: str | None, workers: int | None = None) -> AbstractContextManager[Executor]:
    """Return what cells are given to, to be entered by ``with``.

    Without `cluster` that are `workers` processes of this machine (None: one for each core that
    this process may use). When it is left by an error or an interrupt they are ended at once: what
    they were computing is lost. Raises `ClusterError` if no scheduler answers at `cluster`, and
    `HomenodeError` if Dask is not installed.
    """
    if cluster is not None:
        return _of_cluster(cluster)
    return processes(workers or len(os.sched_getaffinity(0)), preload="homenode.fleet.sweep")


def result_of(future: "Future[_Found]") -> _Found:
    """Return what `future` came to; raises `ClusterError` if its worker or the cluster is lost."""
    try:
        return future.result()
    except HomenodeError:
        raise
    except BrokenExecutor:
        raise ClusterError(
            "a process that computed a cell was ended by somebody else",
            hint="if memory ran out, use fewer workers",
        ) from None
    except CancelledError:
        raise ClusterError("the scheduler of the cluster is gone") from None
    except Exception as error:
        # By name: whether this is Dask's is only known where Dask is installed.
        if type(error).__name__ != "KilledWorker":
            raise
        raise ClusterError(
            "the workers that computed a cell were ended, one after the other",
            hint="if memory ran out, give each worker more; their logs tell",
        ) from None


@contextmanager
def _of_cluster(address: str) -> Iterator[Executor]:
    try:
        import distributed  # noqa: F401, PLC0415 - it sets up loggers, which then are to be quiet
    except ImportError:
        raise HomenodeError(
            f"{address}: a cluster needs Dask", hint="pip install 'homenode[cluster]'"
        ) from None
    with _quiet(), _client(address) as client:
        _refuse_other_versions(client)
        # Cells of a worker that dies are run again by the scheduler, until several workers died of
        # the same one (its `distributed.scheduler.allowed-failures`, 3). A cell that raises would
        # raise again, so there are no `retries` of those. Not `pure`: an error of an earlier sweep
        # is not to be found again.
        pool: Executor = client.get_executor(pure=False)
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False)
            raise


def _client(address: str) -> "Client":
    from distributed import Client  # noqa: PLC0415 - only where there is a cluster

    class Closing(Client):
        """A client that does not leave its thread and connections behind if it is of no use."""

        def start(self, **kwargs: Any) -> None:  # noqa: ANN401 - as there
            try:
                super().start(**kwargs)  # type: ignore[no-untyped-call]
            except BaseException:
                self.close()  # type: ignore[no-untyped-call]
                raise

    try:
        return Closing(  # type: ignore[no-untyped-call]
            address, name="homenode", timeout=_REACHED_WITHIN_S, set_as_default=False
        )
    except ValueError as error:
        raise ClusterError(
            f"{address}: {error}", hint="a scheduler is named tcp://HOST:PORT"
        ) from None
    except Exception:  # noqa: BLE001 - what others answer there is taken for anything: MemoryError
        raise ClusterError(
            f"{address}: no Dask scheduler answers there",
            hint="`dask scheduler` starts one and prints its address",
        ) from None


def _refuse_other_versions(client: "Client") -> None:
    """Raise `ClusterError` if a machine of the cluster does not have this homenode.

    A worker without it ends when it gets a cell, and Dask would wait for another one.
    """
    found = client.run(eval, _VERSION_THERE, on_error="return")
    try:
        found["the scheduler"] = client.run_on_scheduler(  # type: ignore[no-untyped-call]
            eval, _VERSION_THERE
        )
    except ImportError as error:
        found["the scheduler"] = error
    for name, version in found.items():
        if version != __version__:
            what = (
                "imports no homenode"
                if isinstance(version, Exception)
                else f"has homenode {version}"
            )
            raise ClusterError(
                f"{name}: {what}", hint=f"all machines of a cluster need homenode {__version__}"
            )


@contextmanager
def _quiet() -> Iterator[None]:
    # Dask tells on stderr what becomes an error here, and that connections end as they should.
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
