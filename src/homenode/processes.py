"""Processes of this machine that compute: begun, and ended with the one that began them."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, forkserver, get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread, current_thread, main_thread
from typing import Any, ParamSpec, TypeVar

_Asked = ParamSpec("_Asked")
_Found = TypeVar("_Found")

_ENDED_WITHIN_S = 5.0


class _Processes(ProcessPoolExecutor):
    """Processes of this machine, which do not look at the main module of this one."""

    def submit(
        self, fn: Callable[_Asked, _Found], /, *args: _Asked.args, **kwargs: _Asked.kwargs
    ) -> "Future[_Found]":
        """Have `fn` called by one of them; each is started when it is first needed, here."""
        with _main_hidden():
            return super().submit(fn, *args, **kwargs)


@contextmanager
def processes(workers: int, *, preload: str) -> Iterator[Executor]:
    """Give an executor of so many processes, which have imported the module `preload`.

    Left by an exception, what runs is ended, and not waited for.
    """
    # A fork would take along threads that a progress bar or polars has.
    context = get_context("forkserver")
    context.set_forkserver_preload([preload])
    _start_server()
    others = set(active_children())
    with _Processes(workers, mp_context=context, initializer=_begin_worker) as pool:
        try:
            yield pool
        except BaseException:
            # Leaving the pool waits for what runs, and a cell may take minutes.
            pool.shutdown(wait=False, cancel_futures=True)
            _end([child for child in active_children() if child not in others])
            raise


def _start_server() -> None:
    # Ctrl-C goes to all processes of a terminal: one that is just importing would show where.
    if current_thread() is not main_thread():
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _end(children: list[Any]) -> None:
    for child in children:
        child.terminate()
    for child in children:
        child.join(_ENDED_WITHIN_S)
        if child.is_alive():
            child.kill()


def _begin_worker() -> None:
    # Ctrl-C goes to all processes of a terminal; the one that waits for the others ends them.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Every core has a worker already.
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # Killed, the parent cannot end anybody, and a worker would wait for work for good.
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


@contextmanager
def _main_hidden() -> Iterator[None]:
    # Python imports the main module in every worker, and so runs a script that is not guarded
    # against that. Nothing of it is needed there.
    namespace: dict[str, object] = vars(sys.modules["__main__"])
    names = [name for name in ("__file__", "__spec__") if name in namespace]
    hidden: dict[str, object] = {name: namespace.pop(name) for name in names}
    namespace["__spec__"] = None
    try:
        yield
    finally:
        namespace.update(hidden)
