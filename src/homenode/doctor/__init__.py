"""What about a host works against placement, and what to do about it.

Pure: facts in, findings out. Each thing that is looked at is a function of the facts, and says in
one line what is, why it matters to guests, and how it is mended. What cannot be told is said too.
A room for each subject: `host` (any), `linux` and `kvm` (this machine's), `xen` (a dom0),
`installation` (homenode's own).
"""

from typing import NamedTuple

from homenode.doctor.facts import WATCHED, InstallationFacts, LinuxFacts, XenFacts
from homenode.doctor.finding import Finding, State
from homenode.doctor.host import examine_host
from homenode.guest import Guest
from homenode.host import Host

__all__ = [
    "WATCHED", "Finding", "InstallationFacts", "LinuxFacts", "Patient", "State", "XenFacts",
    "examine",
]  # fmt: skip


class Patient(NamedTuple):
    """All that is looked at; None is what is not to be had, such as another machine's Linux.

    `refusal` is why the hypervisor did not answer: what to do about it comes after a semicolon.
    """

    host: Host | None = None
    guests: tuple[Guest, ...] = ()
    linux: LinuxFacts | None = None
    xen: XenFacts | None = None
    installation: InstallationFacts | None = None
    refusal: str | None = None


def examine(patient: Patient) -> tuple[Finding, ...]:
    """Return everything that was looked at, in a fixed order."""
    # What is not looked at needs not be read: imports take a third of the time.
    found: list[Finding | None] = []
    host, guests = patient.host, patient.guests
    if patient.refusal is not None:
        text, _, remedy = patient.refusal.partition("; ")
        found.append(
            Finding("no-answer", "mend", f"the hypervisor does not answer: {text}", remedy)
        )
    if host is not None:
        found += examine_host(host, guests)
    if patient.linux is not None and host is not None:
        from homenode.doctor.kvm import examine_kvm  # noqa: PLC0415 - as above
        from homenode.doctor.linux import examine_linux  # noqa: PLC0415 - as above

        found += examine_linux(patient.linux, host, guests)
        found += examine_kvm(patient.linux, host, guests)
    if patient.xen is not None:
        from homenode.doctor.xen import examine_xen  # noqa: PLC0415 - as above

        found += examine_xen(patient.xen, host, guests)
    if patient.installation is not None:
        from homenode.doctor.installation import examine_installation  # noqa: PLC0415 - as above

        found += examine_installation(patient.installation)
    return tuple(one for one in found if one is not None)
