"""What a guest of QEMU and KVM takes from its host beside its own memory.

Measured with libvirt 9.0 and QEMU 7.2 (``tests/data/kvm-captures``, and the lab it is from): a
guest with nothing but memory has 29.7 to 37.9 MiB of private memory of QEMU's own, whether its
memory is 64 MiB or 2100 MiB, in huge pages or not (``numastat -p``: Private less the guest's).
That was without KVM, whose QEMU translates no code and takes less. Beside that, every page of the
guest has an entry of 8 bytes in the page tables of the process, and another in those of the guest's
physical memory (EPT, NPT). Both are ordinary memory: nothing of them is to be had from a pool of
huge pages.

Not counted, since nobody can tell it beforehand: with ``<locked/>`` the kernel keeps all that QEMU
has mapped, 576 MiB beside a guest of 64 MiB in the lab (buffers for translated code, most of it,
which there are none of with KVM).
"""

from homenode.host import ORDINARY_PAGE_KIB

PROCESS_KIB = 38 << 10
"""What QEMU itself takes; more with many devices, which nobody can tell beforehand."""

_TABLES = 2
_ENTRY_BYTES = 8


def overhead_kib(memory_kib: int, page_kib: int) -> int:
    """Return the ordinary memory that a guest of `memory_kib` takes beside its own.

    With transparent huge pages the tables are smaller; a guest that is promised less than it may
    need is one that the host cannot keep.
    """
    tables = -(-memory_kib // page_kib) * _TABLES * _ENTRY_BYTES
    return PROCESS_KIB + -(-tables // 1024)


def in_pages_kib(memory_kib: int, page_kib: int) -> int:
    """Return `memory_kib` rounded up to whole huge pages; as it is if they are ordinary ones."""
    return memory_kib if page_kib <= ORDINARY_PAGE_KIB else -(-memory_kib // page_kib) * page_kib
