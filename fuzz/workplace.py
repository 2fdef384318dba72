"""The folder for inputs that are read from a file: in memory, where there is such a place."""

import atexit
import shutil
import tempfile
from pathlib import Path

_SHARED = Path("/dev/shm")  # noqa: S108 - the folder in it is nobody else's

FOLDER = Path(tempfile.mkdtemp(prefix="homenode-fuzz-", dir=_SHARED if _SHARED.is_dir() else None))

atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
