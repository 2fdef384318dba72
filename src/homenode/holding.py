"""Holding a guest at home by hard affinity, where preferring is not running.

Xen's credit scheduler heeds soft affinity when it balances; credit2, the default since Xen 4.12,
does not, and vcpus drift away while their home is idle (``docs/residency.md``). So there a guest
that fits one node, and whose config holds it nowhere itself, is held to the cpus of that node, and
so are the vcpus of each virtual node, whose kernel counts on that.
"""

from homenode.guest import GuestRequest
from homenode.placement import Decision, View
from homenode.placement.decision import VcpuAffinity
from homenode.placement.problem import suitable_cpus

DRIFTING = ("credit2",)
"""Schedulers that do not heed soft affinity when they balance."""


def held(decision: Decision, request: GuestRequest, view: View, *, hold: bool | None) -> Decision:
    """Return the decision with hard masks of the nodes that it prefers, where that is due.

    `hold` is the user's word; None holds where the scheduler of the cpupool drifts and the guest
    or each of its virtual nodes is on one node. A guest with hard masks of its own keeps those.
    """
    host = view.host
    if hold is None:
        drifts = host.pool(request.pool).scheduler in DRIFTING
        hold = drifts and (len(decision.nodes) == 1 or bool(decision.virtual_nodes))
    if not (hold and decision.fits) or request.hard or request.exclusive:
        return decision
    suitable = suitable_cpus(view, request)
    runs = []
    for run in decision.vcpus:
        nodes = decision.nodes if run.soft is None else host.nodes_of(run.soft)
        hard = host.cpus_of(nodes) & suitable
        runs.append(VcpuAffinity(run.vcpus, hard or None, run.soft))
    return decision._replace(vcpus=tuple(runs))
