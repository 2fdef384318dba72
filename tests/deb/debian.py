"""A clean Debian 12 to install packages in: made by mmdebstrap, kept as a tarball, run by chroot.

The mirror is the one that apt of this machine is told to use. Each command has mounts of its own,
which end with it, whatever ends it.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from stat import S_ISDIR

from packages import BuildError, image, output_of, with_lists

SUITE = "bookworm"
THERE = "python3,python3-rich,man-db,bash-completion,systemd"
"""What is installed beside what every Debian has: homenode's own needs, and what its tests ask."""

_MOUNTS = """\
set -e
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/dev/shm"
root=$1
shift
exec chroot "$root" "$@"
"""
_OF_APT_AND_DPKG = re.compile(
    r"(var/(lib/(dpkg|apt)|cache/(apt|debconf|ldconfig)|log)|run|tmp|proc|dev|root)(/|$)"
    # The index of manual pages, which man-db writes anew.
    r"|var/cache/man(/|$)|etc/ld\.so\.cache$"
)


def mirror() -> str:
    """Return where apt has Debian's packages from."""
    wanted = ["indextargets", "--format", "$(SITE)", "Created-By: Packages", "Origin: Debian"]
    sites = with_lists(["apt-get", *wanted]).decode().split()
    for site in sites:
        if not site.rstrip("/").endswith("-security"):
            return site
    raise BuildError("apt has no mirror of Debian")


def root_image() -> Path:
    """Return the tarball of a clean Debian, fetched if it is not there."""
    if os.geteuid():
        raise BuildError("a Debian to install in is root's to make")
    tools = {"mmdebstrap": "mmdebstrap", "unshare": "util-linux", "dpkg-deb": "dpkg"}
    return image("deb", [Path(__file__)], tools, _bootstrap) / "root.tar"


def _bootstrap(target: Path, _work: Path) -> Mapping[str, Path]:
    output_of(
        ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={THERE}",
         "--dpkgopt=force-unsafe-io", SUITE, target / "root.tar", mirror()]
    )  # fmt: skip
    return {}


class Debian:
    """A Debian in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command in it, and return what came of it."""
        done = subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", _MOUNTS, "sh",
             str(self.root), *map(str, command)],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=240,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root",
                 "DEBIAN_FRONTEND": "noninteractive", "MANWIDTH": "100"},
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def files(self) -> dict[str, tuple[int, ...]]:
        """Return all that is not apt's or dpkg's own, by path: mode, owner, size and time."""
        found = {}
        for folder, names, files in os.walk(self.root):
            for name in (*names, *files):
                path = Path(folder, name)
                inside = str(path.relative_to(self.root))
                if not _OF_APT_AND_DPKG.match(inside):
                    found[inside] = _state(path)
        return found


def _state(path: Path) -> tuple[int, ...]:
    told = path.lstat()
    owned = (told.st_mode, told.st_uid, told.st_gid)
    return owned if S_ISDIR(told.st_mode) else (*owned, told.st_size, told.st_mtime_ns)


@contextmanager
def unpacked(tarball: Path) -> Iterator[Debian]:
    """Give a Debian of its own, and remove it afterwards.

    Raises `BuildError` where it cannot be run.
    """
    with tempfile.TemporaryDirectory(prefix="homenode-deb-") as folder:
        root = Path(folder) / "root"
        root.mkdir(mode=0o755)
        output_of(["tar", "-x", "-f", tarball, "-C", root, "--numeric-owner"])
        debian = Debian(root)
        tried = debian.run("true", check=False)
        if tried.returncode:
            reason = tried.stderr.strip().splitlines() or ["no reason given"]
            raise BuildError(f"no Debian can be run in a folder here: {reason[-1]}")
        yield debian
