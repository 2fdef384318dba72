"""What else on a host moves vcpus, interrupts or memory: named by the keeper, and not fought."""

from homenode.doctor import LinuxFacts
from homenode.drivers.linux_facts import linux_facts


def others_at_work(uri: str) -> list[str]:
    """Return a phrase for each of them on this machine; one that says so if there is none.

    Nothing but the kernel moves what a simulated host runs, so nothing is said of that.
    """
    if uri.startswith("sim:"):
        return ["nothing else moves guests there"]
    return phrases(linux_facts(), is_xen=uri.startswith("xen:"))


def phrases(facts: LinuxFacts, *, is_xen: bool) -> list[str]:
    """Return a phrase for each that is at work, by what Linux tells."""
    found = []
    if "numad" in facts.processes:
        found.append(
            "numad runs and moves whole guests: what it pins is let go of"
            " (systemctl disable --now numad)"
        )
    if "irqbalance" in facts.processes:
        found.append("irqbalance moves interrupts, not vcpus")
    if "tuned" in facts.processes:
        found.append("tuned may pin threads, which are let go of then")
    if facts.numa_balancing and not is_xen:
        found.append(
            "the kernel's NUMA balancing moves memory towards vcpus, so a home may move"
            " (sysctl kernel.numa_balancing=0)"
        )
    return found or ["no other balancer is at work"]
