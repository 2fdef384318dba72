"""The one way in which homenode runs programs on a host: this one, or one behind ssh.

A command is a list of words and never passes through a shell as text, except for that on the far
side of ssh, which gets every word quoted on its standard input (`homenode.drivers.ssh`). Each has
a time limit. With ``HOMENODE_TRACE=1`` each is shown on standard error, as it could be typed.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from homenode.errors import HypervisorError
from homenode.state_file import LOCAL, Storage

TIMEOUT_S = 30.0
"""How long a command may take that only looks; ``xl list`` takes milliseconds."""

_GRACE_S = 5.0
"""How long a command that was told to end has to do so."""

MORE_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where xl is, and a user's search path may not lead to."""


class Output(NamedTuple):
    """What a command printed, and its exit status (negative: the signal that ended it)."""

    status: int
    stdout: str
    stderr: str


class Gateway(Protocol):
    """A host on which commands can be run, and where files of state are."""

    name: str
    """How messages name it, with a blank behind it if there is anything to say (``dom0: ``)."""

    @property
    def storage(self) -> Storage:
        """The files of that host."""

    def process(self) -> int | None:
        """Return the number of the process there that acts for us."""

    def lives(self, process: int) -> bool:
        """Return whether a process with that number runs there."""

    def run(self, words: Sequence[str], *, stdin: str = "", timeout_s: float = TIMEOUT_S) -> Output:
        """Run a command and return what it printed, whatever its exit status.

        Raises `HypervisorError` if it is not there, or did not end in time and was ended.
        """

    def interactive(self, words: Sequence[str]) -> list[str]:
        """Return the command of this machine that runs `words` there, with this terminal."""


def trace(name: str, words: Sequence[str]) -> None:
    """Show a command that is about to be run, if that is wanted."""
    if os.environ.get("HOMENODE_TRACE"):
        sys.stderr.write(f"+ {name}{shlex.join(words)}\n")


def environment() -> dict[str, str]:
    """Return the environment for commands: plain words, and a path that leads to xl."""
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {**os.environ, "LC_ALL": "C", "PATH": f"{path}:{MORE_PATH}"}


class LocalGateway:
    """This machine."""

    name = ""

    __slots__ = ()

    @property
    def storage(self) -> Storage:
        """The files of this machine."""
        return LOCAL

    def process(self) -> int | None:
        """Return the number of this process."""
        return os.getpid()

    def lives(self, process: int) -> bool:
        """Return whether a process with that number runs here."""
        from homenode.ledger import process_lives  # noqa: PLC0415 - only where there are claims

        return process_lives(process)

    def run(self, words: Sequence[str], *, stdin: str = "", timeout_s: float = TIMEOUT_S) -> Output:
        """Run a command; see `Gateway.run`."""
        trace(self.name, words)
        try:
            # In a session of its own: Ctrl-C is for homenode, which has to tidy up behind it.
            process = subprocess.Popen(  # noqa: S603 - words, no shell
                words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise missing(self.name, words[0], error.strerror or str(error)) from None
        try:
            stdout, stderr = process.communicate(stdin.encode(), timeout=timeout_s)
        except subprocess.TimeoutExpired:
            _end(process)
            raise hanging(self.name, words, timeout_s) from None
        except BaseException:
            _end(process)
            raise
        return Output(
            process.returncode,
            stdout.decode(errors="replace"),
            stderr.decode(errors="replace"),
        )

    def interactive(self, words: Sequence[str]) -> list[str]:
        """Return `words`: they are run here."""
        return list(words)


def missing(name: str, program: str, reason: str) -> HypervisorError:
    """Return the error about a program that cannot be started."""
    return HypervisorError(
        f"{name}cannot run {program}: {reason}",
        hint="is this a Xen dom0 with its tools installed? -c names another host",
    )


def hanging(name: str, words: Sequence[str], timeout_s: float) -> HypervisorError:
    """Return the error about a command that did not end in time."""
    return HypervisorError(
        f"{name}`{shlex.join(words)[:80]}` did not answer within {timeout_s:g} s, and was ended",
        hint="is xenstored alive? try it by hand",
    )


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process with all that it started; first in friendship."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.communicate(timeout=_GRACE_S)
        except ProcessLookupError:
            process.wait()
        except subprocess.TimeoutExpired:
            continue
        return
