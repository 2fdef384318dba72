"""Findings about homenode itself on this machine: what is installed, and what it can use."""

from homenode.doctor.facts import InstallationFacts
from homenode.doctor.finding import Finding


def examine_installation(facts: InstallationFacts) -> list[Finding | None]:
    """Return what there is to say of homenode's own parts."""
    return [
        _versions(facts), _drawing(facts), _ssh(facts), _numad(facts), _keeper(facts),
        _configuration(facts), _state(facts), _ledger(facts),
    ]  # fmt: skip


def _versions(facts: InstallationFacts) -> Finding:
    binding = "without libvirt's binding" if facts.binding is None else f"libvirt {facts.binding}"
    text = f"homenode {facts.version}, Python {facts.python}, {binding}"
    return Finding("versions", "fine", text)


def _drawing(facts: InstallationFacts) -> Finding:
    if facts.rich is not None:
        return Finding("drawing", "fine", f"hosts can be drawn (rich {facts.rich})")
    text = "rich is not installed: homenode top, and progress, are not drawn"
    return Finding("drawing", "know", text, "apt install python3-rich, or pip install rich")


def _ssh(facts: InstallationFacts) -> Finding:
    if facts.ssh is not None:
        return Finding("ssh", "fine", f"other hosts can be reached ({facts.ssh})")
    text = "there is no ssh: xen+ssh:// and qemu+ssh:// cannot be reached from here"
    return Finding("ssh", "know", text, "apt install openssh-client")


def _numad(facts: InstallationFacts) -> Finding:
    if facts.numad_program is not None:
        return Finding("numad-command", "fine", f"homenode-numad is {facts.numad_program}")
    text = "homenode-numad is not on the search path, and can answer nobody"
    return Finding("numad-command", "know", text, "pip install homenode puts it beside homenode")


def _keeper(facts: InstallationFacts) -> Finding:
    if facts.keeper is not None:
        return Finding("keeper", "fine", f"a keeper is at work (process {facts.keeper})")
    if facts.unit == "enabled":
        text = "the keeper's service is enabled, and no keeper is at work: guests drift from home"
        return Finding("keeper", "mend", text, "systemctl status homenode-keeper tells why")
    how = "is installed and not enabled" if facts.unit == "installed" else "is not installed"
    text = f"no keeper is at work (its service {how}): guests are left where they were placed"
    return Finding(
        "keeper", "know", text, "systemctl enable --now homenode-keeper; or homenode keep"
    )


def _configuration(facts: InstallationFacts) -> Finding:
    if facts.configuration_error is None:
        return Finding("configuration", "fine", "the configuration can be read")
    text = f"the configuration cannot be used: {facts.configuration_error}"
    return Finding("configuration", "mend", text, "homenode doctor --settings, when it is mended")


def _state(facts: InstallationFacts) -> Finding | None:
    if not facts.state_folder:
        return None
    if facts.state_error is None:
        return Finding("state-folder", "fine", f"{facts.state_folder} can be written")
    text = f"{facts.state_folder} cannot be written ({facts.state_error}): nothing can be promised"
    return Finding("state-folder", "mend", text, f"run it as root; df {facts.state_folder}")


def _ledger(facts: InstallationFacts) -> Finding | None:
    if not facts.state_folder:
        return None
    if facts.ledger_error is None:
        return Finding("ledger", "fine", "the ledger of claims can be read")
    text, _, remedy = facts.ledger_error.partition("; ")
    return Finding("ledger", "mend", f"the ledger of claims cannot be read: {text}", remedy)
