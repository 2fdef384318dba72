"""A host that was read, saved and read again."""

from fuzz.oracle import expect
from homenode.formats import snapshot
from homenode.guest import Guest
from homenode.host import Host

_MOST_CPUS = 64


def expect_saved(host: Host, guests: tuple[Guest, ...] = (), *, data: bytes) -> None:
    """Save the host as a snapshot and read it again, for one in four inputs: it takes a while."""
    if len(data) % 4 or len(host.cpus) > _MOST_CPUS:
        return
    again = snapshot.parse(snapshot.dump(host, guests), source="saved")
    expect(again, (host, guests), "a host that was saved and read again")
