"""homenode as one file: ``python packaging/pyz.py TARGET [PYTHON]...``, or ``make pyz``.

The file is a zip that Python runs. In it are the source of homenode, rich (which draws; what rich
itself needs for Markdown and source code is not drawn, and left out) with its licence, and byte
code of each PYTHON, by default the one that runs this: any other one that is new enough runs the
file too, and compiles what it needs at every start. The same inputs give the same bytes.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).parent.parent
SHEBANG = b"#!/usr/bin/env python3\n"
SUFFIXES = {".py", ".toml", ".typed"}
MAIN = """\
import sys

if not (3, 11) <= sys.version_info < (3, 15):
    sys.stderr.write("homenode: needs Python 3.11 to 3.14, and this is %d.%d; name one: "
                     "python3.12 homenode.pyz\\n" % sys.version_info[:2])
    sys.exit(2)
sys.path.insert(0, sys.path[0] + "/" + sys.implementation.cache_tag)

from homenode.cli.main import console

console()
"""
COMPILE = """
import py_compile, sys
from pathlib import Path
target = Path(sys.argv[1]) / sys.implementation.cache_tag
for path in map(Path, sys.stdin.read().split("\\0")):
    compiled = (target / path).with_suffix(".pyc")
    compiled.parent.mkdir(parents=True, exist_ok=True)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(path, compiled, dfile=str(path), doraise=True, invalidation_mode=mode)
"""


def sources() -> Iterator[tuple[str, bytes]]:
    """Yield the names and contents of what is put in as it is."""
    yield "__main__.py", MAIN.encode()
    yield "LICENSE", (ROOT / "LICENSE").read_bytes()
    package = ROOT / "src"
    for path in sorted(package.glob("homenode/**/*")):
        if path.suffix in SUFFIXES:
            yield str(path.relative_to(package)), path.read_bytes()
    for file in sorted(distribution("rich").files or (), key=str):
        if file.suffix in SUFFIXES or (".dist-info/" in str(file) and "LICENSE" in file.name):
            yield str(file), file.read_binary()


def compiled(work: Path, pythons: list[str]) -> Iterator[tuple[str, bytes]]:
    """Yield byte code of the sources in a folder; what a package reads is laid beside it again."""
    names = sorted(
        str(path.relative_to(work / "source")) for path in (work / "source").glob("*/**/*.py")
    )
    for python in pythons:
        subprocess.run(
            [python, "-c", COMPILE, str(work / "compiled")],
            cwd=work / "source", input="\0".join(names).encode(), check=True,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )  # fmt: skip
    for folder in sorted((work / "compiled").iterdir()):
        for path in sorted(folder.rglob("*.pyc")):
            yield str(path.relative_to(work / "compiled")), path.read_bytes()
        for path in sorted((work / "source").rglob("*.toml")):
            yield f"{folder.name}/{path.relative_to(work / 'source')}", path.read_bytes()


def build(target: Path, pythons: list[str]) -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        contents = dict(sources())
        for name, content in contents.items():
            path = work / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        contents |= compiled(work, pythons)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, content in contents.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = 0o644 << 16
                entry.create_system = 3
                archive.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
    target.chmod(0o755)


if __name__ == "__main__":
    named = [str(Path(word).absolute()) if "/" in word else word for word in sys.argv[2:]]
    build(Path(sys.argv[1]), named or [sys.executable])
