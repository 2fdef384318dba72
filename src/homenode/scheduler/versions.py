"""How Xen's credit scheduler differs from version to version, as switches.

Each switch is a change of xen/common/sched_credit.c, later xen/common/sched/credit.c, by its
commit. A version has all changes up to its release; whoever wants one more, or less, takes
``version._replace``.
"""

from typing import NamedTuple

from homenode.errors import HomenodeError


class CreditVersion(NamedTuple):
    """What a version of credit does; see the fields' comments for where each comes from."""

    name: str
    affinity_steps: str = "soft"
    """``none``: hard affinity alone. ``node``: the node affinity of the guest first (cfcc144ff1).
    ``soft``: each vcpu's soft affinity first (db6b221591)."""
    tickles_idle_first: bool = True
    """A vcpu that wakes is given an idle cpu before it preempts (ebce2d836c)."""
    picks_true_idle: bool = True
    """A busy cpu does not pass for idle when a cpu is picked (750ec2271d), nor keeps the pick on
    its thread (ebb064aa22)."""
    kicks_current: bool = False
    """Who is preempted is sent to an idle cpu that it may use; since 4.13 the test looks at the
    wrong vcpu's mask and does nothing (8a04eaa8ea)."""
    kicks_without_idlers: bool = False
    """The same, even where no idle cpu is for it: it is woken in the same place, boosted, and the
    rate limit does not hold (until f02a5760c7)."""
    biased_balance: bool = True
    """The search for work begins after the cpu where it was last found."""
    nodewise_balance: bool = True
    """The search for work goes node by node, the own one first (cfcc144ff1)."""
    balance_ratelimit_us: int = 1000
    """So long a cpu does not look for work again (58feb9e0ac); 0: it always does."""
    spares_yielded: bool = True
    """A vcpu that has yielded is not stolen, and goes one place further back (e282067cf2)."""


_NEWEST = CreditVersion("4.18")
_OLDER = _NEWEST._replace(name="4.13", balance_ratelimit_us=0, spares_yielded=False)
_SOFT = _OLDER._replace(
    name="4.5", kicks_current=True, kicks_without_idlers=True, biased_balance=False
)
_NODE = _SOFT._replace(name="4.3", affinity_steps="node")
_BEFORE = _NODE._replace(
    name="4.2",
    affinity_steps="none",
    tickles_idle_first=False,
    picks_true_idle=False,
    kicks_current=False,
    kicks_without_idlers=False,
    nodewise_balance=False,
)

CREDIT_VERSIONS = {version.name: version for version in (_BEFORE, _NODE, _SOFT, _OLDER, _NEWEST)}
"""The versions of credit whose behaviour differs, by the release that brought it."""


def credit_version(name: str) -> CreditVersion:
    """Return a version by its name."""
    version = CREDIT_VERSIONS.get(name)
    if version is None:
        raise HomenodeError(
            f"credit: there is no version {name!r}", hint="known: " + ", ".join(CREDIT_VERSIONS)
        )
    return version
