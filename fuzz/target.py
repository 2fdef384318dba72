"""What a target is."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

Seeds = Callable[[], Sequence[bytes]]


class Target(NamedTuple):
    """A function that takes bytes from outside, and how inputs for it are made.

    `read` raises `HomenodeError` for what is refused, and anything else for a defect. `covers` are
    the modules below ``homenode`` whose readers it goes through; `seeds` gives the inputs to begin
    with. `shape` names the way in which inputs are changed (`fuzz.mutation`); without one libFuzzer
    changes bytes, which is enough for what is a few words long. `words`, with blanks between, are
    put into inputs. `share` is how many times more inputs it gets than a slow one (or less:
    whole commands, and what goes through polars, take milliseconds).
    """

    name: str
    read: Callable[[bytes], None]
    covers: tuple[str, ...]
    seeds: Seeds
    words: str = ""
    shape: str = ""
    most_bytes: int = 4096
    share: float = 1

    @property
    def dictionary(self) -> tuple[str, ...]:
        """The words, one by one; ``_`` at an end of one is a blank."""
        return tuple(word.replace("__", " ").replace("\\n", "\n") for word in self.words.split())
