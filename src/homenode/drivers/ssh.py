"""A host behind ssh: one connection, one ``sh`` on the far side, all commands through it.

Every command is written to the standard input of that shell, each of its words quoted, so neither
the login shell over there nor its quoting play a role. Its standard output comes back as it is,
followed by a frame that only this connection knows, with its exit status and standard error.

The ssh program is `HOMENODE_SSH_COMMAND`, split into words as a shell does it (as git's
``GIT_SSH_COMMAND``; no shell is involved), or ``ssh``. Host keys, users and ports that the URI
does not say are a matter of ssh's own configuration.
"""

import os
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from selectors import EVENT_READ, DefaultSelector
from time import monotonic
from typing import IO

from homenode.drivers.gateway import MORE_PATH, TIMEOUT_S, Output, hanging, missing, trace
from homenode.errors import HomenodeError, HypervisorError

CONNECT_S = 15
"""How long ssh may take to reach the host (its ConnectTimeout); then a login follows."""

_LOGIN_S = 60.0
_MARGIN_S = 10.0
"""How much longer we wait than the far side is told to, which gives the better message."""

_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:%[]")
_TIME_WAS_UP = 124
"""The exit status by which ``timeout`` tells that it ended a command."""

_NOT_THERE = 127
"""The exit status by which a shell tells that there is no such program."""


class SshGateway:
    """The host `destination` (``[user@]host[:port]``), reached when something is run there."""

    __slots__ = ("_child", "_destination", "_mark", "_port", "_process", "_said", "_words", "name")

    def __init__(self, destination: str) -> None:
        self._destination, self._port = _parts(destination)
        self._words = _ssh_words()
        self._child: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - what ssh says, as long as we live
        self._mark = os.urandom(12).hex()
        self._process: int | None = None
        self.name = f"{self._destination}: "

    @property
    def storage(self) -> "RemoteStorage":
        """The files over there."""
        return RemoteStorage(self)

    def process(self) -> int | None:
        """Return the number of the shell over there."""
        self._connected()
        return self._process

    def lives(self, process: int) -> bool:
        """Return whether a process with that number runs over there."""
        return self.script(f"test -d /proc/{process}").status == 0

    def run(self, words: Sequence[str], *, stdin: str = "", timeout_s: float = TIMEOUT_S) -> Output:
        """Run a command over there; see `homenode.drivers.gateway.Gateway.run`."""
        trace(self.name, words)
        limited = f"limited {timeout_s:g} {shlex.join(words)}"
        output = self.script(limited, stdin=stdin, timeout_s=timeout_s)
        if output.status == _TIME_WAS_UP:
            raise hanging(self.name, words, timeout_s)
        if output.status == _NOT_THERE:
            raise missing(self.name, words[0], "there is no such program")
        return output

    def interactive(self, words: Sequence[str]) -> list[str]:
        """Return the ssh command that runs `words` there, with this terminal if there is one."""
        terminal = "-t" if os.isatty(0) and os.isatty(1) else "-T"
        path = f"PATH=$PATH:{MORE_PATH}; export PATH;"
        return [*self._command(terminal), f"{path} exec {shlex.join(words)}"]

    def script(self, command: str, *, stdin: str = "", timeout_s: float = TIMEOUT_S) -> Output:
        """Run a piece of shell, which is ours and has every foreign word quoted.

        Descriptor 3 is the line back to us, and 9 may be a lock: neither is for what is run.
        """
        return self._ask(
            f"e=$( {{ {command} ; }} {self._given(stdin)}\n"
            f")\n"
            f"s=$?; {_frame(self._mark, '$s', '$e')}\n",
            timeout_s=timeout_s,
        )

    def hold(self, path: str, *, wait_s: float) -> bool:
        """Take the lock on the file at `path`, which is there; return whether we got it in time.

        It is the shell's own until `let_go`, and ends with the connection.
        """
        taken = f"exec 9>>{shlex.quote(path)}; flock -w {wait_s:g} 9 3>&- 2>/dev/null; s=$?"
        told = f"[ $s = 0 ] || exec 9>&-; {_frame(self._mark, '$s', '')}"
        return self._ask(f"{taken}; {told}\n", timeout_s=wait_s).status == 0

    def let_go(self) -> None:
        """Let go of the lock that `hold` took; of none, if the connection is gone."""
        if self._child is not None:
            self._ask(f"exec 9>&-; {_frame(self._mark, '0', '')}\n", timeout_s=TIMEOUT_S)

    def close(self) -> None:
        """End the connection, if there is one."""
        child, self._child = self._child, None
        if child is None:
            return
        _pipe(child.stdin).close()
        try:
            child.wait(timeout=_MARGIN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        _pipe(child.stdout).close()

    def _given(self, stdin: str) -> str:
        redirected = "2>&1 >&3 3>&- 9>&-"
        if not stdin:
            return f"{redirected} </dev/null"
        ended = stdin if stdin.endswith("\n") else stdin + "\n"
        return f"{redirected} <<'{self._mark}'\n{ended}{self._mark}"

    def _command(self, *options: str) -> list[str]:
        port = ["-p", self._port] if self._port else []
        timed = ["-o", f"ConnectTimeout={CONNECT_S}"]
        return [*self._words, *timed, *options, *port, self._destination]

    def _ask(self, text: str, *, timeout_s: float) -> Output:
        child = self._connected()
        try:
            self._send(child, text)
            return self._answer(child, monotonic() + timeout_s + _MARGIN_S)
        except BaseException:
            # Half an answer is on the line: whatever comes next needs a new one.
            if self._child is not None:
                child.kill()
                self.close()
            raise

    def _connected(self) -> "subprocess.Popen[bytes]":
        if self._child is not None:
            return self._child
        command = [*self._command("-T"), "sh"]
        self._said.seek(0)
        self._said.truncate()
        try:
            self._child = subprocess.Popen(  # noqa: S603 - words, no shell
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said
            )
        except OSError as error:
            raise HypervisorError(
                f"cannot run {command[0]}: {error.strerror}", hint="HOMENODE_SSH_COMMAND names it"
            ) from None
        # `timeout` is on every Linux; where it is not, only our own clock ends a command.
        greeting = self._ask(
            f'exec 3>&1; export LC_ALL=C PATH="$PATH:{MORE_PATH}"\n'
            'if command -v timeout >/dev/null; then limited() { timeout -k 5 "$@"; }\n'
            'else limited() { shift; "$@"; }; fi\n'
            f"echo $$; {_frame(self._mark, '0', '')}\n",
            timeout_s=CONNECT_S + _LOGIN_S,
        ).stdout.split()
        # What a login prints comes before; the number of the shell is the last word.
        if not greeting or not greeting[-1].isdecimal():
            raise self._broken("there is no POSIX shell on the other side")
        self._process = int(greeting[-1])
        return self._child

    def _send(self, child: "subprocess.Popen[bytes]", text: str) -> None:
        try:
            _pipe(child.stdin).write(text.encode(errors="replace"))
            _pipe(child.stdin).flush()
        except OSError:
            return  # it ended: reading its answer tells why

    def _answer(self, child: "subprocess.Popen[bytes]", until: float) -> Output:
        line = _pipe(child.stdout)
        start, end = f"\n{self._mark} ".encode(), f"\n{self._mark}\n".encode()
        received = bytearray()
        with DefaultSelector() as selector:
            selector.register(line, EVENT_READ)
            while not received.endswith(end):
                if not selector.select(max(0.0, until - monotonic())):
                    raise self._broken("it does not answer")
                chunk = os.read(line.fileno(), 1 << 16)
                if not chunk:
                    raise self._broken(None)
                received += chunk
        stdout, _, frame = bytes(received[: -len(end)]).rpartition(start)
        status, _, stderr = frame.partition(b"\n")
        return Output(int(status), stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    def _broken(self, reason: str | None) -> HypervisorError:
        """End the connection and return the error that tells of it, in ssh's own words if any."""
        child = self._child
        if child is not None:
            if reason is not None:
                child.kill()
            reason = reason or f"{self._words[0]} ended with status {child.wait()}"
            self.close()
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        return HypervisorError(
            f"{self.name}{said[-1].strip() if said else reason}",
            hint=f"try by hand: {shlex.join(self._command())}",
        )


def _frame(mark: str, status: str, stderr: str) -> str:
    """Return the shell that ends an answer; `status` and `stderr` are variables or constants."""
    return f"printf '\\n%s %s\\n%s\\n%s\\n' {mark} {status} \"{stderr}\" {mark} >&3"


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("the child was started with pipes")
    return stream


def _parts(destination: str) -> tuple[str, str]:
    user, at, place = destination.rpartition("@")
    host, colon, port = place, "", ""
    if not place.endswith("]"):
        host, colon, port = place.rpartition(":")
        if not colon or (":" in host and not host.startswith("[")):
            host, port = place, ""
    good = host.strip("[]") and set(user + host) <= _ALLOWED and not destination.startswith("-")
    if not good or (at and not user) or host.startswith("-") or (colon and not _is_port(port)):
        raise HomenodeError(
            f"{destination[:60]!r} names no host", hint="xen+ssh://[user@]host[:port]/"
        )
    return f"{user}{at}{host.strip('[]')}", port


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 5 and 0 < int(text) < 1 << 16


def _ssh_words() -> list[str]:
    told = os.environ.get("HOMENODE_SSH_COMMAND", "")
    try:
        words = shlex.split(told)
    except ValueError as error:
        raise HomenodeError(f"HOMENODE_SSH_COMMAND: {str(error).lower()}: {told[:60]!r}") from None
    return words or ["ssh"]


class RemoteStorage:
    """The files of a host behind ssh (`homenode.state_file.Storage`)."""

    __slots__ = ("_gateway",)

    def __init__(self, gateway: SshGateway) -> None:
        self._gateway = gateway

    def read(self, path: str, *, most: int) -> bytes | None:
        """Return the first `most` bytes of the file, None if there is none."""
        where = shlex.quote(path)
        output = self._gateway.script(f"if test -e {where}; then head -c {most} {where}; fi")
        if output.status:
            raise self._cannot("read", path, output)
        return output.stdout.encode() or None

    def replace(self, path: str, data: bytes) -> None:
        """Put `data`, a text with a newline at its end, in place of the file."""
        where, beside = shlex.quote(path), shlex.quote(path + ".new")
        output = self._gateway.script(
            f"cat > {beside} && mv {beside} {where} || {{ rm -f {beside}; false; }}",
            stdin=data.decode(),
        )
        if output.status:
            raise self._cannot("write", path, output)

    def lock(self, path: str, *, wait_s: float) -> AbstractContextManager[None]:
        """Return an exclusive lock (flock) on the file, which ends with the connection."""
        return self._locked(path, wait_s=wait_s)

    @contextmanager
    def _locked(self, path: str, *, wait_s: float) -> Iterator[None]:
        where, folder = shlex.quote(path), shlex.quote(os.path.dirname(path))  # noqa: PTH120 - a path over there
        ready = self._gateway.script(
            "command -v flock >/dev/null || { echo there is no flock program >&2; false; } &&"
            f" mkdir -p -m 700 {folder} && : >> {where}"
        )
        if ready.status:
            raise self._cannot("lock", path, ready)
        if not self._gateway.hold(path, wait_s=wait_s):
            raise HomenodeError(
                f"{self._gateway.name}{path}: another process has held this lock for {wait_s:g} s",
                hint=f"try again; `fuser {path}` over there names the process",
            )
        try:
            yield
        finally:
            self._gateway.let_go()

    def _cannot(self, do: str, path: str, output: Output) -> HomenodeError:
        words = output.stderr.strip().splitlines()
        return HomenodeError(
            f"{self._gateway.name}{path}: cannot {do} it: {words[-1] if words else output.status}"
        )
