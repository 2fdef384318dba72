"""Tests on a real libvirt and QEMU: ``make test-kvm``. homenode is there as /usr/bin/homenode.

    @pytest.mark.kvm("n4", arguments="numa_balancing=disable")
    def test_something(lab): ...

The marker names the topology of tests/labs/kvm/topologies.json and the options of ``Lab.start``.
See tests/labs/common/booting.py.
"""

import pytest
from booting import Labs, by_lab, stop_orphans, wanted
from kvmlab import Lab

MARK = "kvm"


def pytest_configure(config):
    config.addinivalue_line(
        "markers", f"{MARK}(topology, **options): the lab that the test runs on, as for Lab.start"
    )


def pytest_collection_modifyitems(items):
    by_lab(items, MARK)


@pytest.fixture(scope="session")
def lab_of():
    """Boot (or go on with) the lab of a topology and options; stop any other."""
    stop_orphans(Lab)
    labs = Labs(Lab)
    yield labs
    labs.stop()


@pytest.fixture
def lab(request, lab_of):
    """Give the lab that the test's marker names, cleaned."""
    topology, options = wanted(request.node, MARK)
    booted = lab_of(topology, **options)
    booted.clean()
    return booted
