"""Every policy with the same guests on the same host; and every policy for hosts on the same hosts.

The guests are created by ``homenode create`` on a simulated Xen, by the files in
``examples/policies``: what is drawn is what came true there.
"""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from homenode.bitmap import NodeMap
from homenode.cli.common import connect
from homenode.cli.main import main
from homenode.drawing.svg.multiples import Panel, multiples, sockets
from homenode.drivers.base import Snapshot
from homenode.guest import Guest, MemoryByNode
from homenode.placement.policies import POLICIES
from homenode.units import format_memory
from proof.pictures import EXAMPLES

POLICY_FILES = EXAMPLES / "policies"
NOBODY = MemoryByNode({}, "not there")


NAMES = ("policies.svg", *(f"policy-{name}.svg" for name in POLICIES))


def pictures() -> Iterator[tuple[str, str]]:
    """Yield the names and texts of the pictures of policies for nodes."""
    with tempfile.TemporaryDirectory() as state, state_in(state):
        before = created("before", sorted(POLICY_FILES.glob("there/*.cfg")))
        after = {name: created_by(name, state) for name in POLICIES}
    guests = guests_of(after["balanced"])
    empty = panel("before", before, guests)
    panels = {
        name: panel(f"after, by {name}", seen, guests_of(seen)) for name, seen in after.items()
    }
    key = key_of(guests)
    yield (
        "policies.svg",
        multiples("The same four guests by each policy", [empty, *panels.values()], key),
    )
    for name, own in panels.items():
        yield f"policy-{name}.svg", multiples(f"Policy {name}", [empty, own], key)


@contextlib.contextmanager
def state_in(folder: str) -> Iterator[None]:
    """Keep simulated hosts below a folder."""
    before = os.environ.get("XDG_STATE_HOME")
    os.environ["XDG_STATE_HOME"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_STATE_HOME"]
        else:
            os.environ["XDG_STATE_HOME"] = before


def created_by(policy: str, folder: str) -> Snapshot:
    """Return the host of `folder` after the stream of guests, by that policy."""
    with tempfile.TemporaryDirectory() as state, state_in(state):
        shutil.copytree(folder, state, dirs_exist_ok=True)
        return created("before", sorted(POLICY_FILES.glob("stream/*.cfg")), policy)


def created(name: str, files: Sequence[Path], policy: str = "balanced") -> Snapshot:
    """Return a simulated host on which these guests were created, one after the other."""
    uri = f"sim:{name}?host={POLICY_FILES / 'eight.toml'}"
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        status = main(["create", "-c", uri, "-j", "1", "-p", policy, *map(str, files)])
    if status:
        raise RuntimeError(said.getvalue())
    return connect(f"sim:{name}").snapshot()


def guests_of(seen: Snapshot) -> list[Guest]:
    """Return the guests of the stream, in its order."""
    names = [file.stem for file in sorted(POLICY_FILES.glob("stream/*.cfg"))]
    by_name = {guest.name: guest for guest in seen.guests}
    return [by_name[name] for name in names]


def panel(title: str, seen: Snapshot, guests: Sequence[Guest]) -> Panel:
    """Return a picture of the host; `guests` are drawn as far as they are there."""
    present = {guest.name for guest in seen.guests}
    taken: dict[int, str] = {}
    for guest in seen.guests:
        if guest.name not in {one.name for one in guests} and not guest.is_control:
            taken |= dict.fromkeys(_cpus(seen, guest, taken), guest.name)
    drawn, used = [], set(taken)
    for guest in guests:
        if guest.name not in present:
            drawn.append(guest._replace(memory_by_node=NOBODY, vcpus=()))
            continue
        cpus = _cpus(seen, guest, used)
        used |= set(cpus)
        vcpus = [vcpu._replace(cpu=cpu) for vcpu, cpu in zip(guest.vcpus, cpus, strict=False)]
        drawn.append(guest._replace(vcpus=tuple(vcpus)))
    words = ", ".join(_where(guest) for guest in guests if guest.name in present)
    return Panel(title, words, sockets(seen.host, drawn, taken))


def _cpus(seen: Snapshot, guest: Guest, used: dict[int, str] | set[int]) -> list[int]:
    # A cpu for each vcpu, of its nodes in turn, those first that nobody has.
    nodes = [list(seen.host.cpus_by_node[node]) for node in guest.node_affinity or ()]
    free = [[cpu for cpu in cpus if cpu not in used] for cpus in nodes]
    found: list[int] = []
    for number in range(len(guest.vcpus)):
        own = free[number % len(free)] or max(free, key=len)
        if own:
            found.append(own.pop(0))
    return found


def _where(guest: Guest) -> str:
    nodes = guest.node_affinity or NodeMap()
    told = f"{guest.name} on {'node' if len(nodes) == 1 else 'nodes'} {nodes}"
    memory = guest.memory_by_node.kib if guest.memory_by_node else {}
    away = sum(kib for node, kib in memory.items() if node not in nodes)
    return f"{told} ({format_memory(away)} elsewhere)" if away else told


def key_of(guests: Sequence[Guest]) -> list[tuple[str, int]]:
    """Return the words of the key."""
    return [
        (f"{guest.name}: {len(guest.vcpus)} vcpus, {format_memory(guest.memory_kib)}", at)
        for at, guest in enumerate(guests)
    ]
