"""The book's pictures are what is drawn now, and its pages show all of them."""

import re
from itertools import chain
from xml.etree import ElementTree as ET

import pytest
from proof.pictures import hosts, policies, schedules, why
from proof.pictures.plots import is_drawn_from

from homenode.cli.main import main
from homenode.fleet.policies import HOST_POLICIES
from homenode.placement.policies import POLICIES
from pictures import ROOT, SVG

ROOMS = (why, policies, hosts, schedules)
FOLDER = ROOT / "docs" / "pictures"
PAGES = {
    name: (ROOT / "docs" / f"{name}.md").read_text() for name in ("why", "policies", "schedulers")
}
FOUND = "make pictures draws another one; look at it, and commit it"


def committed(name):
    return (FOLDER / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("room", [policies, hosts], ids=["policies", "hosts"])
def test_a_picture_of_a_policy_is_what_is_drawn_now(room):
    for name, text in room.pictures():
        assert name in room.NAMES
        same = text == committed(name)
        assert same, f"{name}: {FOUND}"


@pytest.mark.parametrize("drawn", schedules.TIMELINES, ids=lambda drawn: drawn.picture)
def test_a_timeline_is_what_the_command_draws(drawn, tmp_path):
    path = tmp_path / "cpus.svg"
    scenario = ROOT / "examples" / "simulation" / f"{drawn.scenario}.toml"
    asked = ["simulate", str(scenario), "--variant", drawn.variant, "--timeline", str(path)]
    assert main([*asked, "--from", drawn.begin, "--for", drawn.length]) == 0
    same = path.read_text() == committed(f"{drawn.picture}.svg")
    assert same, f"{drawn.picture}.svg: {FOUND}"


def test_a_plot_is_drawn_from_what_it_would_be_drawn_from_now():
    # Margins hang on the machine's fonts; so not the picture is compared, but all that it is of.
    for name, picture in why.pictures():
        if isinstance(picture, str):
            same = picture == committed(name)
        else:
            same = is_drawn_from(committed(name), picture.digest)
        assert same, f"{name}: {FOUND}"


def test_a_digest_is_another_one_for_another_figure(monkeypatch):
    before = why.gains().digest
    monkeypatch.setattr(why, "GAINS", [*why.GAINS[:-1], why.GAINS[-1]._replace(times=1.5)])
    assert why.gains().digest != before


def section(page, name):
    """Return the text below the heading that names a policy, to the next one."""
    found = re.search(
        rf"^### `{re.escape(name)}`.*?\n(.*?)(?=^##|\Z)", page, re.MULTILINE | re.DOTALL
    )
    assert found, f"docs/policies.md has no section for {name}"
    return found[1]


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_has_a_section_with_its_picture(name):
    text = section(PAGES["policies"].split("\n## Policies for hosts")[0], name)
    assert f"](pictures/policy-{name}.svg)" in text
    assert "right" in text
    assert "trap" in text


@pytest.mark.parametrize("name", HOST_POLICIES)
def test_every_policy_for_hosts_has_a_section_with_its_picture(name):
    text = section(PAGES["policies"].split("\n## Policies for hosts")[1], name)
    assert f"](pictures/host-policy-{name}.svg)" in text
    assert "right" in text
    assert "trap" in text


def test_the_pages_show_every_picture_and_the_command_of_every_timeline():
    shown = {
        name for page in PAGES.values() for name in re.findall(r"\]\(pictures/([^)]+)\)", page)
    }
    assert sorted(shown) == sorted(chain(*(room.NAMES for room in ROOMS)))
    for drawn in schedules.TIMELINES:
        assert f"$ {drawn.command}\n" in PAGES["schedulers"].replace(" \\\n    ", " ")


AS_THE_COMMAND_DRAWS_THEM = {"replay-stranding", "placed-host", "walk-before", "walk-after"}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_says_in_words_what_it_shows_and_has_no_small_letters(path):
    root = ET.fromstring(path.read_text())  # noqa: S314 - it is our own
    assert root.find(f"{SVG}title").text
    assert root.find(f"{SVG}desc").text
    assert "prefers-color-scheme: dark" in path.read_text()
    if path.stem not in AS_THE_COMMAND_DRAWS_THEM:
        assert float(root.get("width")) <= 900
        small = [one for one in root.iter(f"{SVG}text") if one.get("class") == "tiny"]
        assert not small
