"""What strangers install: the source distribution, the wheel, and the one file."""

import ast
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest

from homenode import __version__
from homenode.cli.main import VERBS

ROOT = Path(__file__).parent.parent
UNEVEN = f"capture:{ROOT / 'examples' / 'hosts' / 'uneven.toml'}"
GUEST = ROOT / "examples" / "guests" / "web1.cfg"
MADE = ("PKG-INFO", "setup.cfg", "src/homenode.egg-info/")
"""What setuptools adds to a source distribution."""


def run(*command, **options):
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=False, timeout=120,
        **options,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Return a copy of the files of this project, in which nothing has been built."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("only a checkout tells which files are the project's")
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    folder = tmp_path_factory.mktemp("tree")
    for name in run(*listed, cwd=ROOT).rstrip("\0").split("\0"):
        if (ROOT / name).exists():  # or it is about to be removed
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def built(kind, folder, target):
    """Build by the hook that pip and build call, without a network."""
    environment = {name: at for name, at in os.environ.items() if name != "HOMENODE_COMPILED"}
    script = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    run(sys.executable, "-c", script, cwd=folder, env=environment)
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="module")
def sdist(tree, tmp_path_factory):
    before = names_in(tree)
    made = built("sdist", tree, tmp_path_factory.mktemp("sdist"))
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(made) as archive:
        archive.extractall(folder, filter="data")
    return before, folder / f"homenode-{__version__}"


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    _, folder = sdist
    return built("wheel", folder, tmp_path_factory.mktemp("wheel"))


def names_in(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_the_source_distribution_is_the_whole_tree(sdist):
    before, folder = sdist
    after = {name for name in names_in(folder) if not name.startswith(MADE)}
    assert after == before, "MANIFEST.in says what is in it"


def test_its_wheel_is_the_one_of_the_tree(tree, wheel, tmp_path):
    beside = built("wheel", tree, tmp_path)
    assert beside.name == wheel.name == f"homenode-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(beside) as other:
        assert {name: one.read(name) for name in one.namelist()} == {
            name: other.read(name) for name in other.namelist()
        }


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Return the folder of commands of a fresh environment with the wheel and what it needs."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", "--no-deps",
        "--quiet", "--disable-pip-version-check", wheel)  # fmt: skip
    needed = folder / "needed"
    needed.mkdir()
    for name in ("rich", "markdown-it-py", "mdurl", "pygments"):
        for package in {Path(str(file)).parts[0] for file in distribution(name).files or ()}:
            place = Path(str(distribution(name).locate_file(package)))
            if place.is_dir() and package != "..":
                (needed / package).symlink_to(place)
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "needed.pth").write_text(f"{needed}\n")
    return folder / "bin"


@pytest.fixture(scope="module")
def pyz(tmp_path_factory):
    target = tmp_path_factory.mktemp("pyz") / "homenode.pyz"
    run(sys.executable, ROOT / "packaging" / "pyz.py", target)
    return target


@pytest.fixture(params=["wheel", "pyz"])
def homenode(request, tmp_path):
    """Return how homenode is called, of each kind."""
    if request.param == "pyz":
        # Without any package that is installed, and from elsewhere.
        command = [sys.executable, "-I", "-S", request.getfixturevalue("pyz")]
    else:
        command = [request.getfixturevalue("installed") / "homenode"]
    environment = {name: at for name, at in os.environ.items() if not name.startswith("HOMENODE")}
    environment |= {"XDG_STATE_HOME": str(tmp_path / "state"), "PYTHONWARNINGS": "error"}

    def call(*arguments):
        return run(*command, *arguments, cwd=tmp_path, env=environment)

    call.command, call.options = [*map(str, command)], {"cwd": tmp_path, "env": environment}
    return call


def test_it_runs_where_it_is_installed(homenode):
    assert homenode("--version") == f"homenode {__version__}\n"
    decision = json.loads(homenode("place", "-c", UNEVEN, "--json", GUEST))
    assert decision["fits"]
    # Drawn by rich; of a host, and of work, that are files of the package.
    assert "socket 0" in homenode("topology", "-c", "sim:new")
    assert "socket 0" in homenode("topology", "-c", UNEVEN)
    assert "epyc" in homenode("simulate", "--list").lower()
    assert "created on node" in homenode("create", "-c", "sim:new", GUEST)
    assert "web1" in homenode("list", "-c", "sim:new")
    assert set(homenode("numad", "-w", "1:64").strip()) <= set("0123456789,-")


@pytest.mark.parametrize("homenode", ["pyz"], indirect=True)
def test_every_verb_is_in_the_one_file(homenode):
    # Help imports what the verb is made of.
    for verb in VERBS:
        assert "usage: homenode" in homenode(verb, "--help")


def test_processes_compute_where_it_is_installed(homenode):
    scenario = ROOT / "examples" / "simulation" / "drift.toml"
    asked = ["simulate", scenario, "--seeds", "2", "--duration", "100ms", "--json"]
    alone, beside = (json.loads(homenode(*asked, "--workers", number)) for number in (1, 2))
    assert alone["seeds"] == beside["seeds"]
    assert alone["variants"] == beside["variants"]


def test_the_keeper_runs_where_it_is_installed(homenode):
    homenode("create", "-c", "sim:kept", GUEST)
    command = [*homenode.command, "keep", "-c", "sim:kept"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **homenode.options) as keeper:
        assert keeper.stdout.readline().startswith("start:")
        keeper.send_signal(signal.SIGTERM)
        told, _ = keeper.communicate(timeout=60)
    assert told.splitlines()[-1].startswith("stop:")
    assert keeper.returncode == 0


def test_the_unit_and_the_licence_come_with_the_wheel(installed):
    folder = installed.parent
    assert (folder / "lib/systemd/system/homenode-keeper.service").exists()
    (licence,) = folder.glob(f"lib/python*/site-packages/homenode-{__version__}.*/licenses/LICENSE")
    assert licence.read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert run(installed / "homenode-numad", "-V").startswith(f"homenode-numad {__version__}")


def test_the_one_file_is_the_same_whenever_it_is_made(pyz, tmp_path):
    run(sys.executable, ROOT / "packaging" / "pyz.py", tmp_path / "again.pyz",
        env={**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo"})  # fmt: skip
    first, again = (
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (pyz, tmp_path / "again.pyz")
    )
    assert first == again


def test_the_one_file_has_the_licences_of_what_is_in_it(pyz):
    with zipfile.ZipFile(pyz) as archive:
        names = archive.namelist()
        licences = [name for name in names if name.startswith("rich-") and "LICENSE" in name]
        assert licences, "rich is MIT"
        assert archive.read("LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_one_file_tells_an_old_python_that_it_is_old(pyz):
    with zipfile.ZipFile(pyz) as archive:
        ast.parse(archive.read("__main__.py"), feature_version=(3, 4))
    pretence = "import runpy, sys; sys.version_info = (3, 10, 0); runpy.run_path(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", pretence, pyz], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "needs Python 3.11 to 3.14, and this is 3.10" in done.stderr
