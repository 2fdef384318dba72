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
from contextlib import AbstractContextManager, contextmanager, suppress
from selectors import EVENT_READ, EVENT_WRITE, DefaultSelector
from time import monotonic
from typing import IO, NamedTuple

from homenode.drivers.gateway import (
    GRACE_S,
    MORE_PATH,
    TIMEOUT_S,
    Output,
    encoded,
    hanging,
    missing,
    refuse_zero_bytes,
    trace,
)
from homenode.errors import HomenodeError, HypervisorError

CONNECT_S = 15
"""How long ssh may take to reach the host (its ConnectTimeout); then a login follows."""

_LOGIN_S = 60.0
_MARGIN_S = 10.0
"""How much longer we wait than the far side is told to, which gives the better message."""

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_IN_USERS = _LETTERS | frozenset("-._")
_IN_HOSTS = _LETTERS | frozenset("-._:%")

_ENDED = (124, 128 + 9, 128 + 15)
"""The exit statuses by which ``timeout`` tells that it ended a command: its own if that heeded the
signal, and that of the last signal (KILL; TERM, where ``timeout`` is busybox's)."""

_NOT_THERE = 127
_CANNOT_RUN = {126: "Permission denied", _NOT_THERE: "No such file or directory"}
"""The exit statuses by which shells, and ``timeout``, tell that they cannot run a program."""

_NO_FILE = 44
"""The exit status by which our own shell tells that there is no such file."""

_NO_CAUSE = (
    "Warning: ", "debug", "Host key verification failed", "stdio forwarding failed",
    "kex_exchange_identification: ", "Connection closed by UNKNOWN",
)  # fmt: skip
"""How ssh begins lines that tell less than one before them."""


class _Answer(NamedTuple):
    """What came back of one piece of shell."""

    status: int
    stdout: bytes
    stderr: bytes


class SshGateway:
    """The host `destination` (``[user@]host[:port]``), reached when something is run there."""

    __slots__ = (
        "_child",
        "_destination",
        "_mark",
        "_port",
        "_process",
        "_said",
        "_told",
        "_words",
        "name",
    )

    def __init__(self, destination: str) -> None:
        self._told = destination
        self._destination, self._port = _parts(destination)
        self._words = _ssh_words()
        self._child: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None
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
        refuse_zero_bytes(self.name, words, stdin)
        self._connected()  # whose time is its own
        started = monotonic()
        limited = f"limited {timeout_s:g} {shlex.join(words)}"
        status, stdout, stderr = self.script(limited, stdin=stdin, timeout_s=timeout_s)
        if status in _ENDED and monotonic() - started >= timeout_s:
            raise hanging(self.name, words, timeout_s)
        if status in _CANNOT_RUN and not self._can_run(words[0]):
            raise missing(self.name, words[0], _CANNOT_RUN[status if words[0] else _NOT_THERE])
        return Output(status, stdout.decode(errors="replace"), stderr.decode(errors="replace"))

    def another(self) -> "SshGateway":
        """Return another connection to the same host."""
        return SshGateway(self._told)

    def interactive(self, words: Sequence[str]) -> list[str]:
        """Return the ssh command that runs `words` there, with this terminal if there is one.

        Standard input is theirs, so they go past the login shell, in letters that all shells take
        alike: `sh` reads them as printf(1) writes them out.
        """
        terminal = "-t" if os.isatty(0) and os.isatty(1) else "-T"
        run = encoded(f"{_PATH}; exec {shlex.join(words)}")
        plain = "".join(chr(byte) if chr(byte) in _IN_USERS else f"\\0{byte:03o}" for byte in run)
        return [*self._command(terminal), f"exec sh -c 'eval \"$(printf %b \"$0\")\"' '{plain}'"]

    def script(self, command: str, *, stdin: str = "", timeout_s: float = TIMEOUT_S) -> _Answer:
        """Run a piece of shell, which is ours and has every foreign word quoted.

        Descriptor 3 is the line back to us, and 9 may be a lock: neither is for what is run.
        """
        return self._ask(
            f"e=$( {{ {self._given(command, stdin)}\n)\ns=$?; {_frame(self._mark, '$s', '$e')}\n",
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
            with suppress(HypervisorError):  # it has just gone, and the lock with it
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
        _pipe(self._said).close()

    def _can_run(self, program: str) -> bool:
        # `command -v` finds files that cannot be run, too, if they are named by a path.
        found = f"p=$(command -v {shlex.quote(program)})"
        runs = 'case $p in */*) test -f "$p" && test -x "$p" ;; esac'
        return self.script(f"{found} && {runs}").status == 0

    def _given(self, command: str, stdin: str) -> str:
        redirected = "2>&1 >&3 3>&- 9>&-"
        if not stdin:
            return f"{command} ; }} {redirected} </dev/null"
        if not stdin.endswith("\n"):
            # What a shell is given in its own text ends a line.
            command = f"head -c {len(encoded(stdin))} | {{ {command} ; }}"
            stdin += "\n"
        if not stdin.isascii():
            # Where a line begins as the mark does and goes on beyond ASCII, dash (0.5.12) loses a
            # byte: so none begins as it does.
            command = f"sed 's/^|//' | {{ {command} ; }}"
            stdin = "".join(f"|{line}\n" for line in stdin[:-1].split("\n"))
        return f"{command} ; }} {redirected} <<'{self._mark}'\n{stdin}{self._mark}"

    def _command(self, *options: str) -> list[str]:
        port = ["-p", self._port] if self._port else []
        timed = ["-o", f"ConnectTimeout={CONNECT_S}"]
        return [*self._words, *timed, *options, *port, self._destination]

    def _ask(self, text: str, *, timeout_s: float) -> _Answer:
        child = self._connected()
        try:
            return self._exchange(child, encoded(text), monotonic() + timeout_s + _MARGIN_S)
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
        self._process = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the connection lives
        try:
            self._child = subprocess.Popen(  # noqa: S603 - words, no shell
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                bufsize=0,
            )
        except OSError as error:
            self._said.close()
            raise HypervisorError(
                f"cannot run {command[0]}: {error.strerror}", hint="HOMENODE_SSH_COMMAND names it"
            ) from None
        os.set_blocking(_pipe(self._child.stdin).fileno(), False)
        # `timeout` is on every Linux; where it is not, only our own clock ends a command.
        # What a login prints comes before the frame.
        self._process = self._ask(
            f"exec 3>&1; {_PATH}; export LC_ALL=C\n"
            f'if command -v timeout >/dev/null; then limited() {{ timeout -k {GRACE_S:g} "$@"; }}\n'
            'else limited() { shift; "$@"; }; fi\n'
            f"{_frame(self._mark, '$$', '')}\n",
            timeout_s=CONNECT_S + _LOGIN_S,
        ).status
        # A banner tells nothing of what may go wrong later. The file has one position for us all.
        self._said.seek(0)
        self._said.truncate()
        return self._child

    def _exchange(self, child: "subprocess.Popen[bytes]", text: bytes, until: float) -> _Answer:
        """Write `text` to the shell over there and read what it answers."""
        into, line = _pipe(child.stdin), _pipe(child.stdout)
        start, end = f"\n{self._mark} ".encode(), f"\n{self._mark}\n".encode()
        unsent, received = memoryview(text), bytearray()
        with DefaultSelector() as selector:
            selector.register(line, EVENT_READ)
            selector.register(into, EVENT_WRITE)
            while not received.endswith(end):
                ready = {key.fd for key, _ in selector.select(max(0.0, until - monotonic()))}
                if not ready:
                    raise self._broken("it does not answer")
                if into.fileno() in ready:
                    unsent = _sent(into, unsent)
                    if not unsent:
                        selector.unregister(into)
                if line.fileno() in ready:
                    chunk = os.read(line.fileno(), 1 << 16)
                    if not chunk:
                        raise self._broken(None, printed=bytes(received))
                    received += chunk
        stdout, _, frame = bytes(received[: -len(end)]).rpartition(start)
        status, _, stderr = frame.partition(b"\n")
        return _Answer(int(status), stdout, stderr)

    def _broken(self, reason: str | None, *, printed: bytes = b"") -> HypervisorError:
        """End the connection and return the error that tells of it.

        Without a `reason`, ssh has ended: then it tells, or what it `printed` instead of a shell.
        """
        child = self._connected()
        if reason is None:
            ended = f"{self._words[0]} ended with status {child.wait()}"
            said = _pipe(self._said)
            said.seek(0)
            login = printed if self._process is None else b""
            reason = _telling(said.read()) or _telling(login) or ended
        child.kill()
        self.close()
        return HypervisorError(
            f"{self.name}{reason.removeprefix(self.name)}",
            hint=f"try by hand: {shlex.join(self._command())}",
        )


_PATH = f'PATH="${{PATH:-/usr/bin:/bin}}:{MORE_PATH}"; export PATH'


def _frame(mark: str, status: str, stderr: str) -> str:
    """Return the shell that ends an answer; `status` and `stderr` are variables or constants."""
    return f"printf '\\n%s %s\\n%s\\n%s\\n' {mark} {status} \"{stderr}\" {mark} >&3"


def _sent(into: IO[bytes], unsent: memoryview) -> memoryview:
    """Write what `into` takes at once, and return the rest."""
    try:
        return unsent[os.write(into.fileno(), unsent) :]
    except BlockingIOError:
        return unsent
    except OSError:
        return unsent[:0]  # ssh ended: reading its answer tells why


def _telling(said: bytes) -> str:
    """Return the line that tells most of what ssh, or a login, said at its end."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line]
    telling = [line for line in lines if not line.startswith(_NO_CAUSE)]
    return (telling or lines or [""])[-1]


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise AssertionError("there is a connection")
    return stream


def _parts(destination: str) -> tuple[str, str]:
    """Return ``[user@]host`` and the port; neither user nor host can be taken for an option."""
    user, at, place = destination.rpartition("@")
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        good = bool(bracket) and rest[:1] in ("", ":") and ":" in host
    else:
        host, rest = place, ""
        if place.count(":") == 1:  # with more of them it is an address of IPv6
            host, _, port = place.partition(":")
            rest = f":{port}"
        good = True
    good = good and _is_name(host, _IN_HOSTS) and (not at or _is_name(user, _IN_USERS))
    if not good or (rest and not _is_port(rest[1:])):
        raise HomenodeError(
            f"{destination[:60]!r} names no host", hint="xen+ssh://[user@]host[:port]/"
        )
    return f"{user}{at}{host}", rest[1:]


def _is_name(text: str, letters: frozenset[str]) -> bool:
    return bool(text) and set(text) <= letters and not text.startswith("-")


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
        answer = self._gateway.script(f"test -e {where} || exit {_NO_FILE}; head -c {most} {where}")
        if answer.status == _NO_FILE:
            return None
        if answer.status:
            raise self._cannot("read", path, answer)
        return answer.stdout

    def replace(self, path: str, data: bytes) -> None:
        """Put `data`, a text, in place of the file, wholly or not at all."""
        where, beside = shlex.quote(path), shlex.quote(path + ".new")
        answer = self._gateway.script(
            f"cat > {beside} && mv -fT {beside} {where} || {{ rm -f {beside}; false; }}",
            stdin=data.decode(),
        )
        if answer.status:
            raise self._cannot("write", path, answer)

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

    def _cannot(self, do: str, path: str, answer: _Answer) -> HomenodeError:
        said = _telling(answer.stderr) or f"status {answer.status}"
        return HomenodeError(f"{self._gateway.name}{path}: cannot {do} it: {said}")
