"""Edits in the text of an XML document that leave everything else byte for byte as it is.

A tree that is written out again has other quotes, other blanks in its tags, other line ends and
other references than its author gave it, and a diff of the file then shows every line. Here
elements are found by their places (`homenode.formats.xml_tree.document`), and only the attributes,
elements and lines that change are touched. What is put in takes over the indentation, the quotes
and the line ends that are there.

Names and values that are written are plain: none of them needs an escape.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.etree.ElementTree import Element

from homenode.formats.xml_tree import Document

_ATTRIBUTE = re.compile(rb"\s+([^\s=]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_REST_OF_LINE = re.compile(rb"[ \t]*(?:<!--(?:(?!-->)[^\n])*-->[ \t]*)+(?=\r?\n)")
"""Comments after an element that end its line, and so belong to it."""

_BLANKS = b" \t"

_PLAIN = re.compile(r"[\w.,:^+ /~-]*")


class New(NamedTuple):
    """An element that is put in: its attributes, and the elements or the text in it."""

    tag: str
    attributes: Mapping[str, str]
    children: tuple["New", ...] = ()
    text: str = ""


class _Edit(NamedTuple):
    start: int
    end: int
    turn: int
    bytes: bytes


class XmlEdits:
    """Edits that are gathered, and carried out by `edited`."""

    def __init__(self, text: str, found: Document) -> None:
        self._bytes = text.encode()
        self._root, self._places = found
        self._edits: list[_Edit] = []
        self._line_end = b"\r\n" if b"\r\n" in self._bytes else b"\n"
        tags = [self._bytes[place.start : place.content] for place in self._places.values()]
        single = sum(b"'" in tag for tag in tags)
        self._quote = b"'" if single * 2 > sum(b'"' in tag or b"'" in tag for tag in tags) else b'"'

    def edited(self) -> str:
        """Return the text with all edits in it."""
        # What is put in at a place comes before what is changed from there on.
        pieces, at = [], 0
        for edit in sorted(self._edits, key=lambda one: (one.start, one.end > one.start, one.turn)):
            pieces += [self._bytes[at : edit.start], edit.bytes]
            at = edit.end
        return b"".join([*pieces, self._bytes[at:]]).decode()

    def set_attributes(self, element: Element, values: Mapping[str, str | None]) -> None:
        """Give attributes another value, add those that are not there, or remove them (None)."""
        place = self._places[element]
        tag = self._bytes[place.start : place.content]
        written = {match[1].decode(): match for match in _ATTRIBUTE.finditer(tag)}
        after = max((match.end() for match in written.values()), default=0)
        after = after or len(element.tag.encode()) + 1
        quote = next((match[2][:1] for match in written.values()), self._quote)
        for name, value in values.items():
            match = written.get(name)
            if match is None and value is not None:
                self._put(place.start + after, _attribute(name, value, quote))
            elif match is not None and value is None:
                self._replace(place.start + match.start(), place.start + match.end(), b"")
            elif match is not None and value is not None and element.get(name) != value:
                start, end = (place.start + at for at in match.span(2))
                self._replace(start + 1, end - 1, _plain(value))

    def remove(self, element: Element) -> None:
        """Take an element out, and its line with it if nothing else is there."""
        place = self._places[element]
        start = place.start
        if self._indent(element) is not None:
            start = self._line_start(start)
            start -= len(self._line_end) if self._bytes[:start].endswith(self._line_end) else 1
        self._replace(start, place.end, b"")

    def add(
        self,
        parent: Element,
        news: Sequence[New],
        *,
        after: Element | None = None,
        before: Element | None = None,
    ) -> None:
        """Put elements into `parent`: beside a child of it, or as the last ones.

        What is put into a parent that has no elements yet is put there at once.
        """
        indent = next(filter(None, map(self._indent, parent)), None)
        if before is not None:
            made = b"".join(self._rendered(new, indent) + self._gap(indent) for new in news)
            self._put(self._places[before].start, made)
        elif after is None and len(parent):
            self.add(parent, news, after=parent[-1])
        elif after is not None:
            at = self._places[after].end
            rest = _REST_OF_LINE.match(self._bytes, at)
            made = b"".join(self._gap(indent) + self._rendered(new, indent) for new in news)
            self._put(rest.end() if rest else at, made)
        else:
            self._fill(parent, news)

    def _fill(self, parent: Element, news: Sequence[New]) -> None:
        place = self._places[parent]
        outer = self._indent(parent)
        inner = None if outer is None else outer + self._unit()
        made = b"".join(self._gap(inner) + self._rendered(new, inner) for new in news)
        if place.content == place.end:
            tag = self._bytes[place.start : place.end]
            slash = place.start + len(tag[:-2].rstrip())
            close = self._gap(outer) + b"</" + parent.tag.encode() + b">"
            self._replace(slash, place.end, b">" + made + close)
            return
        content = self._bytes[place.content : place.close]
        at = place.content + len(content.rstrip())
        ended = b"\n" in self._bytes[at : place.close]
        self._put(at, made if ended else made + self._gap(outer))

    def _put(self, at: int, made: bytes) -> None:
        self._replace(at, at, made)

    def _replace(self, start: int, end: int, made: bytes) -> None:
        self._edits.append(_Edit(start, end, len(self._edits), made))

    def _line_start(self, at: int) -> int:
        return self._bytes.rfind(b"\n", 0, at) + 1

    def _indent(self, element: Element) -> bytes | None:
        """Return the blanks before an element that begins a line; None if it does not."""
        at = start = self._places[element].start
        # Back over the blanks alone: all of a file may be one line.
        while at and self._bytes[at - 1] in _BLANKS:
            at -= 1
        return self._bytes[at:start] if self._bytes[at - 1 : at] == b"\n" else None

    def _unit(self) -> bytes:
        # What one level is indented by, as the first element within the root has it.
        first = next((self._indent(child) for child in self._root), None)
        return first or b"  "

    def _gap(self, indent: bytes | None) -> bytes:
        return b"" if indent is None else self._line_end + indent

    def _rendered(self, new: New, indent: bytes | None) -> bytes:
        tag = _plain(new.tag)
        start = (
            b"<"
            + tag
            + b"".join(
                _attribute(name, value, self._quote) for name, value in new.attributes.items()
            )
        )
        if new.text:
            return start + b">" + _plain(new.text) + b"</" + tag + b">"
        if not new.children:
            return start + b"/>"
        inner = None if indent is None else indent + self._unit()
        children = b"".join(
            self._gap(inner) + self._rendered(child, inner) for child in new.children
        )
        return start + b">" + children + self._gap(indent) + b"</" + tag + b">"


def _attribute(name: str, value: str, quote: bytes) -> bytes:
    return b" " + _plain(name) + b"=" + quote + _plain(value) + quote


def _plain(text: str) -> bytes:
    if not _PLAIN.fullmatch(text):
        raise ValueError(f"would need an escape in XML: {text!r}")
    return text.encode()
