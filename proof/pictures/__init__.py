"""The pictures of the book, drawn by homenode itself: ``make pictures``.

Each room draws those of one page, as texts by the names of their files. The same on every machine,
but for plots with axes: how wide their words are is up to the machine's fonts, so these carry a
digest of what they are made from, and are drawn anew when that is another one.
"""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
EXAMPLES = ROOT / "examples"
