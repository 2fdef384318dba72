"""Tests in a clean Debian 12: ``make test-deb``."""

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from debian import root_image, unpacked
from packages import BuildError

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def package(tmp_path_factory):
    """Return the Debian package of this tree."""
    folder = tmp_path_factory.mktemp("package")
    done = subprocess.run(
        [sys.executable, ROOT / "packaging" / "deb.py", folder],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def debian():
    """Return a clean Debian, in which the tests go on one after the other."""
    with ExitStack() as stack:
        try:
            made = stack.enter_context(unpacked(root_image()))
        except (BuildError, OSError) as error:
            pytest.skip(f"no clean Debian: {error}")
        yield made
