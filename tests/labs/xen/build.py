#!/usr/bin/env python3
"""Build the lab's image from Debian's packages, unless it is there; print its folder.

Packages are fetched with ``apt-get download`` and unpacked with ``dpkg-deb -x``: nothing of them is
installed here. What the lab itself needs (qemu, binutils) is installed if it is absent and this is
root. When it cannot be done, one line on standard output says why, and the status is 1.

The image, in $XENLAB_DIR/image-DIGEST:
  xen              the hypervisor, an uncompressed multiboot ELF
  vmlinux          the kernel of dom0 and of the Linux guest, uncompressed
  dom0.cpio        dom0's initramfs, with /guest/nano and /guest/still
  dom0+linux.cpio  the same with a Linux guest: /guest/vmlinux, /guest/linux.cpio
  versions.json    the packages
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
from collections.abc import Iterator, Sequence
from pathlib import Path

import wire

HERE = Path(__file__).resolve().parent
STATE = Path(wire.state_directory())
INPUTS = [
    HERE / "build.py",
    *sorted((HERE / "dom0").glob("*")),
    *sorted((HERE / "guest").glob("*")),
]
KEPT = 3
"""Images of other sources that are left, beside this one."""

TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "as": "binutils",
    "ld": "binutils",
    "zstd": "zstd",
}
XEN = "4.17"
DOM0_PACKAGES = [
    f"xen-utils-{XEN}",
    "xen-utils-common",
    "xenstore-utils",
    "python3-minimal",
    "libpython3.11-stdlib",
    "busybox-static",
]
HYPERVISOR = f"xen-hypervisor-{XEN}-amd64"
FLOCK = "util-linux"
# Depended on by packages, and never needed by dom0 while it runs.
SKIPPED = {
    *("adduser", "debconf", "dpkg", "gcc-12-base", "libaudit-common", "libext2fs2", "libpam0g"),
    *("libpam-modules", "libpam-modules-bin", "libsemanage-common", "libsemanage2", "libsepol2"),
    *("media-types", "passwd", "perl-base", "readline-common", "sensible-utils"),
    *("sysvinit-utils", "tar", "ucf", "udev"),
}
MODULES = ["xen-evtchn", "xen-gntdev", "xen-privcmd", "xenfs", "virtio_pci", "virtio_console"]
PRUNED = re.compile(
    r"^(usr/share/(doc|man|locale|info|lintian|bug|zoneinfo|pixmaps|applications|python-wheels"
    r"|debconf|gcc|perl5|bash-completion)(/|$)"
    r"|usr/include(/|$)|var/lib/dpkg|var/cache|usr/lib/xen-[^/]+/boot(/|$)"
    r"|usr/lib/python3\.\d+/(lib2to3|pydoc_data|ensurepip|idlelib|turtledemo|tkinter|distutils"
    r"|config-[^/]*)(/|$)"
    r"|usr/lib/x86_64-linux-gnu/(gconv|perl-base|audit)(/|$))"
)
FOLDERS = [
    *("dev", "proc", "sys", "run", "tmp", "root", "guest", "bin", "sbin", "etc", "var/run"),
    *("var/log/xen", "var/lib/xenstored", "var/lib/xen"),
]


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


# ---------------------------------------------------------------- packages


def install_tools() -> None:
    """Install the programs that a lab needs and that are absent, where that is possible."""
    packages = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool)})
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


# ------------------------------------------------------------------ kernel


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


def copy_modules(kernel: Path, root: Path) -> None:
    """Copy the modules that dom0 loads, with those they need; leave the order of loading."""
    index = {path.stem.replace("-", "_"): path for path in kernel.glob("lib/modules/**/*.ko")}
    order: list[str] = []

    def add(name: str) -> None:
        name = name.replace("-", "_")
        if name in order or name not in index:  # not there: built in
            return
        found = re.search(rb"\0depends=([^\0]*)\0", b"\0" + index[name].read_bytes())
        for needed in found[1].decode().split(",") if found else []:
            add(needed)
        order.append(name)

    for name in MODULES:
        add(name)
    folder = root / "lib/xenlab-modules"
    folder.mkdir(parents=True)
    for name in order:
        shutil.copy(index[name], folder / f"{name}.ko")
    (root / "etc/xenlab.modules").write_text("".join(f"{name}\n" for name in order))


# --------------------------------------------------------------- initramfs


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


def prune(root: Path) -> None:
    """Remove what dom0 does not need: its files are its memory."""
    for path in sorted(root.rglob("*"), reverse=True):
        if PRUNED.match(str(path.relative_to(root))):
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


def compile_library(root: Path) -> None:
    """Compile the standard library with dom0's own Python: it then starts fast."""
    loader = root / "lib64/ld-linux-x86-64.so.2"
    if loader.is_symlink():
        loader = root / str(Path("/lib64") / loader.readlink()).lstrip("/")
    folders = [root / "lib/x86_64-linux-gnu", root / "usr/lib/x86_64-linux-gnu"]
    python = [loader, "--library-path", ":".join(map(str, folders)), root / "usr/bin/python3.11"]
    arguments = ["-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    output_of(
        [*python, *arguments, "-s", root, root / "usr/lib/python3.11"],
        env={"PYTHONHOME": str(root / "usr"), "PATH": os.defpath},
    )


def add_small_guests(root: Path, work: Path) -> None:
    """Add the guests of a few KB, and what stands in for a device model."""
    for name, bits, target in (("nano", "--64", "elf_x86_64"), ("still", "--32", "elf_i386")):
        output_of(["as", bits, "-o", work / f"{name}.o", HERE / f"guest/{name}.S"])
        linker = ["ld", "-m", target, "-nostdlib", "-N", "--no-warn-rwx-segments", "-s"]
        output_of([*linker, "-Ttext=0x100000", "-o", root / "guest" / name, work / f"{name}.o"])
    shutil.copy(HERE / "guest/device-model", root / "guest")
    (root / "guest/device-model").chmod(0o755)


def pack_linux_guest(root: Path, work: Path, vmlinux: Path, target: Path) -> None:
    """Write a cpio that adds a Linux guest to dom0: its own kernel, and busybox."""
    guest, more = work / "guest", work / "more/guest"
    for folder in ("bin", "sbin", "dev", "proc", "sys"):
        (guest / folder).mkdir(parents=True)
    # The kernel calls these when it is told to shut down or to reboot.
    for name in ("poweroff", "reboot"):
        script = guest / "sbin" / name
        script.write_text(f"#!/bin/busybox sh\nexec /bin/busybox {name} -f\n")
        script.chmod(0o755)
    shutil.copy(root / "bin/busybox", guest / "bin/busybox")
    (guest / "bin/sh").symlink_to("busybox")
    shutil.copy(HERE / "guest/init", guest / "init")
    (guest / "init").chmod(0o755)
    more.mkdir(parents=True)
    pack(guest, more / "linux.cpio", [("dev/console", 5, 1)])
    os.link(vmlinux, more / "vmlinux")
    pack(work / "more", target)


def furnish(root: Path, work: Path, packages: dict[str, Path]) -> None:
    """Make dom0's files of the unpacked packages."""
    prune(root)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    unpack(packages[FLOCK], work / "flock")
    shutil.copy(work / "flock/usr/bin/flock", root / "usr/bin/flock")
    if not os.path.lexists(root / "usr/bin/python3"):
        (root / "usr/bin/python3").symlink_to("python3.11")
    link_busybox(root)
    compile_library(root)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    shutil.copy(HERE / "dom0/init", root / "init")
    (root / "init").chmod(0o755)
    (root / "usr/lib/xenlab").mkdir()
    for name in ("agent.py", "frames.py"):
        shutil.copy(HERE / "dom0" / name, root / "usr/lib/xenlab")
    add_small_guests(root, work)


def build(target: Path, work: Path) -> None:
    """Build the image into a folder."""
    kernel = kernel_package()
    dom0 = [name for name in closure(DOM0_PACKAGES) if name not in SKIPPED]
    packages = fetch([*dom0, HYPERVISOR, FLOCK, kernel])
    root = work / "root"
    for name in dom0:
        unpack(packages[name], root)
    unpack(packages[HYPERVISOR], work / "hypervisor")
    unpack(packages[kernel], work / "kernel")
    (xen,) = (work / "hypervisor/boot").glob("xen-*-amd64.gz")
    (target / "xen").write_bytes(gzip.decompress(xen.read_bytes()))
    (vmlinuz,) = (work / "kernel/boot").glob("vmlinuz-*")
    extract_vmlinux(vmlinuz, target / "vmlinux")
    furnish(root, work, packages)
    copy_modules(work / "kernel", root)
    pack(root, target / "dom0.cpio", [("dev/console", 5, 1), ("dev/null", 1, 3)])
    pack_linux_guest(root, work, target / "vmlinux", work / "more.cpio")
    parts = (target / "dom0.cpio", work / "more.cpio")
    (target / "dom0+linux.cpio").write_bytes(b"".join(part.read_bytes() for part in parts))
    versions = {name: path.name.split("_")[1] for name, path in sorted(packages.items())}
    (target / "versions.json").write_text(json.dumps(versions, indent=1) + "\n")


def image() -> Path:
    """Return the folder of the image of these sources, built if it is not there."""
    digest = hashlib.sha256()
    for path in INPUTS:
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    STATE.mkdir(parents=True, exist_ok=True)
    target = STATE / f"image-{digest.hexdigest()[:16]}"
    with (STATE / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two builders would do the same work
        install_tools()
        if target.is_dir():
            os.utime(target)
            return target
        begun = time.monotonic()
        log("building the image")
        with tempfile.TemporaryDirectory(prefix="build.", dir=STATE) as folder:
            work = Path(folder)
            (work / "image").mkdir()
            build(work / "image", work)
            (work / "image").rename(target)
        log(f"done, {time.monotonic() - begun:.0f} s")
        old = sorted(STATE.glob("image-*"), key=lambda path: path.stat().st_mtime)[: -KEPT - 1]
        for path in old:
            shutil.rmtree(path)
    return target


def main() -> int:
    """Be the command; return its exit status."""
    try:
        print(image())
    except (BuildError, OSError) as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
