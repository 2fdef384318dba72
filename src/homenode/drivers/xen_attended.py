"""A Xen host whose guests are created by an xl on our own terminal, with its user's options.

So ``homenode xl create`` is what ``xl create`` is: its words, its console, its Ctrl-C and its exit
status. Some options have xl go on when the guest runs (-c, -F): creating ends when it does run,
and xl is left to be waited for.
"""

import os
import subprocess
from collections.abc import Sequence

from homenode.bitmap import NodeMap
from homenode.drivers import xen_snapshot
from homenode.drivers.base import Look, Snapshot
from homenode.drivers.gateway import MORE_PATH, Gateway, missing, trace
from homenode.drivers.xen import XenDriver
from homenode.drivers.xl import Xl
from homenode.errors import HypervisorError
from homenode.formats import xl_list
from homenode.guest import GuestRequest

_CREATE = 'echo $$ > "$0.pid"; exec xl "$@" "$0"'
"""Shell, given the path of the config as ``$0`` and the words of xl that go before it."""

_LOOK_S = 0.5
_GRACE_S = 5.0


class AttendedXen(XenDriver):
    """The Xen host behind `gateway`; `words` are those of xl before the name of the config.

    `stays` tells that xl goes on when the guest runs.
    """

    def __init__(self, gateway: Gateway, *, uri: str, words: Sequence[str], stays: bool) -> None:
        super().__init__(gateway, uri=uri)
        self.process: subprocess.Popen[bytes] | None = None
        self._words = words
        self._stays = stays
        self._built: str | None = None

    def snapshot(self, look: Look = "full") -> Snapshot:
        """Look; a guest that xl is done with is built, though -p leaves it paused."""
        seen = super().snapshot(look)
        guests = (
            guest._replace(state="paused")
            if guest.uuid == self._built and guest.state == "building"
            else guest
            for guest in seen.guests
        )
        return Snapshot(seen.host, tuple(guests))

    def _run_xl(self, xl: Xl, path: str, request: GuestRequest) -> None:  # noqa: ARG002 - it has our terminal
        """Run xl with our terminal, until it ends or the guest runs."""
        uuid = str(request.uuid)
        words = self.gateway.interactive(["sh", "-c", _CREATE, path, *self._words])
        trace(self.gateway.name, ["xl", *self._words, path])
        try:
            self.process = subprocess.Popen(words, env=environment())  # noqa: S603 - words, no shell
        except OSError as error:
            raise missing("", words[0], error.strerror or str(error)) from None
        try:
            runs = self._runs_before_its_end(self.process, uuid)
        except BaseException:
            # Ctrl-C reached xl as well; what ended us otherwise did not.
            _end(self.process)
            runs = self._stays and self._runs(uuid)
            if not runs:
                raise  # else the guest was there first, and the status of xl tells
        if not runs and self.process.returncode:
            status = self.process.returncode
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            raise HypervisorError(f"{self.gateway.name}xl create ended {how}")
        self._built = uuid

    def _runs_before_its_end(self, process: "subprocess.Popen[bytes]", uuid: str) -> bool:
        while True:
            try:
                process.wait(timeout=_LOOK_S if self._stays else None)
            except subprocess.TimeoutExpired:
                if self._runs(uuid):
                    return True
            else:
                return self._stays and self._runs(uuid)

    def _runs(self, uuid: str) -> bool:
        # A guest is paused until it is built.
        rows = xl_list.parse_list(
            self._printed(xen_snapshot.LIST), nodes=NodeMap(), source=f"{self.uri}: xl list"
        )
        return any(row.uuid == uuid and row.state != "paused" for row in rows)


def environment() -> dict[str, str]:
    """Return the environment for what has our terminal: ours, with a path that leads to xl."""
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{path}:{MORE_PATH}"}


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(timeout=_GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
