"""Images of labs out of Debian's packages: fetched, unpacked, and packed again.

Packages are fetched with ``apt-get download`` and unpacked with ``dpkg-deb``: nothing of them is
installed here. What a lab itself needs (qemu, binutils) is installed if it is absent and this is
root.
"""

import fcntl
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import wire

STATE = Path(wire.state_directory())
KEPT = 3
"""Images of other sources that are left, beside this one."""


class BuildError(Exception):
    """The image cannot be built here."""


def log(message: str) -> None:
    """Tell whoever waits."""
    print(f"[lab] {message}", file=sys.stderr, flush=True)


def output_of(command: Sequence[str | Path], **options: object) -> bytes:
    """Run a command; return its output, or raise the last line that it complained with."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, **{"env": environment, **options}
        )
    except OSError as error:
        raise BuildError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise BuildError(f"{command[0]}: {lines[-1]}")
    return done.stdout


def install_tools(tools: Mapping[str, str]) -> None:
    """Install the packages of programs that a lab needs and that are absent, where possible."""
    packages = sorted({package for tool, package in tools.items() if not shutil.which(tool)})
    if not packages:
        return
    wanted = " ".join(packages)
    if not shutil.which("apt-get"):
        raise BuildError(f"needs {wanted}, and there is no apt-get")
    if os.geteuid():
        raise BuildError(f"needs {wanted}: apt-get install {wanted}")
    log(f"installing {wanted}")
    with_lists(["apt-get", "-qy", "--no-install-recommends", "install", *packages])


def with_lists(command: Sequence[str], **options: object) -> bytes:
    """Run apt-get; when it fails, bring its lists up to date and try once more."""
    try:
        return output_of(command, **options)
    except BuildError:
        if os.geteuid():
            raise
    log("apt-get update")
    output_of(["apt-get", "-q", "update"])
    return output_of(command, **options)


def closure(packages: Sequence[str]) -> list[str]:
    """Return the names of packages and all that they depend on, as if nothing were installed."""
    options = ["-o", "Dir::State::status=/dev/null", "-o", "APT::Install-Recommends=0"]
    text = with_lists(["apt-get", "-s", *options, "install", *packages]).decode()
    return [line.split()[1] for line in text.splitlines() if line.startswith("Inst ")]


def kernel_package() -> str:
    """Return the name of the present kernel."""
    for name in closure(["linux-image-amd64"]):
        if re.match(r"linux-image-\d", name):
            return name
    raise BuildError("there is no kernel behind linux-image-amd64")


def fetch(names: Sequence[str]) -> dict[str, Path]:
    """Return the files of packages, downloaded if they are not here."""
    folder = STATE / "debs"
    folder.mkdir(exist_ok=True)

    def present() -> dict[str, Path]:
        return {path.name.split("_")[0]: path for path in sorted(folder.glob("*.deb"))}

    absent = [name for name in names if name not in present()]
    if absent:
        log(f"downloading {len(absent)} packages")
        with_lists(["apt-get", "-q", "download", *absent], cwd=folder)
    files = present()
    lost = [name for name in names if name not in files]
    if lost:
        raise BuildError(f"could not download {' '.join(lost)}")
    return {name: files[name] for name in names}


def unpack(package: Path, folder: Path) -> None:
    """Unpack the files of a package."""
    folder.mkdir(exist_ok=True)
    output_of(["dpkg-deb", "-x", package, folder])


def extract_vmlinux(bzimage: Path, target: Path) -> None:
    """Write the ELF inside of a bzImage, which spares the boot a slow decompression."""
    data = bzimage.read_bytes()
    setup = ((data[0x1F1] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", data, 0x248)
    payload = data[setup + offset : setup + offset + length]
    if payload.startswith(b"\xfd7zXZ"):
        elf = lzma.LZMADecompressor().decompress(payload)
    elif payload.startswith(b"\x1f\x8b"):
        elf = gzip.decompress(payload)
    else:
        elf = output_of(["zstd", "-dc"], input=payload[:-4])
    if not elf.startswith(b"\x7fELF"):
        raise BuildError(f"{bzimage.name}: no ELF in it")
    target.write_bytes(elf)


def load_order(kernel: Path, names: Iterable[str]) -> list[Path]:
    """Return modules of an unpacked kernel, with those they need, in the order of loading."""
    index = {path.stem.replace("-", "_"): path for path in kernel.glob("lib/modules/**/*.ko")}
    order: list[Path] = []

    def add(name: str) -> None:
        path = index.get(name.replace("-", "_"))
        if path is None or path in order:  # not there: built in
            return
        data = b"\0" + path.read_bytes()
        for field in (rb"\0depends=([^\0]*)\0", rb"\0softdep=pre: ([^\0]*)\0"):
            for needed in re.findall(field, data):
                for other in re.split("[, ]+", needed.decode()):
                    add(other)
        order.append(path)

    for name in names:
        add(name)
    return order


def entries(root: Path) -> Iterator[tuple[str, int, bytes]]:
    """Yield the name, mode and content of everything below a folder, folders first."""
    for path in sorted(root.rglob("*")):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield name, stat.S_IFLNK | 0o777, os.fsencode(path.readlink())
        elif stat.S_ISDIR(mode):
            yield name, stat.S_IFDIR | 0o755, b""
        elif stat.S_ISREG(mode):
            yield name, stat.S_IFREG | (mode & 0o777), path.read_bytes()


def pack(root: Path, target: Path, devices: Sequence[tuple[str, int, int]] = ()) -> None:
    """Write a newc cpio of a folder, all of it root's, and of character devices."""
    with target.open("wb") as file:
        number = 0

        def add(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
            nonlocal number
            number += 1
            raw = name.encode() + b"\0"
            fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(raw), 0)
            head = b"070701" + b"".join(b"%08X" % field for field in fields) + raw
            file.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

        for entry in entries(root):
            add(*entry)
        for name, major, minor in devices:
            add(name, stat.S_IFCHR | 0o600, device=(major, minor))
        add("TRAILER!!!", 0)


def prune(root: Path, unwanted: re.Pattern[str]) -> None:
    """Remove what nobody needs there."""
    for path in sorted(root.rglob("*"), reverse=True):
        if unwanted.match(str(path.relative_to(root))):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()


def link_busybox(root: Path) -> None:
    """Have busybox stand in for every program that no package brought."""
    places = ["bin", "sbin", "usr/bin", "usr/sbin"]
    for name in output_of([root / "bin/busybox", "--list"]).decode().split():
        if not any(os.path.lexists(root / place / name) for place in places):
            (root / "bin" / name).symlink_to("/bin/busybox")


def compile_library(root: Path, *folders_of: str) -> None:
    """Compile the standard library with its own Python: it then starts fast."""
    loader = root / "lib64/ld-linux-x86-64.so.2"
    if loader.is_symlink():
        loader = root / str(Path("/lib64") / loader.readlink()).lstrip("/")
    folders = [root / "lib/x86_64-linux-gnu", root / "usr/lib/x86_64-linux-gnu"]
    python = [loader, "--library-path", ":".join(map(str, folders)), root / "usr/bin/python3.11"]
    arguments = ["-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    output_of(
        [*python, *arguments, "-s", root, *(root / folder for folder in folders_of)],
        env={"PYTHONHOME": str(root / "usr"), "PATH": os.defpath},
    )


def image(
    kind: str,
    inputs: Sequence[Path],
    tools: Mapping[str, str],
    build: Callable[[Path, Path], Mapping[str, Path]],
) -> Path:
    """Return the folder of the image of these sources, built if it is not there.

    `build` is given the folder of the image and one to work in, and returns the packages.
    """
    digest = hashlib.sha256()
    for path in sorted({*inputs, *Path(__file__).parent.glob("*.py")}):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    STATE.mkdir(parents=True, exist_ok=True)
    target = STATE / f"{kind}-image-{digest.hexdigest()[:16]}"
    with (STATE / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builders would do the same work
        install_tools(tools)
        if target.is_dir():
            os.utime(target)
            return target
        begun = time.monotonic()
        log(f"building the image of the {kind} lab")
        with tempfile.TemporaryDirectory(prefix="build.", dir=STATE) as folder:
            work = Path(folder)
            (work / "image").mkdir()
            packages = build(work / "image", work)
            versions = {name: path.name.split("_")[1] for name, path in sorted(packages.items())}
            (work / "image/versions.json").write_text(json.dumps(versions, indent=1) + "\n")
            (work / "image").rename(target)
        log(f"done, {time.monotonic() - begun:.0f} s")
        old = sorted(STATE.glob(f"{kind}-image-*"), key=lambda path: path.stat().st_mtime)[
            : -KEPT - 1
        ]
        for path in old:
            shutil.rmtree(path)
    return target


def told(build: Callable[[], Path]) -> int:
    """Be the command that builds an image: print its folder, or why there is none."""
    try:
        print(build())
    except (BuildError, OSError) as error:
        print(error)
        return 1
    return 0
