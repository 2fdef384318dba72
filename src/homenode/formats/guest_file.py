"""A guest's file, in whichever of the two forms it is written: xl's config, or libvirt's XML."""

from typing import TYPE_CHECKING

from homenode.formats.xl_cfg import GuestConfig

if TYPE_CHECKING:
    from homenode.formats.libvirt_xml import DomainXml

    GuestFile = GuestConfig | DomainXml


def read_guest(text: str, *, source: str) -> "GuestFile":
    """Return what the file says; `ParseError` with source and line for what cannot be read."""
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        from homenode.formats import libvirt_xml  # noqa: PLC0415 - only for libvirt's guests

        return libvirt_xml.parse(text, source=source)
    return GuestConfig.parse(text, source=source)
