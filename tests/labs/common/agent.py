"""Runs commands in a lab for clients outside, as sshd does: one at a time on each virtio port.

    agent.py /dev/vport0p1 /dev/vport0p2 ...

A client says hello, says what is to be run, and is then joined to the command: its input goes
there, output, errors and the exit status come back, all at any time. When the client goes away the
command and its process group get SIGHUP, and SIGKILL a second later.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time

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
    Frames,
    frame,
)

UNSENT = 8 * PIECE
"""Bytes that wait for the client, from which on the command has to wait too."""
TIMED_OUT = 124  # as timeout(1)
NOT_STARTED = 127  # as a shell


def hang_up(process: subprocess.Popen) -> None:
    """Tell a command that nobody listens any more, and end it when it does not care."""
    # The process is not reaped before the end: so its group's number is nobody else's.
    for deadly in (signal.SIGHUP, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, deadly)
        if deadly == signal.SIGHUP:
            time.sleep(1)
    process.wait()


class Command:
    """A command that runs, with its pipes."""

    def __init__(self, payload: bytes) -> None:
        folder, limit_s, form, *arguments = payload.split(b"\0")[:-1]
        self.process = subprocess.Popen(
            [b"/bin/sh", b"-c", *arguments] if form == b"shell" else arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=folder,
            start_new_session=True,
        )
        self.end = os.pidfd_open(self.process.pid)
        self.deadline = time.monotonic() + float(limit_s) if float(limit_s) else None
        self.input = []
        self.input_ended = False
        self.input_fd = self.process.stdin.fileno()
        self.outputs = {
            self.process.stdout.fileno(): OUTPUT,
            self.process.stderr.fileno(): ERROR,
        }
        for pipe in (self.input_fd, *self.outputs):
            os.set_blocking(pipe, False)

    def take_input(self) -> int:
        """Hand on as much input as the command takes; return the frames that are through."""
        taken = 0
        while self.input:
            try:
                size = os.write(self.input_fd, self.input[0]) if self.input_fd is not None else None
            except BlockingIOError:
                return taken
            except BrokenPipeError:
                size = None  # it reads no more: whatever comes is taken and forgotten
            if size is None or size == len(self.input[0]):
                del self.input[0]
                taken += 1
            else:
                self.input[0] = self.input[0][size:]
        if self.input_ended and self.input_fd is not None:
            self.process.stdin.close()
            self.input_fd = None
        return taken

    def read(self, pipe: int) -> bytes:
        """Read a frame of what the command wrote; empty when there is nothing now."""
        try:
            data = os.read(pipe, PIECE)
        except BlockingIOError:
            return b""
        if not data:
            del self.outputs[pipe]
        return frame(self.outputs[pipe], data) if data else b""

    def close(self) -> None:
        """Let go of the pipes."""
        os.close(self.end)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with contextlib.suppress(OSError):
                pipe.close()


class Port:
    """One port, its client if there is one, and the client's command if it runs."""

    def __init__(self, path: str) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        self.received = Frames()
        self.unsent = bytearray()
        self.command = None

    def serve(self) -> None:
        """Serve one client after the other, for ever."""
        while True:
            # A blocking write to a port returns when there is somebody at its other end.
            os.set_blocking(self.fd, True)
            os.write(self.fd, b"\n")
            os.set_blocking(self.fd, False)
            while self.step():
                pass
            self.drop()

    def step(self) -> bool:
        """Wait for something to happen and see to it. False: the client went away."""
        events = dict(self.wait())
        line = events.pop(self.fd, 0)
        for fd in events:
            self.attend(fd)
        if line & select.POLLOUT:
            self.send()
        if line & select.POLLIN and not self.receive():
            return False
        command = self.command
        if command and command.deadline and time.monotonic() > command.deadline:
            self.unsent += frame(ERROR, b"killed: the time limit is over\n")
            os.killpg(command.process.pid, signal.SIGKILL)
            command.process.wait()
            self.finish(TIMED_OUT)
        return True

    def attend(self, fd: int) -> None:
        """See to the command: it ended, or one of its pipes is ready."""
        if self.command is None:
            return  # its end was seen first
        if fd == self.command.end:
            self.finish(self.command.process.wait())
        elif fd == self.command.input_fd:
            self.unsent += frame(TAKEN) * self.command.take_input()
        elif fd in self.command.outputs:
            self.unsent += self.command.read(fd)

    def wait(self) -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(self.fd, select.POLLIN | (select.POLLOUT if self.unsent else 0))
        command = self.command
        if command is None:
            return poll.poll()
        if len(self.unsent) < UNSENT:
            poll.register(command.end, select.POLLIN)
            for pipe in command.outputs:
                poll.register(pipe, select.POLLIN)
        if command.input and command.input_fd is not None:
            poll.register(command.input_fd, select.POLLOUT)
        if command.deadline is None:
            return poll.poll()
        return poll.poll(max(0, command.deadline - time.monotonic()) * 1000 + 1)

    def receive(self) -> bool:
        """See to what the client sent. False: it went away, and had sent nothing more."""
        try:
            data = os.read(self.fd, PIECE)
        except BlockingIOError:
            return True
        for kind, payload in self.received.feed(data):
            if kind == HELLO:
                self.drop()  # the one before went away unseen
                # A newline first: what was cut off of the last frame must not swallow this one.
                self.unsent += b"\n" + frame(HELLO, payload)
            elif kind == START and self.command is None:
                self.start(payload)
            elif self.command is None:
                continue  # sent before the command's end was known
            elif kind == INPUT:
                self.command.input.append(payload)
                self.unsent += frame(TAKEN) * self.command.take_input()
            elif kind == INPUT_END:
                self.command.input_ended = True
                self.command.take_input()
        return bool(data)

    def start(self, payload: bytes) -> None:
        try:
            self.command = Command(payload)
        except (OSError, ValueError) as error:
            self.unsent += frame(ERROR, f"{error}\n".encode())
            self.unsent += frame(STATUS, b"%d" % NOT_STARTED)

    def send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            del self.unsent[: os.write(self.fd, self.unsent[:PIECE])]

    def finish(self, status: int) -> None:
        """Send what the command has left in its pipes, and its status."""
        # What it wrote is in the pipes now. A daemon that it left behind may hold them open for
        # ever: that is not waited for.
        for pipe in list(self.command.outputs):
            for _ in range(4):
                data = self.command.read(pipe)
                if not data:
                    break
                self.unsent += data
        self.unsent += frame(STATUS, b"%d" % status)
        self.command.close()
        self.command = None

    def drop(self) -> None:
        """Forget the client, and hang up on its command."""
        self.unsent.clear()
        command, self.command = self.command, None
        if command:
            command.close()
            threading.Thread(target=hang_up, args=(command.process,)).start()


def main(paths: list[str]) -> None:
    """Serve all ports."""
    for path in paths:
        threading.Thread(target=Port(path).serve).start()


if __name__ == "__main__":
    main(sys.argv[1:])
