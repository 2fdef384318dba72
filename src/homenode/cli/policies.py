"""``homenode policies``: list the policies and the facts they are made of."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence

from homenode.cli.common import parser, print_json
from homenode.errors import ExitStatus
from homenode.fleet.policies import DEFAULT as HOST_DEFAULT
from homenode.fleet.policies import HOST_FACTS, HOST_POLICIES, HostFact, fleet_policy
from homenode.placement.facts import FACTS, FactKind
from homenode.placement.policies import DEFAULT, POLICIES, Term, policy

_EXAMPLES = """\
  homenode policies
  homenode policies --check 'nodes,distance,-usable~4G'
  homenode policies --check pack/best-fit
  homenode place -c sim:try --policy 'nodes,distance,-usable~4G' guest.cfg

The document: {"version": 1, "default": name, "policies": [{"name", "aliases": [name], "order":
[fact], "admission": "usable"|"libxl", "purpose"}], "facts": [{"name", "unit", "meaning"}],
"host_default": name, "host_policies": [{"name", "order": [fact], "purpose"}], "host_facts":
[{"name", "unit", "meaning"}]}
"""

_GRAMMAR = """\
An order is FACT,FACT,...: compared from left to right, smaller is better, and of equal candidates
the one with the earlier nodes is taken. -FACT prefers more; FACT~STEP compares whole steps only
(usable~4G, vcpus_per_core~1/8). Before all that it says, a guest that may spill has the least
"spilled", and one that is to be given virtual nodes the fewest "nodes".
"""

_HOSTS = """
Over several hosts a policy is HOST/NODE: an order on the hosts that can hold the guest, of facts of
their own, and then one of those above on the nodes of that host. A guest is on as few nodes as can
be before either of them.
"""


def options() -> ArgumentParser:
    """Return the parser of the verb."""
    made = parser("policies", "List the policies and the facts.", examples=_EXAMPLES)
    made.add_argument("--check", metavar="P", help="say what this policy or order means")
    return made


def run(arguments: list[str]) -> int:
    """Run the verb."""
    chosen = options().parse_args(arguments)
    if chosen.check is not None and _is_of_hosts(chosen.check):
        return _check_pair(chosen.check, json=chosen.json)
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
                "facts": [_fact_document(kind) for kind in FACTS.values()],
                "host_default": HOST_DEFAULT,
                "host_policies": [
                    {
                        "name": known.name,
                        "order": [str(term) for term in known.terms],
                        "purpose": known.purpose,
                    }
                    for known in HOST_POLICIES.values()
                ],
                "host_facts": [_fact_document(kind) for kind in HOST_FACTS.values()],
            }
        )
        return ExitStatus.DONE
    for known in shown:
        also = f" (also {', '.join(known.aliases)})" if known.aliases else ""
        default = " [default]" if known.name == DEFAULT else ""
        print(f"{known.name}{also}{default}\n    {known.purpose}\n    {known.order}")
    if chosen.check is not None:
        _print_terms(shown[0].terms, FACTS)
    else:
        print("\nfacts:")
        for kind in FACTS.values():
            print(f"  {kind.name:<16} {kind.meaning}{f' [{kind.unit}]' if kind.unit else ''}")
        print(f"\n{_GRAMMAR}", end="")
        _print_host_policies()
    return ExitStatus.DONE


def _is_of_hosts(text: str) -> bool:
    first = text.removeprefix("-").partition(",")[0].partition("~")[0]
    return (
        "/" in text.partition("~")[0]
        or first in HOST_POLICIES
        or (first in HOST_FACTS and first not in FACTS)
    )


def _check_pair(text: str, *, json: bool) -> int:
    pair = fleet_policy(text)
    if json:
        orders = {
            "host_order": [str(term) for term in pair.host.terms],
            "node_order": [str(term) for term in pair.node.terms],
        }
        print_json({"version": 1, "name": pair.name, **orders})
        return ExitStatus.DONE
    print(f"{pair.name}\n    hosts: {pair.host.order or '(the first one)'}")
    _print_terms(pair.host.terms, HOST_FACTS)
    print(f"    nodes: {pair.node.order}")
    _print_terms(pair.node.terms, FACTS)
    return ExitStatus.DONE


def _print_terms(
    terms: Sequence[Term], facts: Mapping[str, FactKind] | Mapping[str, HostFact]
) -> None:
    """Print what is compared, and which value of it is preferred."""
    width = max((len(str(term)) for term in terms), default=0)
    for term in terms:
        preferred = "larger" if term.sign < 0 else "smaller"
        step = f", in steps of {term.step_text}" if term.step_text else ""
        print(f"      {term!s:<{width}}  {preferred}{step}: {facts[term.fact].meaning}")


def _fact_document(kind: FactKind | HostFact) -> dict[str, str]:
    return {"name": kind.name, "unit": kind.unit, "meaning": kind.meaning}


def _print_host_policies() -> None:
    print(_HOSTS)
    for known in HOST_POLICIES.values():
        default = " [default]" if known.name == HOST_DEFAULT else ""
        print(f"{known.name}{default}\n    {known.purpose}\n    {known.order or '(the first one)'}")
    print("\nfacts of hosts:")
    for kind in HOST_FACTS.values():
        print(f"  {kind.name:<16} {kind.meaning}{f' [{kind.unit}]' if kind.unit else ''}")
