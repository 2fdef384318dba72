"""``homenode doctor``: what about a host works against placement, and what to do about it."""

from argparse import ArgumentParser

from homenode.cli.common import add_connection, connect, parser, print_json
from homenode.doctor import Finding, InstallationFacts, LinuxFacts, Patient, XenFacts, examine
from homenode.drivers.base import Driver
from homenode.errors import ExitStatus, HomenodeError, HypervisorError

_EXAMPLES = """\
  homenode doctor
  homenode doctor --all
  homenode doctor --settings
  homenode doctor -c capture:FOLDER --json
  homenode doctor -c xen+ssh://root@xen1/

Looked at are the host's nodes and huge pages; of a Xen host, how Xen and xl are set up, and dom0;
of this machine, whatever else moves guests or their memory, how libvirt and QEMU are set up, and
homenode's own installation. Of another machine there is the description alone. Nothing is changed.
The exit status is 4 if there is anything to mend (!), 0 if not; what may be meant so (i) or is not
known (?) is nothing to mend. --settings shows each setting and where it is from instead. The
document: {"version": 1, "findings": [{"code", "state": "fine"|"mend"|"know"|"unknown", "text",
"remedy"}], "settings": [{"name", "value", "source"}]}
"""

_MARKS = {"mend": "!", "know": "i", "unknown": "?", "fine": "+"}
_HERE = ("local:", "qemu:///", "xen:///")
_INSTALLED_HERE = (*_HERE, "sim:")


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("doctor", "Tell what works against placement on a host.", examples=_EXAMPLES)
    add_connection(made)
    made.add_argument("--all", action="store_true", help="also what is fine")
    made.add_argument(
        "--settings", action="store_true", help="show each setting and where it is from, and end"
    )
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    # TOML is read for the doctor and the keeper alone.
    from homenode.cli.doctor_settings import print_settings, settings_told  # noqa: PLC0415

    chosen = options().parse_args(arguments)
    settings, error = settings_told()
    if chosen.settings:
        if error is not None:
            raise error
        if chosen.json:
            print_json({"version": 1, "findings": [], "settings": settings})
        else:
            print_settings(settings)
        return ExitStatus.DONE
    found = examine(_patient(connect(chosen.connect or _this_machine()), error))
    if chosen.json:
        findings = [finding._asdict() for finding in found]
        print_json({"version": 1, "findings": findings, "settings": settings})
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


def _patient(driver: Driver, configuration_error: HomenodeError | None) -> Patient:
    patient = Patient(
        linux=_linux(driver),
        xen=_xen(driver),
        installation=_installation(driver, configuration_error),
    )
    try:
        # On Xen the free memory that is not to be had yet counts, and is told by a closer look;
        # libvirt is not asked at all for that look, and whether it answers is to be found out.
        host, guests = driver.snapshot("full" if patient.xen is None else "creation")
    except HypervisorError as error:
        # That it cannot be asked is what is wrong with it.
        return patient._replace(refusal=str(error))
    return patient._replace(host=host, guests=guests)


def _linux(driver: Driver) -> LinuxFacts | None:
    # In a dom0, Linux decides on no memory of guests.
    if not driver.uri.startswith(_HERE) or driver.uri.startswith("xen:"):
        return None
    from homenode.drivers.linux_facts import linux_facts  # noqa: PLC0415 - only of this machine

    return linux_facts()


def _xen(driver: Driver) -> XenFacts | None:
    if not driver.uri.startswith(("xen:", "xen+ssh:")):
        return None
    from homenode.drivers.xen import XenDriver  # noqa: PLC0415 - only of a dom0
    from homenode.drivers.xen_facts import xen_facts  # noqa: PLC0415 - the same

    return xen_facts(driver.gateway) if isinstance(driver, XenDriver) else None


def _installation(driver: Driver, error: HomenodeError | None) -> InstallationFacts | None:
    if not driver.uri.startswith(_INSTALLED_HERE):
        return None
    from homenode.drivers.installation_facts import installation_facts  # noqa: PLC0415 - as above

    try:
        ledger = driver.ledger
    except HypervisorError:
        ledger = None
    told = None if error is None else str(error)
    return installation_facts(ledger, configuration_error=told)


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
