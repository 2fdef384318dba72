"""Keeping room for wide guests and memory for vcpus: against counting it all anew."""

from fractions import Fraction
from itertools import combinations

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
    "wide_lost,empty", "empty,wasted,wide_lost", "wasted,wide_lost_all,-vcpus",
    "vcpus~4,wide_lost,empty,wasted,memory", "preserve", "wide_scarce,wasted,empty",
]  # fmt: skip


def wide_room(nodes, vcpus, kib, count):
    """Return how many guests with `count` such parts fit: each step tries every choice of nodes."""
    left = [
        (min(cpus, free) // vcpus if vcpus else 0, free, mem) for _, cpus, free, mem, _ in nodes
    ]
    fits = [min(free // vcpus, mem // kib) for _, free, mem in left]

    def most(fits):
        best = 0
        for chosen in combinations(range(len(fits)), count):
            if all(fits[at] for at in chosen):
                rest = tuple(own - (at in chosen) for at, own in enumerate(fits))
                best = max(best, 1 + most(rest))
        return best

    return most(tuple(min(own, 4) for own in fits)) if max(fits, default=0) <= 4 else None


class Learned:
    """What came so far, as the outlook counts it, by sizes."""

    def __init__(self):
        self.came = []
        self.wide = {}
        self.mean = None
        self.look_at_mean = 0

    def learn(self):
        """Take the mean memory of a vcpu anew once an eighth more came, if it changed as much."""
        vcpus, kib = (sum(one) for one in zip(*self.came, strict=True)) if self.came else (0, 0)
        if vcpus >= self.look_at_mean:
            self.look_at_mean = vcpus * 9 // 8 + 1
            now = Fraction(kib, vcpus) if vcpus else None
            if now is not None and (self.mean is None or abs(now / self.mean - 1) > Fraction(1, 8)):
                self.mean = now

    def usable(self, vcpus, kib):
        return vcpus if self.mean is None else min(vcpus, int(kib / self.mean))

    def take(self, place):
        size = (place.wanted.parts[0], len(place.wanted.parts))
        self.came.append((place.wanted.vcpus, place.wanted.kib))
        if size[1] > 1:
            self.wide[size] = self.wide.get(size, 0) + 1

    def commonest(self):
        return max(self.wide, key=self.wide.__getitem__) if self.wide else None

    def lost(self, books, place, size):
        part, count = size
        before = books.nodes(place.host)
        after = [list(node) for node in before]
        for at, own in zip(place.ats, place.wanted.parts, strict=True):
            after[at][2] -= own.vcpus
            after[at][3] -= own.kib
        held = 0
        if len(place.ats) == count:
            held = min(
                min(own.vcpus // part.vcpus, own.kib // part.kib) for own in place.wanted.parts
            )
        rooms = [wide_room(nodes, part.vcpus, part.kib, count) for nodes in (before, after)]
        return max(0, rooms[0] - rooms[1] - held)

    def wasted(self, books, place):
        lost = 0
        for at, own in zip(place.ats, place.wanted.parts, strict=True):
            _, _, free, kib, _ = books.nodes(place.host)[at]
            lost += self.usable(free, kib) - self.usable(free - own.vcpus, kib - own.kib)
        return max(0, lost - place.wanted.vcpus)

    def is_scarce(self, books):
        size = self.commonest()
        if size is None:
            return False
        part, count = size
        hosts = range(len(books.hosts))
        rooms = sum(wide_room(books.nodes(at), part.vcpus, part.kib, count) for at in hosts)
        usable = sum(
            self.usable(free, kib) for at in hosts for _, _, free, kib, _ in books.nodes(at)
        )
        wide = sum(size[0].vcpus * size[1] * times for size, times in self.wide_vcpus())
        return wide * usable > 2 * part.vcpus * count * rooms * sum(vcpus for vcpus, _ in self.came)

    def wide_vcpus(self):
        return self.wide.items()

    def value(self, books, place, fact):
        commonest = self.commonest()
        if fact == "wasted":
            return self.wasted(books, place)
        if fact == "wide_lost_all":
            return sum(self.lost(books, place, size) for size in self.wide)
        if fact == "wide_lost" or (fact == "wide_scarce" and self.is_scarce(books)):
            return 0 if commonest is None else self.lost(books, place, commonest)
        return 0 if fact == "wide_scarce" else books.host_value(place.host, fact)


@settings(max_examples=120)
@given(
    st.lists(st.sampled_from(KINDS), min_size=2, max_size=5),
    st.lists(st.tuples(st.sampled_from(SIZES), st.integers(0, 9)), min_size=3, max_size=40),
    st.sampled_from(POLICIES),
)
def test_the_host_that_takes_least_from_those_to_come_is_found(kinds, asked, name):
    hosts = [FleetHost(f"h{at}", kind) for at, kind in enumerate(kinds)]
    fleet, books, policy = Fleet(hosts), Books(hosts), fleet_policy(f"{name}/best-fit")
    requests = [GuestRequest("g", cpus, gib * GIB, node_count=nodes) for cpus, gib, nodes in SIZES]
    demands = [fleet.demand(request) for request in requests]
    chooser, learned, there = Chooser(fleet, policy), Learned(), []
    for size, leaving in asked:
        if leaving < 5 and there:
            gone = there.pop(leaving % len(there))
            fleet.give(gone)
            books.on[gone.host].remove(_parts(gone))
        demand = demands[SIZES.index(size)]
        learned.learn()
        found = chooser.choose(demand)
        wanted = demand.alternatives[0]
        able = [at for at in range(len(hosts)) if fleet.holders(wanted) >> at & 1]
        ranked = []
        for at in able:
            place = chooser.nodes.place(at, wanted)
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
    chooser = Chooser(fleet, fleet_policy("wide_lost/first-fit"))
    wide = fleet.demand(GuestRequest("wide", 4, 8 * GIB, node_count=2))
    small = fleet.demand(GuestRequest("small", 1, 2 * GIB, node_count=1))
    fleet.take(chooser.choose(wide))
    # Three fit on h0 and four on h1, each with nothing left over on any node.
    assert chooser.choose(small).host == 2
    # Now half of one is left on the first node of h0, which no wide guest can use.
    fleet.take(chooser.nodes.place(0, small.alternatives[0]))
    assert chooser.choose(small).host == 0
