"""Kill the keeper at random points, on a real Xen and a real libvirt, and look at the masks.

    python -m proof.keeper_kills [--on kvm,xen] [--kills 100] [--seed 0]

Guests are kept; the keeper is killed (SIGKILL) at a time that the seed gives: a third while it
starts, the others from a little before its first round to some rounds after it. Then ``homenode
keep --release`` is run, and every mask, and every guest's process or domain and file, has to be
what it was before the first keeper. The guests are idle, so that an emulated host has time for
keepers.
"""

import argparse
import random
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

LABS = Path(__file__).resolve().parents[1] / "tests/labs"
sys.path += [str(LABS / "common"), str(LABS / "kvm"), str(LABS / "xen")]

import guests as kvm_guests  # noqa: E402 - found by the lines before
import keepers  # noqa: E402 - the same
from kvmlab import Lab as KvmLab  # noqa: E402 - the same
from lab import Lab as XenLab  # noqa: E402 - the same

if TYPE_CHECKING:
    from machine import Machine

HOMES = {"a": 0, "b": 0, "c": 3, "d": 1}
"""Guests by their home."""

LOOK = {
    "kvm": """cd /run/libvirt/qemu; for f in *.xml; do for t in $(sed -n \
"s/.*<vcpu id='[0-9]*' pid='\\([0-9]*\\)'.*/\\1/p" $f); do
echo $f $t $(grep Cpus_allowed_list /proc/$t/status); done; done; virsh -q list; \
for g in $(virsh -q list --name); do virsh dumpxml --migratable $g; done""",
    "xen": "xl vcpu-list | awk 'NR > 1 && $2 != 0 { print $1, $2, $3, $(NF-2), $NF }'",
}
"""Shell that prints every mask, and which run of each guest it is of; nothing else that changes."""

KILL = """
cd /root; rm -f keep.log
homenode keep --config /root/keeper.toml >keep.log 2>&1 </dev/null & keeper=$!
{until}
sleep {seconds}
kill -KILL $keeper
wait $keeper
"""
STARTED = "until grep -q ^start keep.log 2>/dev/null || ! kill -0 $keeper; do sleep 0.1; done"


class Killed(NamedTuple):
    """One kill: after how long, how many masks differed then, and whether all was as before."""

    seconds: float
    masks_set: int
    as_before: bool


def prepare(lab: "Machine", kind: str) -> None:
    """Create the guests, without any mask of their vcpus."""
    lab.put(keepers.SETTINGS, "/root/keeper.toml")
    for name, home in HOMES.items():
        if kind == "kvm":
            bound = f"<memory mode='strict' nodeset='{home}'/>"
            text = kvm_guests.xml(name, memory=32, numatune=bound)
            lab.put(text.encode(), f"/root/{name}.xml")
            lab.run(f"virsh -q create /root/{name}.xml", check=True)
        else:
            text = f'name="{name}"\ntype="pv"\nkernel="/guest/nano"\nmemory=16\nvcpus=1\n'
            lab.put(f'{text}cpus_soft="node:{home}"\n'.encode(), f"/root/{name}.cfg")
            lab.run(f"xl create -q /root/{name}.cfg", check=True, timeout_s=300)


def kill(lab: "Machine", kind: str, *, seconds: float, has_started: bool, before: str) -> Killed:
    """Let a keeper live for so long, after it has said that it starts or from the very beginning.

    Then kill it, and have its masks given back.
    """
    until = STARTED if has_started else ""
    lab.run(KILL.format(seconds=seconds, until=until), timeout_s=600)
    then = lab.run(LOOK[kind], check=True, timeout_s=300).stdout
    released = lab.run("homenode keep --release", timeout_s=300)
    after = lab.run(LOOK[kind], check=True, timeout_s=300).stdout
    differing = sum(
        one != other for one, other in zip(then.splitlines(), before.splitlines(), strict=False)
    )
    return Killed(seconds, differing, after == before and released.status == 0)


def killed(lab: "Machine", kind: str, *, kills: int, seed: int, longest_s: float) -> list[Killed]:
    """Kill so many keepers, one after the other."""
    chance = random.Random(seed)  # noqa: S311 - an order to be repeated, no secret
    prepare(lab, kind)
    before = lab.run(LOOK[kind], check=True).stdout
    found = []
    for number in range(kills):
        seconds = round(chance.uniform(0.1, longest_s), 2)
        has_started = number % 3 != 0
        found.append(kill(lab, kind, seconds=seconds, has_started=has_started, before=before))
        print(kind, number, found[-1], file=sys.stderr)
    return found


def main() -> int:
    """Be the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--on", default="kvm,xen")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--longest", type=float, default=8.0, help="seconds (default: 8)")
    chosen = parser.parse_args()
    print("| host | kills | with masks set | not as before |\n|---|---|---|---|")
    worst = 0
    for kind in chosen.on.split(","):
        lab = KvmLab("proof-kills") if kind == "kvm" else XenLab("proof-kills")
        try:
            lab.start("n4")
            lab.install_homenode()
            found = killed(
                lab, kind, kills=chosen.kills, seed=chosen.seed, longest_s=chosen.longest
            )
        finally:
            lab.stop()
        masked = sum(one.masks_set > 0 for one in found)
        wrong = sum(not one.as_before for one in found)
        worst = max(worst, wrong)
        print(f"| {kind} | {len(found)} | {masked} | {wrong} |", flush=True)
    return 1 if worst else 0


if __name__ == "__main__":
    sys.exit(main())
