"""Typed values out of the elements of libvirt's XML, with their line in every complaint.

Numbers, sets, words and sizes of memory are read as libvirt does, or refused.
"""

from typing import Final, TypeVar
from xml.etree.ElementTree import Element

from homenode.bitmap import Bitmap
from homenode.errors import ParseError
from homenode.formats.xml_tree import Document

LARGEST_KIB = 1 << 44
"""16 PiB: what 4-level paging of a host could ever map."""

_BYTES = {"b": 1, "byte": 1, "bytes": 1}
_POWERS = {letter: power for power, letter in enumerate("kmgtpe", start=1)}

_Map = TypeVar("_Map", bound=Bitmap)


def scaled_kib(number: int, unit: str) -> int | None:
    """Return what `number` of libvirt's `unit` is in KiB, rounded up; None if it has no such unit.

    ``KiB`` and ``K`` are 1024 bytes, ``KB`` is 1000, and capitals make no difference
    (src/util/virutil.c, virScaleInteger(); domain_conf.c, virDomainParseMemory()).
    """
    word = unit.lower()
    scale = _BYTES.get(word)
    if scale is None and word[:1] in _POWERS and word[1:] in ("", "b", "ib"):
        scale = (1000 if word[1:] == "b" else 1024) ** _POWERS[word[:1]]
    return None if scale is None else -(-number * scale // 1024)


class Elements:
    """The document's elements, by way of what they should be."""

    def __init__(self, found: Document, source: str) -> None:
        self.root: Final = found.root
        self.lines: dict[str, int] = {}
        self._places = found.places
        self._source = source

    def line(self, element: Element) -> int:
        """Return the line on which the element begins."""
        return self._places[element].line

    def error(self, message: str, element: Element, *, hint: str | None = None) -> ParseError:
        """Return a complaint about the element, with its place."""
        return ParseError(message, source=self._source, line=self.line(element), hint=hint)

    def only(self, path: str) -> Element | None:
        """Return the element at a path below the root; None if there is none.

        libvirt looks at the first of several alone, or refuses them.
        """
        element = self.root
        for tag in path.split("/"):
            found = element.findall(tag)
            if len(found) > 1:
                raise self.error(f"<{tag}> is there twice", found[1], hint="keep one of them")
            if not found:
                return None
            element = found[0]
        self.lines[element.tag] = self.line(element)
        return element

    def all(self, path: str) -> list[Element]:
        """Return all elements at a path below the root."""
        return self.root.findall(path)

    def word(self, element: Element, attribute: str) -> str:
        """Return an attribute that has to be there."""
        value = element.get(attribute)
        if not value:
            raise self.error(f"<{element.tag}> has no {attribute}", element)
        return value

    def choice(self, element: Element, attribute: str, known: tuple[str, ...]) -> str | None:
        """Return an attribute that is one of the known words; None if it is not there."""
        value = element.get(attribute)
        if value is not None and value not in known:
            message = f"<{element.tag}> has {attribute}={value[:40]!r}"
            raise self.error(message, element, hint=f"it is one of {', '.join(known)}")
        return value

    def number(
        self, element: Element, attribute: str | None = None, *, least: int = 0, most: int
    ) -> int:
        """Return an attribute, or the text of the element, that is a whole number."""
        text = (element.text or "").strip() if attribute is None else self.word(element, attribute)
        name = f"<{element.tag}>" + (f" {attribute}" if attribute else "")
        if not (text.isascii() and text.isdecimal()) or len(text) > 18:
            raise self.error(f"{name} is no whole number: {text[:40]!r}", element)
        if not least <= int(text) <= most:
            raise self.error(f"{name} is out of range: {text} is not {least} to {most}", element)
        return int(text)

    def set(self, element: Element, attribute: str, kind: type[_Map]) -> _Map | None:
        """Return an attribute that is a set; None if it is not there; an empty one is refused."""
        text = element.get(attribute)
        if text is None:
            return None
        try:
            members = kind.parse_libvirt(text)
        except ParseError as error:
            message = f"<{element.tag}> {attribute}: {error.message}"
            raise self.error(message, element, hint=error.hint) from None
        if not members:
            raise self.error(f"<{element.tag}> {attribute}={text[:40]!r} names none", element)
        return members

    def needed_set(self, element: Element, attribute: str, kind: type[_Map]) -> _Map:
        """Return an attribute that is a set and has to be there."""
        members = self.set(element, attribute, kind)
        if members is None:
            raise self.error(f"<{element.tag}> has no {attribute}", element)
        return members

    def size_kib(self, element: Element, attribute: str | None = None) -> int:
        """Return a size of memory, with the element's ``unit`` or in KiB."""
        number = self.number(element, attribute, most=10**18)
        unit = element.get("unit", "KiB")
        kib = scaled_kib(number, unit)
        if kib is None:
            hint = "libvirt knows bytes, KB, KiB, MB, MiB, GB, GiB and so on"
            raise self.error(f"<{element.tag}> has no such unit: {unit[:40]!r}", element, hint=hint)
        if kib > LARGEST_KIB:
            raise self.error(f"<{element.tag}> is out of range: {number} {unit}", element)
        return kib
