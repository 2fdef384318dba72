"""What others have published comes out of the simulator: each row of the proof holds.

The tables of others are found through HOMENODE_DATA; what is compared with them is skipped without.
"""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent.parent))

from proof import published

needs_tables = pytest.mark.skipif(
    published.data() is None, reason="HOMENODE_DATA is not set: no tables of others"
)


@pytest.mark.parametrize("part", ["warehouses", "autonuma", "wakeup", "siblings"])
def test_what_was_published_comes_out(part):
    rows = list(published.PARTS[part]())
    assert rows
    assert [row for row in rows if not row.holds] == []


@needs_tables
@pytest.mark.parametrize("part", ["xen2012", "latency"])
def test_tables_of_others_are_met(part):
    rows = list(published.PARTS[part]())
    assert rows
    assert [row for row in rows if not row.holds] == []


@needs_tables
def test_every_curve_is_compared():
    assert len(list(published.latency())) == len(published.CURVES)
