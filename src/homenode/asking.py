"""What is asked for: a guest's file, and what the command line says on top of it."""

from typing import NamedTuple

from homenode.bitmap import NodeMap
from homenode.errors import HomenodeError
from homenode.formats.xl_cfg import GuestConfig
from homenode.guest import ExplicitNodes, GuestRequest
from homenode.host import Host
from homenode.placement.decision import Warned
from homenode.placement.policies import DEFAULT, Policy, policy
from homenode.rules.xen_request import anywhere, onto, request, with_cpus


class Overrides(NamedTuple):
    """What is asked for beside the guest's file, and outranks it; None leaves the file's word.

    `nodes` is a list (``0-1,^3``), ``auto``, or ``N nodes`` for any N of them. `hold` is whether
    hard affinity keeps it there.
    """

    policy: str | None = None
    nodes: str | None = None
    whole_cores: bool = False
    exclusive: bool = False
    hold: bool | None = None


class Asked(NamedTuple):
    """A request with the policy that decides on it, and what is odd about it."""

    request: GuestRequest
    policy: Policy
    warnings: tuple[Warned, ...]


def ask(config: GuestConfig, host: Host, overrides: Overrides = Overrides()) -> Asked:  # noqa: B008 - immutable
    """Return what `config` and `overrides` ask for on `host`.

    The policy is that of the overrides, else the file's ``nodes_policy``, else the default.
    """
    made, oddities = request(config, host)
    warnings = list(oddities)
    made = made._replace(whole_cores=overrides.whole_cores, exclusive=overrides.exclusive)
    if overrides.nodes is not None:
        made = _with_nodes(made, overrides.nodes, host, warnings)
    from_file = overrides.policy is None and made.policy is not None
    name = made.policy if overrides.policy is None else overrides.policy
    try:
        chosen = policy(DEFAULT if name is None else name)
    except HomenodeError as error:
        if not from_file:
            raise
        raise config.error(error.message, at="nodes_policy", hint=error.hint) from None
    return Asked(made, chosen, tuple(Warned(*warning) for warning in warnings))


def _with_nodes(
    made: GuestRequest, text: str, host: Host, warnings: list[tuple[str, str]]
) -> GuestRequest:
    text = text.strip()
    if text == "auto":
        return anywhere(made)
    count, space, word = text.partition(" ")
    if space and word.strip() in ("node", "nodes") and count.isascii() and count.isdecimal():
        if len(count) > 5 or not 0 < int(count) <= len(host.nodes):
            raise HomenodeError(
                f"--nodes {text[:40]!r}: this host has {len(host.nodes)} nodes",
                hint=f"ask for 1 to {len(host.nodes)} of them",
            )
        return anywhere(made)._replace(node_count=int(count))
    if not text:
        raise HomenodeError("--nodes '' names no node", hint="--nodes auto lets them be chosen")
    everywhere = host.nodes_of(host.cpu_map)
    nodes = everywhere if text == "all" else NodeMap.parse_libvirt(text, within=host.node_map)
    if not nodes:
        raise HomenodeError(
            f"--nodes {text!r} names no node", hint="--nodes auto lets them be chosen"
        )
    nodes = with_cpus(nodes, made, host, warnings)
    return onto(made, nodes)._replace(explicit=ExplicitNodes(nodes, "--nodes"))
