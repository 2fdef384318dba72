"""Keeping room for wide guests and memory for vcpus: against counting it all anew."""

from fractions import Fraction
from functools import cache
from itertools import combinations, permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_oracle import Books
from homenode.fleet import Fleet, FleetHost, Membership, fleet_policy
from homenode.fleet.choosing import Chooser
from homenode.formats import host_toml
from homenode.guest import GuestRequest

GIB = 1 << 20


def host(nodes, cores, memory):
    return host_toml.parse(
        f'nodes = {nodes}\ncores = {cores}\nmemory = "{memory}GiB"\n', source="test"
    )


KINDS = [host(2, 8, 16), host(2, 6, 24), host(4, 4, 8), host(1, 8, 16)]
SIZES = [(1, 2, 1), (2, 4, 1), (2, 8, 1), (4, 8, 2), (6, 12, 2), (4, 16, 2), (8, 16, 4)]
POLICIES = [
    "breaks_wide,empty", "empty,wastes,breaks_wide", "wastes,breaks_scarce,-vcpus",
    "vcpus~4,breaks_scarce,empty,wastes,memory", "preserve", "breaks_scarce",
    "breaks_scarce,empty,breaks_wide,memory", "breaks_wide,vcpus~4,breaks_scarce,empty",
    "-breaks_wide", "-breaks_scarce,breaks_wide", "-wastes,-empty,breaks_scarce",
]  # fmt: skip


def room(nodes, wanted):
    """Return how many such guests fit: for each, every choice of nodes is tried."""
    part, count = wanted.parts[0], len(wanted.parts)
    fits = [
        min(free // part.vcpus, kib // part.kib) if part.vcpus <= cpus else 0
        for _, cpus, free, kib, _ in nodes
    ]

    @cache
    def most(fits):
        best = 0
        for chosen in combinations(range(len(fits)), count):
            if all(fits[at] for at in chosen):
                best = max(
                    best,
                    1 + most(tuple(sorted(own - (at in chosen) for at, own in enumerate(fits)))),
                )
        return best

    return sum(fits) if count == 1 else most(tuple(sorted(fits)))


class Learned:
    """What came so far, as the outlook counts it, by sizes."""

    def __init__(self):
        self.came = {}
        self.mean = None
        self.look_at_mean = 1
        self.scarce = []

    def learn(self, books):
        """Take the mean memory of a vcpu anew once an eighth more came, if it changed as much."""
        vcpus = sum(wanted.vcpus * count for wanted, count in self.came.items())
        kib = sum(wanted.kib * count for wanted, count in self.came.items())
        came = sum(self.came.values())
        if came >= self.look_at_mean:
            self.look_at_mean = came * 9 // 8 + 1
            now = Fraction(kib, vcpus)
            if self.mean is None or abs(now / self.mean - 1) > Fraction(1, 8):
                self.mean = now
        self.scarce = [wanted for wanted in self.came if self.is_scarce(wanted, books)]

    def usable(self, vcpus, kib):
        return vcpus if self.mean is None else min(vcpus, int(kib / self.mean))

    def take(self, place):
        self.came[place.wanted] = self.came.get(place.wanted, 0) + 1

    def lost(self, books, place, wanted):
        before = books.nodes(place.host)
        after = [list(node) for node in before]
        for at, own in zip(place.ats, place.wanted.parts, strict=True):
            after[at][2] -= own.vcpus
            after[at][3] -= own.kib
        part, held = wanted.parts[0], 0
        if len(place.ats) == len(wanted.parts):
            held = min(
                min(own.vcpus // part.vcpus, own.kib // part.kib) for own in place.wanted.parts
            )
        return int(room(before, wanted) - room(after, wanted) > held)

    def wastes(self, books, place):
        """Return 0 if all parts fit on nodes of the host that are not wasted on."""

        def is_thrifty(node, part):
            _, cpus, free, kib, _ = node
            left = self.usable(free - part.vcpus, kib - part.kib)
            fits = part.vcpus <= min(cpus, free) and part.kib <= kib
            return fits and self.usable(free, kib) - left <= part.vcpus

        nodes, parts = books.nodes(place.host), place.wanted.parts
        return not any(
            all(is_thrifty(nodes[at], part) for at, part in zip(ats, parts, strict=True))
            for ats in permutations(range(len(nodes)), len(parts))
        )

    def is_scarce(self, wanted, books):
        hosts = range(len(books.hosts))
        rooms = sum(room(books.nodes(at), wanted) for at in hosts)
        usable = sum(
            self.usable(free, kib) for at in hosts for _, _, free, kib, _ in books.nodes(at)
        )
        part = wanted.parts[0]
        as_hard = sum(
            other.vcpus * count
            for other, count in self.came.items()
            if len(other.parts) >= len(wanted.parts)
            and other.parts[0].vcpus >= part.vcpus
            and other.parts[0].kib >= part.kib
        )
        came = sum(other.vcpus * count for other, count in self.came.items())
        # The room for it is less than half of its share.
        return Fraction(as_hard, came) * usable > 2 * rooms * wanted.vcpus

    def value(self, books, place, fact):
        if fact == "wastes":
            return self.wastes(books, place)
        if fact == "breaks_wide":
            wide = [wanted for wanted in self.came if len(wanted.parts) > 1]
            return max((self.lost(books, place, wanted) for wanted in wide), default=0)
        if fact == "breaks_scarce":
            return max((self.lost(books, place, wanted) for wanted in self.scarce), default=0)
        return books.host_value(place.host, fact)


NARROW = [(1, 2, 1), (2, 4, 1), (2, 8, 1), (8, 16, 1), (3, 12, 1), (4, 8, 1), (8, 16, 2)]


@settings(max_examples=250)
@given(
    st.lists(st.sampled_from(KINDS), min_size=2, max_size=5),
    st.sampled_from([SIZES, NARROW]).flatmap(
        lambda sizes: st.lists(
            st.tuples(st.sampled_from(sizes), st.integers(0, 9)), min_size=3, max_size=40
        )
    ),
    st.sampled_from(POLICIES),
)
def test_the_host_that_takes_least_from_those_to_come_is_found(kinds, asked, name):
    hosts = [FleetHost(f"h{at}", kind) for at, kind in enumerate(kinds)]
    fleet, books, policy = Fleet(hosts), Books(hosts), fleet_policy(f"{name}/best-fit")
    sizes = SIZES + NARROW
    requests = [GuestRequest("g", cpus, gib * GIB, node_count=nodes) for cpus, gib, nodes in sizes]
    demands = [fleet.demand(request) for request in requests]
    chooser, learned, there = Chooser(fleet, policy), Learned(), []
    for size, leaving in asked:
        if leaving < 5 and there:
            gone = there.pop(leaving % len(there))
            fleet.give(gone)
            books.on[gone.host].remove(_parts(gone))
        demand = demands[sizes.index(size)]
        learned.learn(books)
        found = chooser.choose(demand)
        wanted = demand.alternatives[0]
        able = [at for at in range(len(hosts)) if fleet.holders(wanted) >> at & 1]
        ranked = []
        for at in able:
            place = chooser.place_on(at, wanted)
            values = []
            for term in policy.host.terms:
                if term.fact == "together":
                    continue
                value = learned.value(books, place, term.fact)
                if term.step is not None:
                    value = value * term.step[1] // term.step[0]
                values.append(term.sign * value)
            ranked.append((*values, at))
        assert (found.host if found else None) == (min(ranked)[-1] if ranked else None)
        if found is not None:
            fleet.take(found)
            learned.take(found)
            books.on[found.host].append(_parts(found))
            there.append(found)


def _parts(place):
    return [
        (at, part.vcpus, part.kib) for at, part in zip(place.ats, place.wanted.parts, strict=True)
    ]


def test_the_first_of_those_who_want_to_be_together_goes_where_most_of_them_fit():
    kinds = [host(2, 4, 8), host(2, 8, 16), host(2, 6, 16)]
    fleet = Fleet([FleetHost(f"h{at}", kind) for at, kind in enumerate(kinds)])
    chooser = Chooser(fleet, fleet_policy("preserve"))
    demand = fleet.demand(GuestRequest("g", 2, 4 * GIB, node_count=1))
    alone = chooser.choose(demand)
    assert alone.host == 0
    member = Membership("db", "affinity")
    first = chooser.choose(demand, member)
    assert first.host == 1
    fleet.take(first)
    fleet.group(member).join(first.host, "")
    assert chooser.choose(demand, member).host == 1
    assert chooser.choose(demand, Membership("web", "anti-affinity")).host == 1


def test_a_host_that_has_come_to_lose_nothing_is_seen_again():
    kinds = [host(2, 8, 16), host(2, 8, 16), host(1, 8, 16)]
    fleet = Fleet([FleetHost(f"h{at}", kind) for at, kind in enumerate(kinds)])
    chooser = Chooser(fleet, fleet_policy("breaks_wide/first-fit"))
    wide = fleet.demand(GuestRequest("wide", 4, 8 * GIB, node_count=2))
    small = fleet.demand(GuestRequest("small", 1, 2 * GIB, node_count=1))
    fleet.take(chooser.choose(wide))
    # Three fit on h0 and four on h1, each with nothing left over on any node.
    assert chooser.choose(small).host == 2
    # Now half of one is left on the first node of h0, which no wide guest can use.
    fleet.take(chooser.nodes.place(0, small.alternatives[0]))
    assert chooser.choose(small).host == 0
