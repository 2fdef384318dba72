"""Labs for tests: one runs at a time, and what cannot boot is a reason to skip.

A marker names the topology of a test and the options of its lab's ``start``; without one it is
"n4". Tests of one lab run together.
"""

import contextlib
import os
import shutil
from pathlib import Path

import pytest
import wire
from machine import LabError, NoImageError

BOOTS = 2
"""A boot that failed is tried once more: under emulation one in a few hundred hangs."""
NAME = "pytest-"


def wanted(item, mark):
    """Return the topology and the options that a test's marker names."""
    marker = item.get_closest_marker(mark)
    if marker is None:
        return "n4", {}
    (topology,) = marker.args or ("n4",)
    return topology, marker.kwargs


def key(topology, options):
    """Return what tells one lab from another."""
    return repr((topology, sorted(options.items())))


def by_lab(items, mark):
    """Order tests such that those of one lab run together."""
    order = {}
    for item in items:
        order.setdefault(key(*wanted(item, mark)), len(order))
    items.sort(key=lambda item: order[key(*wanted(item, mark))])


class Labs:
    """Boots the lab that is asked for, and stops the one before."""

    def __init__(self, kind):
        self._lab = kind(f"{NAME}{kind.kind}-{os.getpid()}")
        self._key = None
        self._refusals = {}
        self._no_image = None

    def __call__(self, topology="n4", **options):
        wanted_key = key(topology, options)
        if wanted_key != self._key or not self._lab.is_running:
            self.stop()
            self._lab.topology_of(
                topology
            )  # a name that is none is a defect of the test: no reason to skip
            self._boot(wanted_key, topology, options)
        return self._lab

    def _boot(self, wanted_key, topology, options):
        for _ in range(BOOTS):
            reason = self._no_image or self._refusals.get(wanted_key)
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
                self._key = wanted_key
                return
        else:
            self._refusals[wanted_key] = f"the lab does not boot: {failure}"
        pytest.skip((self._no_image or self._refusals[wanted_key]).splitlines()[0])

    def stop(self):
        self._key = None
        self._lab.stop()


def stop_orphans(kind):
    """Stop the labs of earlier runs."""
    # A run that was killed outright could not stop its lab.
    with contextlib.suppress(OSError):
        for entry in os.scandir(wire.state_directory()):
            _, prefix, owner = entry.name.partition(f"run-{NAME}{kind.kind}-")
            if prefix and not Path(f"/proc/{owner}").exists():
                kind(f"{NAME}{kind.kind}-{owner}").stop()
                shutil.rmtree(entry.path)


def of(kind, mark):
    """Return what a conftest has: two of pytest's hooks, and the fixtures ``lab_of`` and ``lab``.

    `kind` is the class of the labs, `mark` the name of the marker.
    """

    def pytest_configure(config):
        config.addinivalue_line(
            "markers",
            f"{mark}(topology, **options): the lab that the test runs on, as for Lab.start",
        )

    def pytest_collection_modifyitems(items):
        by_lab(items, mark)

    @pytest.fixture(scope="session")
    def lab_of():
        """Boot (or go on with) the lab of a topology and options; stop any other."""
        stop_orphans(kind)
        labs = Labs(kind)
        yield labs
        labs.stop()

    @pytest.fixture
    def lab(request, lab_of):
        """Give the lab that the test's marker names, cleaned."""
        topology, options = wanted(request.node, mark)
        booted = lab_of(topology, **options)
        booted.clean()
        return booted

    return pytest_configure, pytest_collection_modifyitems, lab_of, lab
