"""Tests on a real libvirt and QEMU: ``make test-kvm``. homenode is there as /usr/bin/homenode.

    @pytest.mark.kvm("n4", arguments="numa_balancing=disable")
    def test_something(lab): ...

The marker names the topology of tests/labs/kvm/topologies.json and the options of ``Lab.start``.
"""

from booting import of
from kvmlab import Lab

pytest_configure, pytest_collection_modifyitems, lab_of, lab = of(Lab, "kvm")
