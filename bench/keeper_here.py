"""What a round of the keeper costs with real guests of QEMU, in a private libvirtd of this machine.

    python bench/keeper_here.py [--guests 40] [--vcpus 2] [--rounds 12]

Wants root, libvirtd and QEMU (``tests/labs/kvm/here.sh``). The guests are idle; the machine is
shown with its cpus on two made-up nodes, so that there is something to keep. Printed are the cpu
times of the rounds, the median, and what it would be for 500 guests.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

KVM = Path(__file__).resolve().parents[1] / "tests/labs/kvm"
SYSTEM = Path("/sys/devices/system")


def two_nodes(folder: Path) -> None:
    """Write what the kernel would say of this machine's cpus if they were on two nodes."""
    ours = shutil.ignore_patterns("power", "cpu*idle", "cpufreq", "microcode", "node*", "*_node",
                                  "driver", "subsystem", "uevent", "hotplug")  # fmt: skip
    shutil.copytree(SYSTEM / "cpu", folder / "cpu", ignore=ours, ignore_dangling_symlinks=True)
    nodes = folder / "node"
    cpus = sorted(os.sched_getaffinity(0))
    text = (SYSTEM / "node/node0/meminfo").read_text()
    for number, own in enumerate((cpus[::2], cpus[1::2])):
        node = nodes / f"node{number}"
        node.mkdir(parents=True)
        (node / "cpulist").write_text(",".join(map(str, own)) + "\n")
        (node / "distance").write_text("10 20\n" if number == 0 else "20 10\n")
        (node / "meminfo").write_text(text.replace("Node 0", f"Node {number}"))
    for name in ("online", "possible", "has_memory", "has_cpu"):
        (nodes / name).write_text("0-1\n")


def create(count: int, vcpus: int) -> None:
    """Start so many guests."""
    sys.path.append(str(KVM))
    import guests  # noqa: PLC0415 - the lab's

    folder = Path(os.environ["GUESTS"])
    for number in range(count):
        text = guests.xml(f"g{number}", memory=16, vcpus=vcpus, filled=False)
        file = folder / f"g{number}.xml"
        file.write_text(text.replace(guests.FOLDER, str(folder)))
        subprocess.run(["virsh", "-q", "create", file], check=True)  # noqa: S607 - a bench


def measure(chosen: argparse.Namespace) -> None:
    """Keep the guests for some rounds, and print what that took."""
    from homenode.drivers.connect import driver_for  # noqa: PLC0415 - inside only
    from homenode.keeper.loop import Clocks, Keeper  # noqa: PLC0415 - the same
    from homenode.keeper.settings import Settings  # noqa: PLC0415 - the same
    from homenode.keeper_record import Record, record_file  # noqa: PLC0415 - the same

    create(chosen.guests, chosen.vcpus)
    time.sleep(10)  # until their firmware has come to rest
    driver = driver_for("qemu:///system")
    keeper = Keeper(
        driver.watcher(),
        Record(record_file(driver.ledger.path), boot_id="bench"),
        Settings(),
        report=lambda _event: None,
        clocks=Clocks(time.monotonic, time.time),
    )
    took = []
    for _ in range(chosen.rounds):
        took.append(keeper.round().own_cpu_s)
        time.sleep(1)
    shown = ", ".join(f"{seconds * 1000:.1f}" for seconds in took)
    usual = median(took[2:])
    print(f"{len(keeper.kept)} guests of {chosen.vcpus} vcpus kept; ms of cpu time: {shown}")
    print(f"median without the first two: {usual * 1000:.2f} ms, of 5 s {usual / 5:.3%};")
    print(f"for 500 guests {usual * 500 / chosen.guests / 5:.2%}")
    keeper.release(why="the bench ends")
    for number in range(chosen.guests):
        subprocess.run(["virsh", "-q", "destroy", f"g{number}"], check=False)  # noqa: S607 - as above


def main() -> None:
    """Be the command: outside, and inside of the private libvirtd."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guests", type=int, default=40)
    parser.add_argument("--vcpus", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=12)
    chosen = parser.parse_args()
    if "GUESTS" in os.environ:
        measure(chosen)
        return
    with tempfile.TemporaryDirectory() as folder:
        two_nodes(Path(folder))
        command = [KVM / "here.sh", sys.executable, __file__, *sys.argv[1:]]
        subprocess.run(command, check=True, env={**os.environ, "SYSFS": folder})


if __name__ == "__main__":
    main()
