"""Sessions in the dom0 of a lab, and a command that is used as OpenSSH's ``ssh`` is.

    ssh [-o NAME=VALUE]... [-p PORT] [-l USER] [-T] [--] [USER@]LAB [COMMAND ARGUMENT...]

The host is the name of a lab. Arguments are joined with blanks and run by dom0's shell; input,
output, errors and the exit status are the command's; 255 when there is no such lab. What has no
meaning here (port, user, terminal, most options) is taken and ignored.

This starts for each command of a test, so it imports no more than it must.
"""

import contextlib
import fcntl
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence

sys.path.append(os.path.dirname(os.path.abspath(__file__)))

from frames import (
    ERROR,
    HELLO,
    INPUT,
    INPUT_END,
    OUTPUT,
    PIECE,
    START,
    STATUS,
    TAKEN,
    WINDOW,
    Frames,
    frame,
)

PORTS = 24
"""Sessions that a lab has at once; more of them wait for a free port."""
NO_CONNECTION = 255
VALUED = "BbcDEeFIiJLlmOopQRSWw"
"""The options of ssh that take a value."""


class LineError(Exception):
    """A session cannot begin, or its line broke."""


def state_directory() -> str:
    """Return the folder of images and running labs: $XENLAB_DIR, or one in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.abspath(os.environ.get("XENLAB_DIR") or os.path.join(cache, "homenode-xenlab"))


def lab_directory(name: str) -> str:
    """Return the folder of a lab of that name, running or not."""
    return os.path.join(state_directory(), f"run-{name}")


class Session:
    """One command in dom0, joined to this process until it ends or the session is closed.

    ``command`` is a list of arguments, or a line for dom0's shell. Closing hangs up on the command.
    ``silence_s`` is how long to wait for the other side without hearing anything.
    """

    def __init__(
        self,
        directory: str,
        command: Sequence[str] | str,
        *,
        folder: str = "/root",
        limit_s: float = 0,
        silence_s: float | None = None,
    ) -> None:
        self._window = threading.Semaphore(WINDOW)
        self._ended = False
        self._frames = Frames()
        self._lock, self._socket = _free_port(directory)
        form, arguments = ("shell", [command]) if isinstance(command, str) else ("argv", command)
        fields = (folder, str(limit_s), form, *arguments)
        start = b"".join(os.fsencode(field) + b"\0" for field in fields)
        nonce = os.urandom(8).hex().encode()
        try:
            self._socket.settimeout(60)
            self._socket.sendall(b"\n" + frame(HELLO, nonce) + frame(START, start))
            self._early = self._greeting(nonce)
            self._socket.settimeout(silence_s)
        except BaseException:
            self.close()
            raise

    def _greeting(self, nonce: bytes) -> list[tuple[bytes, bytes]]:
        # Whatever comes before was meant for an earlier client of this port.
        while True:
            received = self._receive()
            if (HELLO, nonce) in received:
                return received[received.index((HELLO, nonce)) + 1 :]

    def _receive(self) -> list[tuple[bytes, bytes]]:
        try:
            data = self._socket.recv(1 << 16)
        except TimeoutError:
            raise LineError("dom0 does not answer") from None
        except OSError as error:
            raise LineError(f"the line to dom0 broke: {error.strerror}") from None
        if not data:
            raise LineError("the line to dom0 was closed")
        return self._frames.feed(data)

    def send(self, data: bytes) -> None:
        """Give input to the command. Waits while it does not read; BrokenPipeError at its end."""
        for first in range(0, len(data), PIECE):
            self._window.acquire()
            if self._ended:
                raise BrokenPipeError
            self._socket.sendall(frame(INPUT, data[first : first + PIECE]))

    def end_input(self) -> None:
        """Tell the command that there is no more input."""
        self._socket.sendall(frame(INPUT_END))

    def answers(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield what the command writes, as OUTPUT or ERROR and bytes; at last STATUS."""
        received = self._early
        while True:
            for kind, payload in received:
                if kind == TAKEN:
                    self._window.release()
                    continue
                if kind == STATUS:
                    self._end()
                yield kind, payload
                if kind == STATUS:
                    return
            received = self._receive()

    def _end(self) -> None:
        self._ended = True
        self._window.release(WINDOW)

    def close(self) -> None:
        """Give the port back; a command that still runs is hung up on."""
        self._end()
        # Told outright: a process that was forked meanwhile may hold a copy of either.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with contextlib.suppress(OSError):
            fcntl.flock(self._lock, fcntl.LOCK_UN)
            os.close(self._lock)


def _free_port(directory: str, patience_s: float = 300) -> tuple[int, socket.socket]:
    """Take a port that nobody holds, and connect to it. Waits while all are busy."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        first = int.from_bytes(os.urandom(2), "little")
        for number in range(PORTS):
            path = os.path.join(directory, f"p{(first + number) % PORTS + 1}")
            lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            line = socket.socket(socket.AF_UNIX)
            try:
                line.connect(path)
            except OSError:
                line.close()
                os.close(lock)
                raise
            return lock, line
        time.sleep(0.02)
    raise LineError("all lines to dom0 are busy")


def converse(session: Session) -> int:
    """Join this process's standard streams to a session, until its end; return the status."""
    threading.Thread(target=_feed, args=(session,), daemon=True).start()
    for kind, payload in session.answers():
        if kind == STATUS:
            return int(payload)
        _write({OUTPUT: 1, ERROR: 2}[kind], payload)
    raise LineError("the line to dom0 was closed")


def _feed(session: Session) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(0, PIECE):
            session.send(data)
    with contextlib.suppress(OSError):
        session.end_input()


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _parse(arguments: list[str]) -> tuple[str, list[str], bool]:
    """Return host, command and whether input is wanted, reading options as ssh does."""
    host, wants_input, only_words = "", True, False
    while arguments:
        word = arguments[0]
        if word == "--" and not only_words:
            arguments, only_words = arguments[1:], True
        elif word.startswith("-") and len(word) > 1 and not only_words:
            arguments = arguments[1:]
            for index, letter in enumerate(word[1:], 2):
                wants_input = wants_input and letter != "n"
                if letter in VALUED:
                    arguments = arguments if word[index:] else arguments[1:]
                    break
        elif not host:
            # Options may follow the host too, unless "--" came before it.
            host, arguments = word, arguments[1:]
        else:
            break
    return host.rpartition("@")[2], arguments, wants_input


def main(arguments: list[str]) -> int:
    """Be ssh; return its exit status."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    host, command, wants_input = _parse(arguments)
    if not host or "/" in host:
        _write(2, b"usage: ssh [options] [user@]LAB [command [argument...]]\n")
        return NO_CONNECTION
    if not wants_input:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    directory = lab_directory(host)
    if not os.path.isdir(directory):
        _write(2, f"ssh: Could not resolve hostname {host}: no lab of that name\n".encode())
        return NO_CONNECTION
    try:
        session = Session(directory, " ".join(command) or "exec /bin/sh")
    except (OSError, LineError) as error:
        _write(2, f"ssh: connect to host {host}: {error}\n".encode())
        return NO_CONNECTION
    try:
        status = converse(session)
    except LineError as error:
        _write(2, f"Connection to {host} closed: {error}.\n".encode())
        return NO_CONNECTION
    except BrokenPipeError:
        return NO_CONNECTION
    finally:
        session.close()
    return status if status >= 0 else NO_CONNECTION


if __name__ == "__main__":
    # Not sys.exit: the thread that reads standard input may wait there for ever.
    os._exit(main(sys.argv[1:]))
