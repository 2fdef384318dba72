"""What a round of the keeper costs on a host of 500 guests, as a share of one cpu.

    python bench/keeper.py [--guests 500] [--vcpus 2] [--rounds 40]

The host is simulated (eight nodes, 128 cores), a quarter of the guests is busy by turns, and time
passes five seconds a round. Printed are the medians and the largest of the cpu time of rounds, and
their share of five seconds (to be below 0.5 %). Reading Linux's files (``schedstat``) and xl's list
is measured by itself: as many threads of this machine, and a list of as many vcpus.
"""

import argparse
import os
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import process_time

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.base import Snapshot
from homenode.drivers.simulated import SimulatedDriver
from homenode.drivers.simulated_load import parse_load
from homenode.drivers.simulated_watch import SimulatedWatcher
from homenode.drivers.watching import Lodger, Sight
from homenode.formats import host_toml
from homenode.formats.xl_list import parse_running
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.keeper.loop import Clocks, Keeper
from homenode.keeper.settings import Settings
from homenode.keeper_record import Record, record_file

HOST = Path(__file__).parents[1] / "src/homenode/drivers/default_host.toml"
MIB = 1024


def guests(count: int, vcpus: int, every: CpuMap) -> tuple[Guest, ...]:
    """Return guests whose memory is on the nodes by turns."""
    return tuple(
        Guest(
            f"guest{number:03}",
            vcpus=tuple(Vcpu(vcpu, every, every) for vcpu in range(vcpus)),
            id=number,
            uuid=f"{number:08x}-0000-4000-8000-000000000000",
            memory_kib=512 * MIB,
            memory_by_node=MemoryByNode({number % 8: 512 * MIB}, "bench"),
            node_affinity=NodeMap([number % 8]),
        )
        for number in range(1, count + 1)
    )


class InMemory(SimulatedWatcher):
    """A simulated host that is not written down; what simulating costs is not the keeper's."""

    spent_s = 0.0

    def look(self, *, wholly: bool) -> Sight:
        """Look, and count what that took."""
        began = process_time()
        try:
            return super().look(wholly=wholly)
        finally:
            self.spent_s += process_time() - began

    def _looked(self) -> tuple[Snapshot, bool]:
        if self._seen is None:
            self._seen = self._driver.snapshot()
        return self._seen, False

    def set(self, lodger: Lodger, masks: Mapping[int, CpuMap]) -> None:
        """Set masks, as above."""
        began = process_time()
        seen, _ = self._looked()
        changed = tuple(
            guest._replace(
                vcpus=tuple(
                    vcpu._replace(hard=masks.get(vcpu.id, vcpu.hard)) for vcpu in guest.vcpus
                )
            )
            if guest.uuid == lodger.guest.uuid
            else guest
            for guest in seen.guests
        )
        self._seen = Snapshot(seen.host, changed)
        self.spent_s += process_time() - began


def rounds(count: int, vcpus: int, number: int, folder: Path) -> list[float]:
    """Return the cpu seconds that each round took, without those of simulating."""
    description = host_toml.parse(HOST.read_text(), source=str(HOST))
    now = [1000.0]
    load = ",".join(f"guest{one:03}:square/120" for one in range(1, count + 1, 4))
    driver = SimulatedDriver(str(folder / "host.json"), clock=lambda: now[0])
    made = guests(count, vcpus, description.cpu_map)
    driver.make(Snapshot(description, made), made_from="bench")
    watcher = InMemory(driver, parse_load(f"{load},0.02"), clock=lambda: now[0])
    record = Record(record_file(driver.ledger.path), boot_id="bench")
    keeper = Keeper(
        watcher,
        record,
        Settings(changes_per_minute=6000),
        report=lambda _event: None,
        clocks=Clocks(lambda: now[0], lambda: now[0]),
    )
    for _ in range(3):
        keeper.round()
        now[0] += 5.0
    keeper.settings = Settings()
    took = []
    for _ in range(number):
        began, simulated = process_time(), watcher.spent_s
        keeper.round()
        took.append(process_time() - began - (watcher.spent_s - simulated))
        now[0] += 5.0
    return took


def reading_schedstat(count: int) -> float:
    """Return the cpu seconds of reading the times of so many threads of this process."""
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(min(count, 1000))]
    for thread in threads:
        thread.start()
    files = [
        os.open(f"/proc/self/task/{thread.native_id}/schedstat", os.O_RDONLY) for thread in threads
    ]
    times = []
    for _ in range(9):
        began = process_time()
        for file in files:
            ran, waited = os.pread(file, 64, 0).split()[:2]
            int(ran), int(waited)
        times.append(process_time() - began)
    done.set()
    return median(times) * count / len(threads)


def reading_xl(count: int) -> float:
    """Return the cpu seconds of reading a list of so many vcpus."""
    line = "guest{0:03}                             {0}     0   17   -b-    1234.5  0-31 / 0-31"
    heading = "Name                 ID  VCPU   CPU State   Time(s) Affinity (Hard / Soft)"
    text = "\n".join([heading, *(line.format(number) for number in range(count))])
    times = []
    for _ in range(9):
        began = process_time()
        parse_running(text)
        times.append(process_time() - began)
    return median(times)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guests", type=int, default=500)
    parser.add_argument("--vcpus", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        took = rounds(chosen.guests, chosen.vcpus, chosen.rounds, Path(folder))
    threads = chosen.guests * chosen.vcpus
    print(f"{chosen.guests} guests of {chosen.vcpus} vcpus; cpu time a round, share of 5 s")
    for name, seconds in (
        ("deciding, noting, counting: median", median(took)),
        ("the same: most of any round", max(took)),
        ("reading schedstat of the threads", reading_schedstat(threads)),
        ("reading xl vcpu-list (not xl itself)", reading_xl(threads)),
    ):
        print(f"{name:40} {seconds * 1000:7.2f} ms {seconds / 5:8.3%}")


if __name__ == "__main__":
    main()
