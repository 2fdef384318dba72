"""What Linux tells of cpus and processes; whatever else is in such a file, nothing is made up."""

import pytest

from homenode.formats import numa_maps
from homenode.formats.process_stat import busy_ticks, last_cpu, started_at

FIELDS = ["S", *["0"] * 18, "5521", *["7"] * 16, "6", "0"]
STAT = f"273 (qemu (a) b) {' '.join(FIELDS)}\n"


def test_what_guests_ran_is_part_of_what_a_cpu_was_busy_for():
    text = (
        "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 1 5 100 7 2 3 4 6 0\ncpu12 0 0 1 9 0 0 0 0 0 0\nintr 1\n"
    )
    assert busy_ticks(text) == {0: 25, 12: 1}


def test_the_name_of_a_process_may_hold_anything():
    assert last_cpu(STAT.encode()) == 6
    assert started_at(STAT) == "5521"
    assert (last_cpu(b"1 (a) S"), started_at("1 (a) S")) == (-1, "")


@pytest.mark.parametrize(
    "line", ["cpu0 1 2", "cpu0 a b c d e f g h", "cpu0 1 2 3 4 5 6 7 " + "9" * 5000]
)
def test_a_cpu_whose_line_is_damaged_is_not_told_of(line):
    assert busy_ticks(f"cpu 1\n{line}\ncpu1 1 1 1 1 1 1 1 1\n") == {1: 6}


@pytest.mark.parametrize("word", [b"x", b"-3", b"9" * 5000, "٣".encode()])
def test_a_cpu_that_is_no_number_is_not_told_of(word):
    assert last_cpu(STAT.encode().replace(b" 6 0\n", b" " + word + b" 0\n")) == -1


def test_numbers_without_end_are_no_numbers_of_the_kernel():
    long = "9" * 5000
    assert numa_maps.free_blocks(
        f"Node {long}, zone Normal{' 1' * 11}\nNode 1, zone Normal {long}\n"
    ) == {1: 0}
    assert numa_maps.value_kib(f"VmPin: {long} kB\nVmPin: 3 kB\n", "VmPin") == 3
    (mapped,) = numa_maps.parse(
        f"10 default anon=1 N0=3 N1={long} N{long}=1 kernelpagesize_kB={long}", "10-20 rw"
    )
    assert (mapped.pages, mapped.page_kib) == ({0: 3}, 4)


def test_a_line_of_free_blocks_has_as_many_orders_as_a_kernel_can_have():
    # Each further one doubles what is counted: a long line would be a number of so many bits.
    found = numa_maps.free_blocks("Node 0, zone Normal" + " 1" * 100_000)
    assert found[0].bit_length() < 64
