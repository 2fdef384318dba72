"""The frames of a line between a client outside and the agent in dom0: one frame is one line.

A frame is a letter for its kind, the payload, and a newline, which occurs nowhere else. So whoever
comes to a line on which another was cut off in the middle finds the next frame behind the next
newline, and nothing that is sent as data can be taken for a frame.
"""

HELLO = b"H"  # the client's nonce, and the agent's answer: from here on the line is this client's
START = b"S"  # folder, time limit in seconds, "argv" or "shell", arguments; each ended by a NUL
INPUT = b"I"  # standard input of the command
INPUT_END = b"Z"
TAKEN = b"T"  # the agent to the client: one INPUT frame has been taken by the command
OUTPUT = b"O"
ERROR = b"E"  # standard error
STATUS = b"X"  # the exit status (negative: the signal); nothing follows

PIECE = 32 * 1024
"""Bytes of payload in one frame, at most."""
WINDOW = 32
"""INPUT frames that may be under way: what the agent holds for a command that does not read."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Make the line of one frame."""
    return kind + payload.replace(b"\x1b", b"\x1b\x01").replace(b"\n", b"\x1b\x02") + b"\n"


class Frames:
    """What has been received of a line and is not yet a whole frame."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[tuple[bytes, bytes]]:
        """Take what was received; return the frames that it completes, as kind and payload."""
        if b"\n" not in data:
            self._rest += data
            return []
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [
            (line[:1], line[1:].replace(b"\x1b\x02", b"\n").replace(b"\x1b\x01", b"\x1b"))
            for line in lines
            if line
        ]
