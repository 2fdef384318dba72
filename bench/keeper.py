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
from pathlib import Path
from statistics import median
from time import process_time

from homenode.bitmap import CpuMap, NodeMap
from homenode.drivers.base import Snapshot
from homenode.drivers.simulated import SimulatedDriver
from homenode.drivers.simulated_load import parse_load
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


class Uncounted:
    """A watcher whose own cpu time is not the keeper's: it simulates a host."""

    def __init__(self, watcher: object) -> None:
        self._watcher = watcher
        self.spent_s = 0.0

    def __getattr__(self, name: str) -> object:
        call = getattr(self._watcher, name)

        def timed(*arguments: object, **options: object) -> object:
            began = process_time()
            try:
                return call(*arguments, **options)
            finally:
                self.spent_s += process_time() - began

        return timed


def rounds(count: int, vcpus: int, number: int, folder: Path) -> list[float]:
    """Return the cpu seconds that each round took, without those of simulating."""
    description = host_toml.parse(HOST.read_text(), source=str(HOST))
    now = [1000.0]
    load = ",".join(f"guest{one:03}:square/120" for one in range(1, count + 1, 4))
    driver = SimulatedDriver(
        str(folder / "host.json"), clock=lambda: now[0], load=parse_load(f"{load},0.02")
    )
    made = guests(count, vcpus, description.cpu_map)
    driver.make(Snapshot(description, made), made_from="bench")
    watcher = Uncounted(driver.watcher())
    record = Record(record_file(driver.ledger.path), boot_id="bench")
    keeper = Keeper(
        watcher,  # type: ignore[arg-type]
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
