"""The demo does what the README says it does."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_the_demo_places_eight_guests_and_explains_one_refusal(tmp_path):
    commands = Path(sys.executable).parent
    if not (commands / "homenode").exists():
        pytest.skip("homenode is not installed in this environment")
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    environment = {
        **os.environ,
        "PATH": f"{commands}:{os.environ['PATH']}",
        "TMPDIR": str(tmp_path),
    }
    done = subprocess.run(
        ["sh", tmp_path / "examples" / "demo.sh"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("100 % of its memory is there, as planned") == 8
    for drawn in ("socket 1", "node 7", "desktop", "candidates that fit:"):
        assert drawn in done.stdout
    refusal = done.stdout.split("guests/monster.cfg")[-1]
    assert "does not fit" in refusal
    assert "what would make it fit (each was tried):" in refusal
    assert [path.name for path in tmp_path.iterdir()] == ["examples"], "it cleans up after itself"
