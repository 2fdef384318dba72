"""XML from other people, read safely: no entities of its own, nothing fetched, bounded.

`parse` makes an `xml.etree.ElementTree.Element`. Its parser is expat, told to refuse what makes
XML dangerous: declarations of entities ("billion laughs", files and addresses that are pulled in)
and documents that are longer, deeper or fuller than any description of a machine or a guest.
A document type that is only named (``<!DOCTYPE topology SYSTEM "hwloc2.dtd">``) is not looked at.

`document` tells beside that where every element stands, for messages with a line, and for edits
that leave the rest of a text as it is.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from homenode.errors import ParseError

LARGEST_TEXT = 64 << 20
"""Characters of a document; the description of a machine with 384 cpus has 340,000."""

MOST_ELEMENTS = 1 << 20
DEEPEST = 256
_MOST_ATTRIBUTES = 256

_START_TAG = re.compile(rb"<[^\s/>]+(?:\s+[^\s=/>]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*(/?)>")
"""A start tag of a document that is well-formed: a ``>`` may stand in a value."""


class Place(NamedTuple):
    """Where an element stands: its line, and bytes of the text as UTF-8.

    Its start tag is [start, content), its content [content, close), its end tag [close, end); an
    element that is written ``<a/>`` has `content` == `close` == `end`.
    """

    line: int
    start: int
    content: int
    close: int
    end: int


class Document(NamedTuple):
    """A root element, and the place of each element below it and of itself."""

    root: Element
    places: Mapping[Element, Place]


class _Reader:
    """What expat tells, put together, with the counts that must not run away."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._builder = TreeBuilder()
        self._elements = 0
        self._depth = 0
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._builder.data
        parser.EntityDeclHandler = self._refuse_entity
        parser.ExternalEntityRefHandler = self._refuse_entity
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)

    def read(self, text: str) -> Element:
        try:
            self._parser.Parse(text, True)  # noqa: FBT003 - expat's own signature
        except expat.ExpatError as error:
            message = f"is not XML: {expat.ErrorString(error.code)}"
            raise ParseError(message, source=self._source, line=error.lineno) from None
        return self._builder.close()

    def _start(self, tag: str, attributes: dict[str, str]) -> Element:
        self._elements += 1
        self._depth += 1
        if self._elements > MOST_ELEMENTS:
            self._refuse(f"more than {MOST_ELEMENTS} elements")
        if self._depth > DEEPEST:
            self._refuse(f"elements more than {DEEPEST} deep")
        if len(attributes) > _MOST_ATTRIBUTES:
            self._refuse(f"an element with more than {_MOST_ATTRIBUTES} attributes")
        return self._builder.start(tag, attributes)

    def _end(self, tag: str) -> Element:
        self._depth -= 1
        return self._builder.end(tag)

    def _refuse_entity(self, *_declared: object) -> NoReturn:
        self._refuse("declares or pulls in entities, which are not read")

    def _refuse(self, message: str) -> NoReturn:
        raise ParseError(message, source=self._source, line=self._parser.CurrentLineNumber)


class _PlacedReader(_Reader):
    """A reader that keeps where the elements stand."""

    def __init__(self, source: str, text: bytes) -> None:
        super().__init__(source)
        self._text = text
        self._open: list[Place] = []
        self.places: dict[Element, Place] = {}

    def _start(self, tag: str, attributes: dict[str, str]) -> Element:
        start = self._parser.CurrentByteIndex
        written = _START_TAG.match(self._text, start)
        if written is None:
            self._refuse(f"a start tag of <{tag[:40]}> that is not as XML has it")
        content = written.end()
        # `<a/>` ends here; of another element the end is not known yet.
        end = content if written[1] else -1
        line = self._parser.CurrentLineNumber
        self._open.append(Place(line, start, content, content, end))
        return super()._start(tag, attributes)

    def _end(self, tag: str) -> Element:
        element = super()._end(tag)
        place = self._open.pop()
        if place.end < 0:
            close = self._parser.CurrentByteIndex
            place = place._replace(close=close, end=self._text.index(b">", close) + 1)
        self.places[element] = place
        return element


def parse(text: str, *, source: str) -> Element:
    """Return the root element of `text`; `ParseError` with its line for what is not well-formed.

    An encoding that the document declares is ignored: `text` is decoded already.
    """
    _refuse_unreadable(text, source)
    return _Reader(source).read(text)


def document(text: str, *, source: str) -> Document:
    """Return the root element of `text` and the places of all; else as `parse`."""
    _refuse_unreadable(text, source)
    reader = _PlacedReader(source, text.encode())
    return Document(reader.read(text), reader.places)


def _refuse_unreadable(text: str, source: str) -> None:
    if len(text) > LARGEST_TEXT:
        raise ParseError("too long for a description", source=source)
    # What expat gets is UTF-8, whatever the declaration says; half a character it cannot take.
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ParseError("holds half a character", source=source)
