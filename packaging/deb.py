"""The Debian package: ``python packaging/deb.py TARGET_FOLDER``, or ``make deb``.

It is made of the wheel, of completion, and of the manual pages that are in build/man, by
``dpkg-deb`` alone. debhelper would want a setuptools that Debian 12 has not. The same inputs give
the same bytes.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from email.utils import parsedate_to_datetime
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEBIAN = ROOT / "packaging" / "debian"
SOURCES = ("src", "setup.py", "pyproject.toml", "README.md", "LICENSE", "packaging")
PACKAGES = "usr/lib/python3/dist-packages"
DOCUMENTS = "usr/share/doc/homenode"
OVERRIDES = "usr/share/lintian/overrides/homenode"
COMPLETION = {
    "bash": "usr/share/bash-completion/completions/homenode",
    "zsh": "usr/share/zsh/vendor-completions/_homenode",
    "fish": "usr/share/fish/vendor_completions.d/homenode.fish",
}
COMMANDS = {"homenode": "homenode.cli.main", "homenode-numad": "homenode.cli.numad"}
COMMAND = """\
#!/usr/bin/python3
from {module} import console

console()
"""


def lay_package(root: Path) -> str:
    """Lay out what the wheel has, and return its version."""
    with tempfile.TemporaryDirectory() as folder:
        # A copy: what an earlier build left would be taken for a part of it.
        for name in SOURCES:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(folder) / name)
        script = "from setuptools import build_meta; build_meta.build_wheel('dist')"
        # Its warnings are of byte code, which is made where the package is installed.
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=folder, check=False, capture_output=True, text=True,
            env={name: at for name, at in os.environ.items() if name != "HOMENODE_COMPILED"},
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stderr)
        (wheel,) = (Path(folder) / "dist").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / PACKAGES)
    (data,) = (root / PACKAGES).glob("*.data")
    (root / "usr/lib/systemd").mkdir(parents=True)
    shutil.move(data / "data/lib/systemd/system", root / "usr/lib/systemd/system")
    shutil.rmtree(data)
    (metadata,) = (root / PACKAGES).glob("*.dist-info")
    # dpkg knows what is installed, and the licence is in the documents.
    (metadata / "RECORD").unlink()
    shutil.rmtree(metadata / "licenses")
    (metadata / "INSTALLER").write_text("dpkg\n")
    return metadata.name.removesuffix(".dist-info").split("-")[1]


def lay_commands(root: Path) -> None:
    """Lay out the commands and their completion."""
    (root / "usr/bin").mkdir()
    for name, module in COMMANDS.items():
        path = root / "usr/bin" / name
        path.write_text(COMMAND.format(module=module))
        path.chmod(0o755)
    for shell, name in COMPLETION.items():
        printed = subprocess.run(
            [sys.executable, "-m", "homenode.cli.main", "completion", shell],
            env={**os.environ, "PYTHONPATH": str(root / PACKAGES), "PYTHONDONTWRITEBYTECODE": "1"},
            check=True, stdout=subprocess.PIPE,
        ).stdout  # fmt: skip
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(printed)
    # bash looks for a file with the name of the command.
    (root / COMPLETION["bash"]).with_name("homenode-numad").symlink_to("homenode")


def lay_documents(root: Path, version: str) -> None:
    """Lay out manual pages, examples and what Debian wants to be told."""
    (root / DOCUMENTS).mkdir(parents=True)
    changelog = (DEBIAN / "changelog").read_bytes()
    if not changelog.startswith(f"homenode ({version}) ".encode()):
        sys.exit(f"packaging/debian/changelog does not begin with version {version}")
    compress(changelog, root / DOCUMENTS / "changelog.gz")
    shutil.copy(DEBIAN / "copyright", root / DOCUMENTS)
    shutil.copytree(ROOT / "examples", root / DOCUMENTS / "examples")
    (root / OVERRIDES).parent.mkdir(parents=True)
    shutil.copy(DEBIAN / "lintian-overrides", root / OVERRIDES)
    for page in sorted((ROOT / "build" / "man").glob("*.[157]")):
        folder = root / "usr/share/man" / f"man{page.suffix[1:]}"
        folder.mkdir(parents=True, exist_ok=True)
        compress(page.read_bytes(), folder / f"{page.name}.gz")


def compress(content: bytes, target: Path) -> None:
    """Write a file as gzip -9n does."""
    target.write_bytes(gzip.compress(content, 9, mtime=0))


def lay_control(root: Path, version: str) -> None:
    """Lay out what dpkg reads."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    kib = sum(-(-path.stat().st_size // 1024) for path in files)
    (root / "DEBIAN").mkdir()
    control = (DEBIAN / "control").read_text().replace("@version@", version)
    (root / "DEBIAN/control").write_text(control.replace("@installed_size@", str(kib)))
    sums = (
        f"{hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()}"
        f"  {path.relative_to(root)}\n"
        for path in files
    )
    (root / "DEBIAN/md5sums").write_text("".join(sums))
    for name in ("postinst", "prerm", "postrm"):
        shutil.copy(DEBIAN / name, root / "DEBIAN" / name)


def mend_modes(root: Path) -> None:
    """Give everything the modes that Debian's files have, whatever those of the checkout are."""
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            continue
        is_run = path.is_dir() or (
            path.read_bytes().startswith(b"#!") and f"{DOCUMENTS}/" not in str(path)
        )
        path.chmod(0o755 if is_run else 0o644)


def build(target: Path) -> Path:
    """Build the package into a folder, and return it."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir(mode=0o755)
        version = lay_package(root)
        lay_commands(root)
        lay_documents(root, version)
        lay_control(root, version)
        mend_modes(root)
        made = target / f"homenode_{version}_all.deb"
        dated = (DEBIAN / "changelog").read_text().rpartition("  ")[2].strip()
        epoch = int(parsedate_to_datetime(dated).timestamp())
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", str(root), str(made)],
            env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)},
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    return made


if __name__ == "__main__":
    if shutil.which("dpkg-deb") is None:
        sys.exit("make deb needs dpkg-deb: Debian, Ubuntu, or the package dpkg of others")
    print(build(Path(sys.argv[1])))
