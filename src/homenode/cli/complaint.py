"""One line on standard error."""

import sys


def complain(message: str) -> None:
    """Print `message` as a line of homenode's on standard error."""
    # What comes from outside (a name, a path) must neither steer the terminal nor break the line.
    line = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in message)
    try:
        print(f"homenode: {line}", file=sys.stderr, flush=True)
    except OSError:
        return  # nobody listens: the exit status still tells
