"""The one way in which homenode runs programs on a host: this one, or one behind ssh.

A command is a list of words and never passes through a shell as text, except for that on the far
side of ssh, which gets every word quoted on its standard input (`homenode.drivers.ssh`). Each has
a time limit. With ``HOMENODE_TRACE=1`` each is shown on standard error, as it could be typed.
"""

import contextlib
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

GRACE_S = 5.0
"""How long a command that was told to end has to do so."""

MORE_PATH = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where xl is, and a user's search path may not lead to."""


class Output(NamedTuple):
    """What a command printed, and its exit status.

    One that a signal ended has the signal's number, negative; behind ssh 128 and the number.
    """

    status: int
    stdout: str
    stderr: str


class Gateway(Protocol):
    """A host on which commands can be run, and where files of state are."""

    name: str
    """How messages name it, with a blank behind it if there is anything to say: "dom0: "."""

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
        No zero byte can be passed on.
        """

    def another(self) -> "Gateway":
        """Return another way to the same host, for another thread."""

    def interactive(self, words: Sequence[str]) -> list[str]:
        """Return the command of this machine that runs `words` there, with this terminal."""


def trace(name: str, words: Sequence[str]) -> None:
    """Show a command that is about to be run, if that is wanted."""
    if os.environ.get("HOMENODE_TRACE"):
        sys.stderr.write(f"+ {name}{shlex.join(words)}\n")


def encoded(text: str) -> bytes:
    """Return `text` in UTF-8 whatever the locale; what came from outside as none, as it came."""
    return text.encode(errors="surrogateescape")


def environment() -> dict[str, str]:
    """Return the environment for commands: plain words, and a path that leads to xl."""
    # An empty path would be the folder we are in.
    path = os.environ.get("PATH") or "/usr/bin:/bin"
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
        refuse_zero_bytes(self.name, words, stdin)
        try:
            # In a session of its own: Ctrl-C is for homenode, which has to tidy up behind it.
            process = subprocess.Popen(  # noqa: S603 - words, no shell
                [encoded(word) for word in words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise missing(self.name, words[0], error.strerror or str(error)) from None
        try:
            stdout, stderr = process.communicate(encoded(stdin), timeout=timeout_s)
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

    def another(self) -> "LocalGateway":
        """Return this one: it keeps nothing between two commands."""
        return self

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


def refuse_zero_bytes(name: str, words: Sequence[str], stdin: str) -> None:
    """Refuse what no command can be given, before there is one."""
    if any("\0" in text for text in (*words, stdin)):
        raise HypervisorError(f"{name}a zero byte cannot be passed on to {words[0]!r:.40}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process with all that it started; first in friendship."""
    try:
        _signal(process, signal.SIGTERM)
        process.communicate(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        # Even if the first of them is gone: what it started may not have listened.
        _signal(process, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=GRACE_S)  # in vain if it hangs in the kernel
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()  # who left the group may have the other end still


def _signal(process: "subprocess.Popen[bytes]", number: int) -> None:
    # Nobody is left of the group, or all have become another user's.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
