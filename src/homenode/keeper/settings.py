"""The numbers of the keeper, each with its unit and the reason for it.

``docs/keeper.md`` has what simulations say about them; ``python -m proof.keeper_numbers`` repeats
these. ``[keeper]`` in ``/etc/homenode/homenode.toml`` changes them by these names.
"""

from typing import NamedTuple


class Settings(NamedTuple):
    """What the keeper goes by; `NUMBERS` has the range and the meaning of each."""

    round_s: float = 5.0
    own_cpu_share: float = 0.005
    damping_s: float = 8.0
    busy_cpus: float = 0.10
    starved_share: float = 0.15
    overdrawn_share: float = 0.5
    saturated_share: float = 0.90
    room_share: float = 0.75
    tolerance_cpus: float = 0.10
    whole_cpus: float = 0.90
    spread_after_s: float = 10.0
    return_after_s: float = 30.0
    longest_stay_s: float = 960.0
    soon_stays: float = 4.0
    changes_per_minute: float = 30.0
    home_share: float = 0.5
    look_again_s: float = 60.0
    blind_s: float = 30.0
    metrics_s: float = 15.0


class Number(NamedTuple):
    """The smallest and largest that a setting may be, and what it means."""

    least: float
    most: float
    meaning: str


NUMBERS: dict[str, Number] = {
    "round_s": Number(
        0.2, 60, "seconds from one look to the next; xl tells times in tenths of a second"
    ),
    "own_cpu_share": Number(
        0.0005, 1, "of one cpu that the keeper may take; if a round takes more, the next is later"
    ),
    "damping_s": Number(
        0, 600, "seconds over which run and wait times are averaged (exponentially)"
    ),
    "busy_cpus": Number(
        0.01, 1, "cpus that a vcpu must want before it is spread: for less, being away costs more"
    ),
    "starved_share": Number(
        0.01, 1, "of the time that a vcpu wants, waited in vain; waiting less costs less than"
        " remote memory, for which 5 to 40 % are published"
    ),
    "overdrawn_share": Number(
        0.05, 10, "of what a vcpu wants: if so much more is wanted at home than it has cpus, it may"
        " leave without starving; of many that share many cpus none starves"
    ),
    "saturated_share": Number(
        0.1, 1, "of the cpus that spinning vcpus leave at home; above it, home is saturated"
    ),
    "room_share": Number(
        0.1, 1, "the same, for having room: what comes back or comes as a stranger must fit below;"
        " lower than saturated_share, or vcpus would go to and fro"
    ),
    "tolerance_cpus": Number(
        0, 1, "cpus by which a node may be overdrawn: what the host itself does now and then"
    ),
    "whole_cpus": Number(
        0.5, 1, "cpus above which a vcpu counts as spinning: it fills a cpu, and needs no slack"
    ),
    "spread_after_s": Number(
        0, 600, "seconds for which a vcpu's mask stays before it may spread (again)"
    ),
    "return_after_s": Number(
        0, 3600, "seconds for which a vcpu stays away before it may come back, at first; doubled"
        " each time that one of its home has to leave again soon"
    ),
    "longest_stay_s": Number(
        0, 86_400, "seconds to which that is doubled at most, and after which it is as at first"
    ),
    "soon_stays": Number(
        0, 100, "times that it stayed away: leaving again within that time of a return is soon"
    ),
    "changes_per_minute": Number(
        1, 6000, "guests whose masks are set in any minute, at most; one costs xl some 5 ms"
    ),
    "home_share": Number(
        0.01, 1, "a node is home if it holds that share of what the node with most of the guest's"
        " memory holds"
    ),
    "look_again_s": Number(
        1, 3600, "seconds after which guests are looked at wholly again: memory, masks, pools"
    ),
    "blind_s": Number(
        5, 3600, "seconds without a look that succeeded, after which all masks are given back"
    ),
    "metrics_s": Number(1, 3600, "seconds between two writings of the metrics"),
}  # fmt: skip
