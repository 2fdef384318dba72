"""``homenode doctor``: what about a host works against placement, and what to do about it."""

from argparse import ArgumentParser

from homenode.cli.common import add_connection, connect, parser, print_json
from homenode.doctor import Finding, Patient, examine
from homenode.drivers.base import Driver
from homenode.errors import ExitStatus

_EXAMPLES = """\
  homenode doctor
  homenode doctor --all
  homenode doctor -c capture:FOLDER --json

Looked at are the host's nodes and huge pages, and, of this machine, whatever else moves guests or
their memory: numad, the kernel's NUMA balancing, KSM, zone_reclaim_mode, control groups, isolated
cpus, and whether libvirt asks homenode. Of another machine there is the description alone. The exit
status is 4 if there is anything to mend (!), 0 if not; what may be meant so (i) or is not known (?)
is nothing to mend. The document: {"version": 1, "findings": [{"code", "state":
"fine"|"mend"|"know"|"unknown", "text", "remedy"}]}
"""

_MARKS = {"mend": "!", "know": "i", "unknown": "?", "fine": "+"}
_HERE = ("local:", "qemu:///", "xen:///")


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("doctor", "Tell what works against placement on a host.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument("--all", action="store_true", help="also what is fine")
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    found = examine(_patient(connect(chosen.connect or _this_machine())))
    if chosen.json:
        print_json({"version": 1, "findings": [finding._asdict() for finding in found]})
    else:
        print("\n".join(_lines(found, everything=chosen.all)))
    to_mend = any(finding.state == "mend" for finding in found)
    return ExitStatus.MENDING_NEEDED if to_mend else ExitStatus.DONE


def _this_machine() -> str | None:
    """Return what is asked about without a URI: a hypervisor if one answers, else the machine."""
    from homenode.drivers.connect import is_dom0, libvirt_answers  # noqa: PLC0415 - only here
    from homenode.drivers.libvirt_link import binding_or_none  # noqa: PLC0415 - the same

    if is_dom0() or (libvirt_answers() and binding_or_none() is not None):
        return None
    return "local:///"


def _patient(driver: Driver) -> Patient:
    host, guests = driver.snapshot()
    if not driver.uri.startswith(_HERE):
        return Patient(host, guests)
    from homenode.drivers.linux_facts import linux_facts  # noqa: PLC0415 - only of this machine

    return Patient(host, guests, linux_facts())


def _lines(found: tuple[Finding, ...], *, everything: bool) -> list[str]:
    lines = []
    for finding in found:
        if finding.state == "fine" and not everything:
            continue
        lines.append(f"{_MARKS[finding.state]} {finding.text} [{finding.code}]")
        if finding.remedy and finding.state != "fine":
            lines.append(f"    {finding.remedy}")
    fine = sum(finding.state == "fine" for finding in found)
    mend = sum(finding.state == "mend" for finding in found)
    lines.append(f"{len(found)} things looked at: {fine} fine, {mend} to mend")
    return lines
