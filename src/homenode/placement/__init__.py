"""The decision: pure functions from a view, a request and a policy to a `Decision`.

    decision = place(View(host, guests), request, policy("balanced"))

`place` decides; `homenode.placement.explain` says why, and what would make a guest fit.
"""

from homenode.placement.deciding import place
from homenode.placement.decision import Decision
from homenode.placement.policies import Policy, policy
from homenode.placement.view import View

__all__ = ["Decision", "Policy", "View", "place", "policy"]
