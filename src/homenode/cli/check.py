"""``homenode check``: is every guest as it should be? Changes nothing, and suits cron."""

from argparse import ArgumentParser

from homenode.checking import Finding, check
from homenode.cli.common import add_connection, parser, print_json
from homenode.cli.looking import add_looking, look
from homenode.drawing import name_text
from homenode.errors import ExitStatus

_EXAMPLES = """\
  homenode check
  homenode check -c xen+ssh://root@xen1/ --pages
  homenode check --sample 2 --json
  0 6 * * *  root  homenode check >/dev/null || homenode check | mail -s numa root

The exit status is 4 if there is anything to mend, 0 if not; what is only not known (?) is nothing
to mend. Found are: vcpus held away from their memory (cpus = "node:1" with libxl placing the memory
elsewhere), memory that is not on the guest's nodes, soft affinity under a scheduler that does not
heed it, a node affinity that libxl fixed and vcpu-pin no longer moves, several nodes where one
could hold the guest, and with --sample busy guests that run elsewhere. The document: {"version": 1,
"findings": [{"code", "guest", "text", "remedy": command, "is_question": bool}]}
"""


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser(
        "check", "Tell which guests are not as they should be, and why.", examples=_EXAMPLES
    )
    add_connection(made)
    add_looking(made, sample_s=0.0)
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    driver, seen, ran = look(chosen)
    found = check(
        seen, residency=ran or None, share_rule=driver.share_rule, abilities=driver.abilities
    )
    if chosen.json:
        print_json({"version": 1, "findings": [finding._asdict() for finding in found]})
    elif found:
        print("\n".join(line for finding in found for line in finding_lines(finding)))
    else:
        print("every guest is as it should be")
    to_mend = any(not finding.is_question for finding in found)
    return ExitStatus.MENDING_NEEDED if to_mend else ExitStatus.DONE


def finding_lines(finding: Finding) -> list[str]:
    """Return a finding as people read it."""
    mark = "?" if finding.is_question else "!"
    return [
        f"{mark} {name_text(finding.guest)}: {finding.text} [{finding.code}]",
        f"    {finding.remedy}",
    ]
