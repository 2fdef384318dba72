"""What libvirt writes and reads: capabilities, the XML of guests, the status of those that run."""

import re

from fuzz import seeds
from fuzz.oracle import expect
from fuzz.saved import expect_saved
from fuzz.seeds import parted, text
from fuzz.target import Target
from fuzz.targets.xen import where
from homenode.asking import ask, handed_over
from homenode.formats import host_toml, libvirt_capabilities, libvirt_status, libvirt_xml, xml_tree
from homenode.formats.guest_file import read_guest
from homenode.formats.xml_edit import New, XmlEdits
from homenode.placement import View, place
from homenode.rules import qemu_guest
from homenode.rules.libvirt_config import without_nodes

CAPTURES = seeds.RECORDED / "kvm-captures"
HOST = host_toml.parse(
    "name = 'k'\nhypervisor = 'KVM'\nnodes = 4\ncores = 4\nthreads_per_core = 2\nmemory = '4GiB'\n"
    "sockets = 2\n[huge_pages]\n'2MiB' = 512",
    source="host",
)
WORDS = (
    "strict preferred interleave restrictive auto static KiB GiB M bytes 0-3 ^1 shared private"
    " memfd file kvm qemu 0-3,^2"
)
_LONG = re.compile(r"(?s)<cpu>.*?</cpu>|<guest>.*</guest>")
"""What is long in capabilities, and not looked at."""


def _capabilities(data: bytes) -> None:
    parts = parted(data)
    free = None
    if "free" in parts:
        free = libvirt_capabilities.parse_free_pages(parts["free"], source="virsh-freepages.txt")
    host = libvirt_capabilities.parse(parts.get("xml", text(data)), source="x", free=free)
    expect_saved(host, data=data)


def _domain(data: bytes) -> None:
    config = libvirt_xml.parse(text(data), source="guest.xml")
    if len(data) % 3 == 0:
        bare = without_nodes(config)
        expect(without_nodes(bare).text, bare.text, "a guest without nodes, without them,")
        expect(bare.vcpus, config.vcpus, "vcpus of a guest without nodes")


def _edited(data: bytes) -> None:
    """Edit any element of any document, and look whether all else is as it was."""
    said = text(data)
    found = xml_tree.document(said, source="x")
    expect(XmlEdits(said, found).edited(), said, "a document without a change")
    elements = list(found.root.iter())
    at = len(said) % len(elements)
    before = [(one.tag, dict(one.attrib), one.text) for one in elements]

    edits = XmlEdits(said, found)
    if len(said) % 3 == 0:
        edits.set_attributes(elements[at], {"homenode": "0-3"})
        before[at][1]["homenode"] = "0-3"
        now = [(one.tag, dict(one.attrib), one.text) for one in _read_again(edits)]
        expect(now, before, "one attribute more")
    elif len(said) % 3 == 1 or not at:
        edits.add(elements[at], [New("made", {"a": "1"})])
        tags = sorted([*(tag for tag, _, _ in before), "made"])
        expect(sorted(one.tag for one in _read_again(edits)), tags, "one element more")
    else:
        edits.remove(elements[at])
        left = len(elements) - len(list(elements[at].iter()))
        expect(len(_read_again(edits)), left, "one element less")


def _read_again(edits: XmlEdits) -> list[xml_tree.Element]:
    return list(xml_tree.parse(edits.edited(), source="edited").iter())


def _placed(data: bytes) -> None:
    """Read a guest's XML, decide, write the decision and read it again."""
    config = read_guest(text(data), source="guest.xml")
    if not isinstance(config, libvirt_xml.DomainXml):
        return
    asked = ask(config, HOST)
    decision = place(View(HOST, ()), asked.request, asked.policy)
    written = handed_over(config, asked.request, decision, HOST)
    again = libvirt_xml.parse(written, source="written")
    if not decision.fits:
        expect(written, config.text, "the XML of a guest that does not fit")
        return
    expect((again.name, again.vcpus), (config.name, config.vcpus), "the guest")
    later = ask(again, HOST)
    expect(later.request.guest_memory_kib, asked.request.guest_memory_kib, "memory")
    if len(data) % 3:
        return
    decided = place(View(HOST, ()), later.request, later.policy)
    expect(where(decided), where(decision), "the nodes that were decided on")
    expect(handed_over(again, later.request, decided, HOST), written, "written again")


def _status(data: bytes) -> None:
    status = libvirt_status.parse(text(data), source="status")
    qemu_guest.guest_of(
        status.domain, HOST, id=status.id, state="running", memory=None, chosen=status.chosen
    )


def guests() -> list[bytes]:
    """Return the XML of guests."""
    return seeds.own("libvirt_guest")


def capabilities() -> list[bytes]:
    """Return capabilities of hosts, some with what is free there."""
    found = [
        seeds.joined(
            {
                "xml": _LONG.sub("", (folder / "virsh-capabilities.xml").read_text()),
                "free": (folder / "virsh-freepages.txt").read_text(),
            }
        )
        for folder in sorted(CAPTURES.iterdir())
        if (folder / "virsh-capabilities.xml").is_file()
    ]
    return seeds.own("libvirt_capabilities") + found


TARGETS = (
    Target(
        "libvirt_capabilities",
        _capabilities,
        (
            "formats.libvirt_capabilities",
            "formats.described",
        ),
        capabilities,
        "KiB 0-3 ===__free\\n ===__xml\\n Node__0: 2048KiB:",
        shape="xml",
        most_bytes=1100,
    ),
    Target(
        "libvirt_domain",
        _domain,
        (
            "formats.libvirt_xml",
            "formats.libvirt_elements",
        ),
        guests,
        WORDS,
        shape="xml",
        most_bytes=800,
    ),
    Target(
        "libvirt_placed",
        _placed,
        (
            "formats.guest_file",
            "rules.libvirt_request",
            "rules.libvirt_config",
            "asking",
        ),
        guests,
        WORDS,
        shape="xml",
        most_bytes=800,
    ),
    Target(
        "libvirt_status",
        _status,
        ("formats.libvirt_status", "rules.qemu_guest"),
        lambda: seeds.own("libvirt_status"),
        WORDS + " running paused shutoff",
        shape="xml",
        most_bytes=600,
    ),
    Target(
        "xml_edit",
        _edited,
        ("formats.xml_edit", "formats.xml_tree"),
        lambda: [*guests(), *seeds.own("xml")],
        "<!-- --> <![CDATA[ ]]> <?x__?> /> &amp; &#10;",
        shape="xml",
        most_bytes=300,
    ),
)
