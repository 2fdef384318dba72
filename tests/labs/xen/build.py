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

import gzip
import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMON = HERE.parent / "common"
sys.path.append(str(COMMON))

import packages as debian  # noqa: E402 - found by the line before

INPUTS = [HERE / "build.py", *(HERE / "dom0").glob("*"), *(HERE / "guest").glob("*")]

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


def copy_modules(kernel: Path, root: Path) -> None:
    """Copy the modules that dom0 loads, with those they need; leave the order of loading."""
    order = debian.load_order(kernel, MODULES)
    folder = root / "lib/xenlab-modules"
    folder.mkdir(parents=True)
    for path in order:
        shutil.copy(path, folder / f"{path.stem.replace('-', '_')}.ko")
    names = "".join(f"{path.stem.replace('-', '_')}\n" for path in order)
    (root / "etc/xenlab.modules").write_text(names)


def add_small_guests(root: Path, work: Path) -> None:
    """Add the guests of a few KB, and what stands in for a device model."""
    for name, bits, target in (("nano", "--64", "elf_x86_64"), ("still", "--32", "elf_i386")):
        debian.output_of(["as", bits, "-o", work / f"{name}.o", HERE / f"guest/{name}.S"])
        linker = ["ld", "-m", target, "-nostdlib", "-N", "--no-warn-rwx-segments", "-s"]
        debian.output_of(
            [*linker, "-Ttext=0x100000", "-o", root / "guest" / name, work / f"{name}.o"]
        )
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
    debian.pack(guest, more / "linux.cpio", [("dev/console", 5, 1)])
    os.link(vmlinux, more / "vmlinux")
    debian.pack(work / "more", target)


def furnish(root: Path, work: Path, packages: dict[str, Path]) -> None:
    """Make dom0's files of the unpacked packages."""
    debian.prune(root, PRUNED)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    debian.unpack(packages[FLOCK], work / "flock")
    shutil.copy(work / "flock/usr/bin/flock", root / "usr/bin/flock")
    if not os.path.lexists(root / "usr/bin/python3"):
        (root / "usr/bin/python3").symlink_to("python3.11")
    debian.link_busybox(root)
    debian.compile_library(root, "usr/lib/python3.11")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    shutil.copy(HERE / "dom0/init", root / "init")
    (root / "init").chmod(0o755)
    (root / "usr/lib/xenlab").mkdir()
    for name in ("agent.py", "frames.py"):
        shutil.copy(COMMON / name, root / "usr/lib/xenlab")
    add_small_guests(root, work)


def build(target: Path, work: Path) -> Mapping[str, Path]:
    """Build the image into a folder."""
    kernel = debian.kernel_package()
    dom0 = [name for name in debian.closure(DOM0_PACKAGES) if name not in SKIPPED]
    packages = debian.fetch([*dom0, HYPERVISOR, FLOCK, kernel])
    root = work / "root"
    for name in dom0:
        debian.unpack(packages[name], root)
    debian.unpack(packages[HYPERVISOR], work / "hypervisor")
    debian.unpack(packages[kernel], work / "kernel")
    (xen,) = (work / "hypervisor/boot").glob("xen-*-amd64.gz")
    (target / "xen").write_bytes(gzip.decompress(xen.read_bytes()))
    (vmlinuz,) = (work / "kernel/boot").glob("vmlinuz-*")
    debian.extract_vmlinux(vmlinuz, target / "vmlinux")
    furnish(root, work, packages)
    copy_modules(work / "kernel", root)
    debian.pack(root, target / "dom0.cpio", [("dev/console", 5, 1), ("dev/null", 1, 3)])
    pack_linux_guest(root, work, target / "vmlinux", work / "more.cpio")
    parts = (target / "dom0.cpio", work / "more.cpio")
    (target / "dom0+linux.cpio").write_bytes(b"".join(part.read_bytes() for part in parts))
    return packages


def image() -> Path:
    """Return the folder of the image of these sources, built if it is not there."""
    return debian.image("xen", INPUTS, TOOLS, build)


if __name__ == "__main__":
    sys.exit(debian.told(image))
