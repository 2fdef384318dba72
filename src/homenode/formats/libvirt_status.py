"""What libvirt keeps of a guest that runs: ``/run/libvirt/qemu/NAME.xml``, a ``<domstatus>``.

It is the guest's file as it runs, and around it what only the daemon knows: the process, the
threads of the vcpus, and what numad advised. libvirt writes it to find its guests again when it is
restarted (src/qemu/qemu_domain.c, qemuDomainObjPrivateXMLFormat()), after each change of them.
"""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from homenode.bitmap import NodeMap
from homenode.errors import ParseError
from homenode.formats.libvirt_xml import DomainXml, parse_element
from homenode.formats.xml_tree import document

State = Literal[
    "nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended"
]

LARGEST_TEXT = 8 << 20


class DomainStatus(NamedTuple):
    """A guest that runs: its file, and what the daemon knows of it.

    `process` is the number of QEMU, `threads` those of its vcpus. `chosen` are the nodes that numad
    advised when it was started with ``placement="auto"``. `is_starting` is whether it has not run
    yet.
    """

    domain: DomainXml
    id: int | None
    state: State
    process: int | None
    threads: Mapping[int, int]
    chosen: NodeMap | None
    is_starting: bool


def parse(text: str, *, source: str) -> DomainStatus:
    """Read the status of a guest; `ParseError` for what is none."""
    if len(text) > LARGEST_TEXT:
        raise ParseError(f"too long for the status of a guest: {len(text)}", source=source)
    found = document(text, source=source)
    root = found.root
    domain = root.find("domain")
    if root.tag != "domstatus" or domain is None:
        raise ParseError(f"this is <{root.tag[:40]}>, no status of a guest", source=source)
    told = root.get("state", "nostate")
    state: State | None = next((known for known in get_args(State) if known == told), None)
    if state is None:
        raise ParseError(f"there is no state {told[:40]!r} of a guest", source=source)
    numad = root.find("numad")
    advised = None if numad is None else numad.get("nodeset")
    threads = {
        int(vcpu.get("id", "")): int(vcpu.get("pid", ""))
        for vcpu in root.iterfind("vcpus/vcpu")
        if _is_number(vcpu.get("id")) and _is_number(vcpu.get("pid"))
    }
    return DomainStatus(
        domain=parse_element(domain, found, text, source=source),
        id=_number(domain.get("id")),
        state=state,
        process=_number(root.get("pid")) or None,
        threads=threads,
        chosen=NodeMap.parse_libvirt(advised) if advised else None,
        is_starting=state == "paused" and root.get("reason") == "starting up",
    )


def _is_number(text: str | None) -> bool:
    return text is not None and text.isascii() and text.isdecimal() and len(text) < 12


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and _is_number(text) else None
