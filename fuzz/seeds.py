"""Where inputs begin: files of this folder, what was recorded on real machines, and examples."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
RECORDED = ROOT / "tests" / "data"
EXAMPLES = ROOT / "examples"
CRASHERS = Path(__file__).parent / "crashers"
OTHERS = Path(os.environ.get("HOMENODE_DATA") or "no-data")
"""Other people's data, which is not there on every machine."""

OWN = Path(__file__).parent / "inputs"
_PART = re.compile(r"(?m)^=== (.*)\n")


def own(name: str) -> list[bytes]:
    """Return the inputs that were written for a target."""
    return [path.read_bytes() for path in sorted((OWN / name).iterdir())]


def files(folder: Path, pattern: str, *, most_bytes: int = 4096) -> list[bytes]:
    """Return the files below `folder` whose names are like `pattern`, none of them too long."""
    found = sorted(path for path in folder.rglob(pattern) if path.is_file())
    texts = (path.read_bytes() for path in found)
    return list(dict.fromkeys(text for text in texts if len(text) <= most_bytes))


def joined(parts: Mapping[str, str]) -> bytes:
    """Return several files as one input."""
    return "".join(f"=== {name}\n{text.rstrip()}\n" for name, text in parts.items()).encode()


def parted(data: bytes) -> dict[str, str]:
    """Return the files in an input: what stands before the first one is lost."""
    pieces = _PART.split(text(data))
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def chosen(data: bytes, count: int) -> tuple[int, bytes]:
    """Return which of `count` readers an input is for, and the rest of it."""
    return (data[0] % count if data else 0), data[1:]


def for_reader(reader: int, count: int, content: bytes) -> bytes:
    """Return an input that `chosen` takes apart into these."""
    return bytes((ord("0") // count * count + count + reader,)) + content


def for_each(readers: int, texts: Iterable[str]) -> list[bytes]:
    """Return every text once for each reader."""
    return [for_reader(reader, readers, one.encode()) for one in texts for reader in range(readers)]


def text(data: bytes) -> str:
    """Return an input as a text: bytes that are none become marks, as from a file of /sys."""
    return data.decode("utf-8", "replace")


def argument(data: bytes) -> str:
    """Return an input as Python gives a word of the command line."""
    return data.decode("utf-8", "surrogateescape")
