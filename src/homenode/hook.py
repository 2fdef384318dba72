"""What libvirt's hook for guests of QEMU does (``/etc/libvirt/hooks/qemu.d``).

libvirt calls it with a guest's name, an operation, and the guest's file on standard input; it waits
meanwhile, and may not be asked anything (https://libvirt.org/hooks.html):

- ``prepare`` of a guest that is left to numad: a note for the question that follows
- ``started``: what is promised to it dissolves into what it has
- ``release``: it has ended, or did not start: nothing is promised any more
- ``migrate``: it comes from another host, whose nodes its file names
- ``restore``: it comes out of a file, whose nodes may be full by now: for these two it is placed
  anew, and its file is printed with the new nodes
"""

from homenode.asking import ask, handed_over
from homenode.drivers.start_notes import StartNotes, is_left_to_numad
from homenode.formats import libvirt_xml
from homenode.formats.libvirt_xml import DomainXml
from homenode.local_host import LocalHost, Question
from homenode.rules.libvirt_config import names_nodes, without_nodes

OPERATIONS = ("prepare", "started", "release", "migrate", "restore")


def called(here: LocalHost, operation: str, text: str) -> str:
    """Do what an operation asks for; return what is to be printed, which may be nothing."""
    if operation not in OPERATIONS:
        return ""
    config = libvirt_xml.parse(text, source="the hook's input")
    notes = StartNotes(here.root, here.clock)
    if operation == "prepare" and is_left_to_numad(config):
        notes.leave(config)
    if operation == "started":
        _confirm(here)
    if operation == "release" and config.uuid is not None:
        notes.drop(config.uuid)
        here.ledger.drop(config.uuid)
    if operation in ("migrate", "restore"):
        return _placed_anew(here, config)
    return ""


def _confirm(here: LocalHost) -> None:
    """Let claims dissolve into what the guests have that are there by now."""
    guests = here.guests(here.host())
    ledger = here.ledger
    with ledger.lock():
        ledger.replace(ledger.holding(guests))


def _placed_anew(here: LocalHost, config: DomainXml) -> str:
    if not names_nodes(config):
        return ""
    bare = without_nodes(config)
    ledger = here.ledger
    with ledger.lock():
        decided = here.decide(lambda host: Question(*ask(bare, host)[:2]), ledger)
    if not decided.decision.fits:
        # It has to go somewhere, and the numbers of another host are worse than none.
        return bare.text
    return handed_over(bare, decided.request, decided.decision, decided.host)
