"""What the guide to replays and the comparison of policies say is what there is."""

import re
from pathlib import Path

from homenode.fleet.policies import DEFAULT, HOST_FACTS, HOST_POLICIES
from homenode.fleet.policies import fleet_policy as policy
from homenode.fleet.summary import MEASURES

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = (DOCS / "replay.md").read_text()
COMPARISON = (DOCS / "fleet-policies.md").read_text()


def test_the_orders_on_hosts_are_those_of_the_register():
    table = GUIDE.split("| hosts | order |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)`( \(default\))? \| ?`?([^|`]*)`? ?\|", table, flags=re.MULTILINE)
    assert {name: order.strip() for name, _, order in rows} == {
        known.name: known.order for known in HOST_POLICIES.values()
    }
    assert [name for name, default, _ in rows if default] == [DEFAULT]


def test_every_number_is_explained():
    table = GUIDE.split("## What is counted")[1].split("## ")[0]
    named = set(re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.MULTILINE))))
    assert named == {measure.name for measure in MEASURES}


def test_compared_policies_exist():
    names = re.findall(r"^\| \**`([^`]+/[^`]+)`\** \|", COMPARISON, flags=re.MULTILINE)
    assert names
    assert all(policy(name).name == name for name in names)
    facts = re.findall(r"`((?:breaks|wastes|together)\w*)`", COMPARISON)
    assert set(facts) <= set(HOST_FACTS)
