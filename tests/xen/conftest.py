"""Tests on a real Xen: ``make test-xen``. One lab runs at a time; what cannot boot is skipped.

    @pytest.mark.xen("n4", xen_args="sched=credit")
    def test_something(lab): ...

The marker names the topology of tests/labs/xen/topologies.json and the options of ``Lab.start``;
without one it is "n4". Tests of one lab run together. homenode is in dom0, as /usr/bin/homenode.
"""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
import wire
from lab import Lab, LabError, NoImageError, topology_of

BOOTS = 2
"""A boot that failed is tried once more: under emulation one in a few hundred hangs."""
NAME = "pytest-"


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "xen(topology, **options): the lab that the test runs on, as for Lab.start"
    )


def _wanted(item):
    marker = item.get_closest_marker("xen")
    if marker is None:
        return "n4", {}
    (topology,) = marker.args or ("n4",)
    return topology, marker.kwargs


def _key(topology, options):
    return repr((topology, sorted(options.items())))


def pytest_collection_modifyitems(items):
    order = {}
    for item in items:
        order.setdefault(_key(*_wanted(item)), len(order))
    items.sort(key=lambda item: order[_key(*_wanted(item))])


class Labs:
    """Boots the lab that is asked for, and stops the one before."""

    def __init__(self):
        self._lab = Lab(f"{NAME}{os.getpid()}")
        self._key = None
        self._refusals = {}
        self._no_image = None

    def __call__(self, topology="n4", **options):
        key = _key(topology, options)
        if key != self._key or not self._lab.is_running:
            self.stop()
            topology_of(topology)  # a name that is none is a defect of the test: no reason to skip
            self._boot(key, topology, options)
        return self._lab

    def _boot(self, key, topology, options):
        for _ in range(BOOTS):
            reason = self._no_image or self._refusals.get(key)
            if reason:
                break
            try:
                self._lab.start(topology, **options)
            except NoImageError as error:
                self._no_image = str(error)
            except LabError as error:
                failure = str(error)
            else:
                self._lab.install_homenode()
                self._key = key
                return
        else:
            self._refusals[key] = f"the lab does not boot: {failure}"
        pytest.skip((self._no_image or self._refusals[key]).splitlines()[0])

    def stop(self):
        self._key = None
        self._lab.stop()


def _stop_orphans():
    # A run that was killed outright could not stop its lab.
    with contextlib.suppress(OSError):
        for entry in os.scandir(wire.state_directory()):
            _, prefix, owner = entry.name.partition(f"run-{NAME}")
            if prefix and not Path(f"/proc/{owner}").exists():
                Lab(f"{NAME}{owner}").stop()
                shutil.rmtree(entry.path)


@pytest.fixture(scope="session")
def lab_of():
    """Boot (or go on with) the lab of a topology and options; stop any other."""
    _stop_orphans()
    labs = Labs()
    yield labs
    labs.stop()


@pytest.fixture
def lab(request, lab_of):
    """Give the lab that the test's marker names, with a clean dom0."""
    topology, options = _wanted(request.node)
    booted = lab_of(topology, **options)
    booted.clean()
    return booted
