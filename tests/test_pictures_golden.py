"""Pictures of a few telling hosts, letter by letter as they were when somebody looked at them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from homenode.drawing import svg, terminal
from pictures import ROOT, SVG, capture, example, host_with_tables, parsed

GOLDEN = Path(__file__).parent / "data" / "golden"
WRITE = "HOMENODE_WRITE_GOLDEN"


def seen(name):
    """Return a host and its guests."""
    if name == "memory-tiers":
        return host_with_tables(), ()
    if name == "xen-8n-guests":
        return capture("n8/guests")
    return example(name), ()


@pytest.mark.parametrize(
    "name",
    ["epyc-7763-2s-nps4", "opteron-6272-8n", "tree-64n", "memory-tiers", "uneven", "xen-8n-guests"],
)
@pytest.mark.parametrize("form", ["svg", "txt"])
def test_a_picture_is_what_it_was_when_somebody_looked_at_it(name, form):
    host, guests = seen(name)
    if form == "svg":
        drawn = svg.topology(host, guests)
    else:
        drawn = terminal.topology(host, guests, colours=False, width=100)
    path = GOLDEN / f"{name}.{form}"
    if os.environ.get(WRITE):
        path.write_text(drawn, encoding="utf-8")
    looked_at = path.read_text(encoding="utf-8") if path.exists() else ""
    differs = drawn != looked_at
    assert not differs, (
        f"{path.relative_to(ROOT)} is another picture: {first_difference(looked_at, drawn)}\n"
        f"If this is meant: {WRITE}=1 python -m pytest {Path(__file__).relative_to(ROOT)}; "
        "then look at it, and commit it"
    )


def first_difference(old, new):
    pairs = zip([*old.splitlines(), "(end)"], [*new.splitlines(), "(end)"], strict=False)
    for number, (before, after) in enumerate(pairs, 1):
        if before != after:
            return f"line {number} was {before.strip()!r}, and is {after.strip()!r}"
    return "nothing differs but the ends of lines"


def test_the_gallery_draws_what_can_be_read_and_names_what_cannot(tmp_path):
    folder = tmp_path / "<hosts>"
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
    (folder / "a" / "one & two.toml").write_text('name = "<one>"\n')
    (folder / "b" / "xl-info-n.txt").write_text(
        (ROOT / "tests/data/xen-captures/n2/guests/xl-info-n.txt").read_text()
    )
    (folder / "b" / "more.txt").write_text("part of b, and not looked at")
    (folder / "broken.json").write_text("{")
    page = tmp_path / "page.html"
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "gallery.py", folder, "-o", page],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=True,
    )
    assert done.stdout == f"{page}: 2 hosts, 1 skipped\n"
    assert done.stderr.startswith(f"skipped {folder}/broken.json")
    assert done.stderr.count("\n") == 1
    text = page.read_text()
    assert "<h2>a/one &amp; two.toml</h2>" in text
    assert "<h2>b</h2>" in text
    assert "<hosts>" not in text
    assert "<script" not in text
    pictures = [part.partition("</svg>")[0] for part in text.split("<svg")[1:]]
    titles = [parsed(f"<svg{part}</svg>").find(f"{SVG}title") for part in pictures]
    assert [title.text for title in titles] == ["Host <one>", "Host dom0"]
    assert len({title.get("id") for title in titles}) == 2
