"""The Debian package in a clean Debian 12: installed, used, removed, and nothing left of it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from homenode import __version__
from homenode.cli.main import VERBS

ROOT = Path(__file__).parent.parent.parent
CAPTURE = ROOT / "tests" / "data" / "xen-captures" / "n8" / "guests"
HOST = "/tmp/host"  # noqa: S108 - of the other Debian
EXAMPLES = "/usr/share/doc/homenode/examples"
WANTS = "etc/systemd/system/multi-user.target.wants/homenode-keeper.service"
HAS_MANUAL = any((ROOT / "build" / "man").glob("*.1"))


@pytest.fixture
def clean(debian):
    """Give a Debian without homenode, and see to it that it is as it was afterwards."""
    purge(debian)
    before = debian.files()
    yield debian
    purge(debian)
    after = debian.files()
    assert sorted(before.keys() ^ after.keys()) == []
    assert [name for name in before if before[name] != after[name]] == []


@pytest.fixture(scope="module")
def installed(debian, package):
    """Give a Debian with homenode, installed as a user would; what is tried does not change it."""
    install(debian, package)
    shutil.copytree(CAPTURE, debian.root / "tmp/host")
    return debian


def install(debian, package, *options):
    shutil.copy(package, debian.root / "tmp")
    apt(debian, "install", *options, f"/tmp/{package.name}")  # noqa: S108 - the same
    (debian.root / "tmp" / package.name).unlink()


def apt(debian, *words):
    return debian.run("apt-get", "-qy", "-o", "Dpkg::Use-Pty=0", *words).stdout


def purge(debian):
    debian.run("dpkg", "--purge", "homenode")


def test_commands_run(installed):
    def homenode(*arguments):
        return installed.run("homenode", *arguments).stdout

    assert homenode("--version") == f"homenode {__version__}\n"
    placed = json.loads(homenode("place", "-c", f"capture:{HOST}", "--json", f"{HOST}/a.cfg"))
    assert placed["guest"] == "a"
    assert "node 7" in homenode("topology", "-c", f"capture:{HOST}")
    assert "created on node" in homenode("create", "-c", "sim:try", f"{EXAMPLES}/guests/web1.cfg")
    asked = ["--seeds", "2", "--duration", "100ms", "--workers", "2", "--json"]
    told = json.loads(homenode("simulate", f"{EXAMPLES}/simulation/drift.toml", *asked))
    assert len(told["seeds"]) == 2
    assert "homenode-numad" in installed.run("homenode-numad", "--version").stdout
    for verb in VERBS:
        assert "usage: homenode" in homenode(verb, "--help")


def test_byte_code_is_made_once_and_for_all_users(installed):
    (made,) = installed.root.glob("usr/lib/python3/dist-packages/homenode/cli/__pycache__/main.*")
    assert made.suffix == ".pyc"
    before = installed.files()
    installed.run("homenode", "policies")
    assert installed.files() == before


def test_nothing_is_enabled(installed):
    assert (installed.root / "usr/lib/systemd/system/homenode-keeper.service").exists()
    enabled = installed.run("systemctl", "is-enabled", "homenode-keeper.service", check=False)
    assert enabled.stdout == "disabled\n"
    assert not (installed.root / "etc/libvirt").exists()
    assert (installed.root / f"{EXAMPLES}/kvm/hook".lstrip("/")).exists()
    assert installed.run("dpkg-divert", "--list", "*numad*").stdout == ""
    assert not (installed.root / "etc/homenode").exists()


def test_the_unit_is_one_that_systemd_takes(installed):
    done = installed.run(
        "systemd-analyze", "verify", "--man=no", "homenode-keeper.service", check=False
    )
    if "Failed to" in done.stderr and "homenode-keeper" not in done.stderr:
        pytest.skip(f"systemd-analyze does not run here: {done.stderr.splitlines()[0]}")
    assert [line for line in done.stderr.splitlines() if "homenode" in line] == []
    assert done.returncode == 0


def test_bash_completes(installed):
    script = (
        "source /usr/share/bash-completion/bash_completion; _completion_loader homenode;"
        " COMP_LINE='homenode place --policy=sp' COMP_POINT=26"
        ' COMP_WORDS=(homenode place --policy = sp) COMP_CWORD=4; _homenode; echo "$COMPREPLY";'
        " _completion_loader homenode-numad; complete -p homenode-numad"
    )
    first, second = installed.run("bash", "-c", script).stdout.splitlines()
    assert first == "spread"
    assert "-w" in second


@pytest.mark.skipif(not HAS_MANUAL, reason="make man has not been run")
def test_there_is_a_manual_of_everything(installed):
    pages = ["homenode", "homenode.toml", "homenode-numa", "homenode-numad"]
    for page in (*pages, *(f"homenode-{verb}" for verb in VERBS)):
        assert installed.run("man", "-w", page).stdout.startswith("/usr/share/man/man")
    shown = installed.run("man", "homenode-place").stdout
    assert VERBS["place"].split(",")[0] in shown
    assert "--policy" in shown


def test_what_it_depends_on_cannot_be_removed_alone(installed):
    would = installed.run("apt-get", "-s", "remove", "python3-rich").stdout
    assert "Remv homenode" in would


def test_another_installation_changes_nothing(installed, package):
    before = of_dpkg(installed)
    install(installed, package, "--reinstall")
    assert of_dpkg(installed) == before


def of_dpkg(debian):
    return {name: at for name, at in debian.files().items() if "__pycache__" not in name}


def test_nothing_is_left(clean, package):
    install(clean, package)
    assert clean.run("homenode", "policies").stdout
    apt(clean, "remove", "homenode")
    assert not [
        path for path in clean.root.glob("usr/**/*homenode*") if "lib/dpkg" not in str(path)
    ]


def test_removal_undoes_what_the_administrator_made_of_it(clean, package):
    """As docs/kvm.md and docs/keeper.md say: numad's place, the unit, the settings, the hook."""
    install(clean, package)
    root = clean.root
    (root / "usr/bin/numad").write_text("#!/bin/sh\necho the real one\n")
    (root / "usr/bin/numad").chmod(0o755)
    clean.run(
        "sh", "-c",
        "dpkg-divert --local --rename --divert /usr/bin/numad.distrib --add /usr/bin/numad"
        ' && ln -s "$(command -v homenode-numad)" /usr/bin/numad'
        " && mkdir -p /etc/libvirt/hooks/qemu.d /etc/homenode /run/homenode"
        f" && cp {EXAMPLES}/kvm/hook /etc/libvirt/hooks/qemu.d/homenode"
        " && chmod 755 /etc/libvirt/hooks/qemu.d/homenode"
        " && homenode keep --settings >/etc/homenode/homenode.toml"
        " && systemctl enable homenode-keeper.service && touch /run/homenode/ledger",
    )  # fmt: skip
    assert (root / WANTS).is_symlink()
    assert "homenode-numad" in clean.run("numad", "-V").stdout
    told = apt(clean, "remove", "homenode")
    assert "numad is in its own place again" in told
    assert "/etc/libvirt/hooks/qemu.d/homenode does nothing any more" in told
    assert clean.run("numad", "-w", "1").stdout == "the real one\n"
    # Guests start although libvirt still calls the hook.
    hook = clean.run("/etc/libvirt/hooks/qemu.d/homenode", "web1", "prepare", "begin", "-")
    assert "not found" in hook.stderr
    assert not (root / WANTS).is_symlink()
    assert (root / "etc/homenode/homenode.toml").exists(), "settings stay until purge"
    apt(clean, "purge", "homenode")
    assert not (root / "etc/homenode").exists()
    assert not (root / "run/homenode").exists()
    # What is the administrator's own.
    (root / "usr/bin/numad").unlink()
    shutil.rmtree(root / "etc/libvirt")


@pytest.mark.skipif(shutil.which("lintian") is None, reason="there is no lintian")
@pytest.mark.skipif(not HAS_MANUAL, reason="make man has not been run")
def test_lintian_has_nothing_to_say(package):
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on=error,warning", package],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "")
