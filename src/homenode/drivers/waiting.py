"""How long vcpus wait for a cpu, where the hypervisor tells only what each does at this moment.

A vcpu that did not run all the time either waited for a cpu or wanted none. Each look at a moment
in which it did not run tells which of the two; the share of the moments in which it waited, among
those, is what it waited of the time that it did not run. So the look itself, which takes a cpu from
somebody, makes nobody look starved who had nearly all of the time.

Who did not run at all did not wait either: schedulers are fair, so whoever waits gets a little in
some seconds. ``xl vcpu-list`` shows the vcpus of a guest that is paused as if they waited.
"""

_NEWEST = 0.4
"""The weight of the newest moment in the average."""


class Waiting:
    """The averages of many vcpus, by whatever names these."""

    __slots__ = ("_shares",)

    def __init__(self) -> None:
        self._shares: dict[object, float] = {}

    def waited(self, vcpu: object, *, ran: float, state: str) -> float:
        """Return the share of the time that `vcpu` waited.

        `ran` is the share that it ran, `state` what it does now: ``r`` runs, ``-`` waits, and
        anything else wants nothing.
        """
        if ran <= 0:
            return 0.0
        share = self._shares.get(vcpu, 0.0)
        if state != "r":
            waits = 1.0 if state == "-" else 0.0
            known = vcpu in self._shares
            share = share + _NEWEST * (waits - share) if known else waits
            self._shares[vcpu] = share
        return max(0.0, 1.0 - ran) * share

    def forget(self, kept: set[object]) -> None:
        """Forget all but those in `kept`."""
        for vcpu in self._shares.keys() - kept:
            del self._shares[vcpu]
