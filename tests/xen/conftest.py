"""Tests on a real Xen: ``make test-xen``. homenode is in dom0, as /usr/bin/homenode.

    @pytest.mark.xen("n4", xen_args="sched=credit")
    def test_something(lab): ...

The marker names the topology of tests/labs/xen/topologies.json and the options of ``Lab.start``.
"""

from booting import of
from lab import Lab

pytest_configure, pytest_collection_modifyitems, lab_of, lab = of(Lab, "xen")
