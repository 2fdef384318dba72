"""``homenode policies``: list the policies and the facts they are made of."""

from homenode.cli.common import parser, print_json
from homenode.errors import ExitStatus
from homenode.placement.facts import FACTS
from homenode.placement.policies import DEFAULT, POLICIES, policy

_EXAMPLES = """\
  homenode policies
  homenode policies --check 'nodes,distance,-usable~4G'
  homenode place -c sim:try --policy 'nodes,distance,-usable~4G' guest.cfg

The document: {"version": 1, "default": name, "policies": [{"name", "aliases": [name], "order":
[fact], "admission": "usable"|"libxl", "purpose"}], "facts": [{"name", "unit", "meaning"}]}
"""

_GRAMMAR = """\
An order is FACT,FACT,...: compared from left to right, smaller is better, and of equal candidates
the one with the earlier nodes is taken. -FACT prefers more; FACT~STEP compares whole steps only
(usable~4G, vcpus_per_core~1/8). Before all that it says, a guest that may spill has the least
"spilled", and one that is to be given virtual nodes the fewest "nodes".
"""


def run(arguments: list[str]) -> int:
    """Run the verb."""
    made = parser("policies", "List the policies and the facts.", examples=_EXAMPLES)
    made.add_argument("--check", metavar="P", help="say what this policy or order means")
    chosen = made.parse_args(arguments)
    shown = [policy(chosen.check)] if chosen.check is not None else list(POLICIES.values())
    if chosen.json:
        print_json(
            {
                "version": 1,
                "default": DEFAULT,
                "policies": [
                    {
                        "name": known.name,
                        "aliases": list(known.aliases),
                        "order": [str(term) for term in known.terms],
                        "admission": known.admission,
                        "purpose": known.purpose,
                    }
                    for known in shown
                ],
                "facts": [
                    {"name": kind.name, "unit": kind.unit, "meaning": kind.meaning}
                    for kind in FACTS.values()
                ],
            }
        )
        return ExitStatus.DONE
    for known in shown:
        also = f" (also {', '.join(known.aliases)})" if known.aliases else ""
        default = " [default]" if known.name == DEFAULT else ""
        print(f"{known.name}{also}{default}\n    {known.purpose}\n    {known.order}")
    if chosen.check is None:
        print("\nfacts:")
        for kind in FACTS.values():
            print(f"  {kind.name:<16} {kind.meaning}{f' [{kind.unit}]' if kind.unit else ''}")
        print(f"\n{_GRAMMAR}", end="")
    return ExitStatus.DONE
