#!/usr/bin/env python3
"""Build the image of the KVM lab from Debian's packages, unless it is there; print its folder.

When it cannot be done, one line on standard output says why, and the status is 1.

The image, in $XENLAB_DIR/kvm-image-DIGEST:
  vmlinux        the kernel, uncompressed
  initrd.cpio    busybox, and the modules that find the disk
  root.ext4      the host: libvirtd, virsh, QEMU, its Python binding, numactl, numad
  versions.json  the packages
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMON = HERE.parent / "common"
sys.path.append(str(COMMON))

import packages as debian  # noqa: E402 - found by the line before

INPUTS = [HERE / "build.py", *(HERE / "host").glob("*")]
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
    "as": "binutils",
    "ld": "binutils",
    "zstd": "zstd",
}
PACKAGES = [
    *("libvirt-daemon", "libvirt-daemon-driver-qemu", "libvirt-clients", "qemu-system-x86"),
    *("python3-libvirt", "python3-minimal", "libpython3.11-stdlib", "numactl", "numad"),
    *("busybox-static", "procps", "libc-bin"),
]
FLOCK = "util-linux"
# Depended on by packages, and never needed by the host while it runs.
SKIPPED = re.compile(
    r"^(perl.*|libperl.*|lib.*-perl|usrmerge|dpkg|tar|debconf|adduser|passwd|iso-codes|media-types"
    r"|readline-common|sensible-utils|gcc-12-base|libpam.*|libaudit-common|libsemanage.*|libsepol2"
    r"|ipxe-qemu|init-system-helpers|libcap2-bin|dmsetup|lsb-base|sysvinit-utils)$"
)
DISK_MODULES = ["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"]
MODULES = ["virtio_console"]
PRUNED = re.compile(
    r"^(usr/(share/(doc|man|locale|info|lintian|bug|zoneinfo|pixmaps|icons|applications"
    r"|python-wheels|debconf|gcc|perl5|bash-completion|gir-1.0|alsa|glvnd|drirc.d|i18n|libdrm"
    r"|vulkan|zsh|systemtap|polkit-1)(/|$)"
    r"|include(/|$)|games(/|$)"
    r"|share/qemu/(edk2|skiboot|s390|slof|u-boot|opensbi|hppa|openbios|palcode|qemu_vga|petalogix"
    r"|vgabios-(ati|qxl|vmware|virtio|ramfb|cirrus)|npcm|QEMU,|pxe-|efi-|firmware)"
    r"|lib/python3/dist-packages/.*\.egg-info"
    r"|lib/python3\.\d+/(lib2to3|pydoc_data|ensurepip|idlelib|turtledemo|tkinter|distutils|test"
    r"|config-[^/]*)(/|$)"
    r"|bin/(qemu-system-i386|qemu-system-x86_64-spice|perl.*)$"
    r"|lib/x86_64-linux-gnu/(gconv|perl-base|audit|dri|gstreamer1.0"
    r"|libvirt/connection-driver/libvirt_driver_(vbox|xen|lxc|network|nwfilter|interface|nodedev"
    r"|storage|secret)\.so|libvirt/storage-backend)(/|$))"
    r"|var/(lib/dpkg|cache)(/|$))"
)
FOLDERS = [
    *("dev", "proc", "sys", "run", "tmp", "root", "etc/libvirt/qemu", "var/lib/libvirt/qemu"),
    *("var/lib/guests", "var/log/libvirt/qemu", "var/cache/libvirt/qemu", "usr/lib/kvmlab"),
    "lib/kvmlab-modules",
]
FILES = {
    # libvirtd looks its usual user up before it reads qemu.conf.
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:64055:64055::/:/bin/false\n",
    "etc/group": "root:x:0:\ntty:x:5:\nlibvirt-qemu:x:64055:\n",
    "etc/hosts": "127.0.0.1 localhost host\n",
    "etc/machine-id": "6b766d6c61620000000000000000a11e\n",
}
ROMS = ("idle", "burn", "touch")
ROM_BYTES = 64 << 10
SPARE_MIB = 512
"""Free in the file system of the host."""
INITRD = """\
#!/bin/sh
export PATH=/bin
B=/bin/busybox
$B mount -t devtmpfs devtmpfs /dev
{load}
i=0; until [ -b /dev/vda ]; do i=$((i+1)); [ $i -gt 300 ] && break; $B sleep 0.1; done
$B mount -t ext4 -o noatime /dev/vda /new || echo "kvmlab-init FAILED to mount the disk"
$B umount /dev
exec $B switch_root /new /init
"""


def unpack_merged(package: Path, root: Path) -> None:
    """Unpack the files of a package through the links of a merged /usr."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as files:
        tar = ["tar", "-x", "-C", root, "--no-same-owner", "--keep-directory-symlink"]
        debian.output_of(tar, stdin=files.stdout)
    if files.returncode:
        raise debian.BuildError(f"{package.name} cannot be unpacked")


def furnish(root: Path, work: Path, modules: Sequence[Path]) -> None:
    """Make the host's files of the unpacked packages."""
    debian.prune(root, PRUNED)
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True, exist_ok=True)
    for link, target in (("var/run", "/run"), ("usr/bin/python3", "python3.11")):
        if not os.path.lexists(root / link):
            (root / link).symlink_to(target)
    for path in modules:
        shutil.copy(path, root / "lib/kvmlab-modules")
    (root / "etc/kvmlab.modules").write_text("".join(f"{path.stem}\n" for path in modules))
    debian.link_busybox(root)
    for name, text in FILES.items():
        (root / name).write_text(text)
    for name in ("qemu.conf", "libvirtd.conf"):
        shutil.copy(HERE / "host" / name, root / "etc/libvirt")
    for name in ("agent.py", "frames.py"):
        shutil.copy(COMMON / name, root / "usr/lib/kvmlab")
    shutil.copy(HERE / "host/init", root / "init")
    (root / "init").chmod(0o755)
    for name in ROMS:
        add_rom(HERE / f"host/{name}.S", root / f"var/lib/guests/{name}.rom", work)
    # libvirtd's plugins and QEMU start faster with a cache.
    subprocess.run(["/sbin/ldconfig", "-r", root], check=False)
    debian.compile_library(root, "usr/lib/python3.11", "usr/lib/python3")


def add_rom(source: Path, target: Path, work: Path) -> None:
    """Assemble a firmware that is all of a guest."""
    assembled = work / "rom.o"
    debian.output_of(["as", "--32", "-o", assembled, source])
    linker = ["ld", "-m", "elf_i386", "-Ttext=0", "-e", "0", "--oformat=binary"]
    debian.output_of([*linker, "-o", target, assembled])
    if target.stat().st_size != ROM_BYTES:
        raise debian.BuildError(f"{target.name} has {target.stat().st_size} bytes")


def pack_initrd(root: Path, work: Path, modules: Sequence[Path], target: Path) -> None:
    """Write a cpio that mounts the disk and goes on there."""
    top = work / "initrd"
    for folder in ("bin", "dev", "proc", "sys", "new", "mod"):
        (top / folder).mkdir(parents=True)
    shutil.copy(root / "usr/bin/busybox", top / "bin/busybox")
    (top / "bin/sh").symlink_to("busybox")
    for path in modules:
        shutil.copy(path, top / "mod")
    load = "\n".join(f"$B insmod /mod/{path.name}" for path in modules)
    (top / "init").write_text(INITRD.replace("{load}", load))
    (top / "init").chmod(0o755)
    debian.pack(top, target, [("dev/console", 5, 1), ("dev/null", 1, 3)])


def make_disk(root: Path, target: Path) -> None:
    """Write a file system with the host's files."""
    used = sum(path.lstat().st_size // 4096 + 1 for path in root.rglob("*")) * 4096
    size = f"{int(used * 1.05 / (1 << 20)) + SPARE_MIB}M"
    features = ["-O", "^has_journal,^metadata_csum,^resize_inode"]
    extended = ["-E", "root_owner=0:0,lazy_itable_init=1"]
    system = ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-m", "0", *features, *extended]
    debian.output_of([*system, "-d", root, target, size])


def build(target: Path, work: Path) -> Mapping[str, Path]:
    """Build the image into a folder; return the packages."""
    kernel = debian.kernel_package()
    names = [name for name in debian.closure(PACKAGES) if not SKIPPED.match(name)]
    packages = debian.fetch(list(dict.fromkeys([*names, FLOCK, kernel])))
    root = work / "root"
    for folder in ("bin", "sbin", "lib", "lib64"):
        (root / "usr" / folder).mkdir(parents=True)
        (root / folder).symlink_to(f"usr/{folder}")
    for name in names:
        unpack_merged(packages[name], root)
    debian.unpack(packages[FLOCK], work / "flock")
    shutil.copy(work / "flock/usr/bin/flock", root / "usr/bin/flock")
    debian.unpack(packages[kernel], work / "kernel")
    (vmlinuz,) = (work / "kernel/boot").glob("vmlinuz-*")
    debian.extract_vmlinux(vmlinuz, target / "vmlinux")
    disk = debian.load_order(work / "kernel", DISK_MODULES)
    more = [path for path in debian.load_order(work / "kernel", MODULES) if path not in disk]
    furnish(root, work, more)
    pack_initrd(root, work, disk, target / "initrd.cpio")
    make_disk(root, target / "root.ext4")
    return packages


def image() -> Path:
    """Return the folder of the image of these sources, built if it is not there."""
    return debian.image("kvm", INPUTS, TOOLS, build)


if __name__ == "__main__":
    sys.exit(debian.told(image))
