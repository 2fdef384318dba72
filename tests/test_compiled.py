"""The compiled wheel is of this platform, and gives the same events as the interpreted source.

It is built here from this source, beside it; where that cannot be done, the test says so.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCRIPT = """
import json
import sys
sys.path.insert(0, {tests!r})
from simulated import MS, cpus, credit, credit2, cycle, host, ideal, task
from homenode.scheduler import agenda, flat
from homenode.scheduler.codes import Kind

ground = host(nodes=3, cores=12, threads=2)
tasks = [
    cycle(at % 9, run=MS, sleep=2 * MS, random=True, threads_yield=1.3, start=at * MS // 7,
          soft=cpus(*range(24 * (at % 3), 24 * (at % 3) + 24)))
    for at in range(60)
]
tasks += [task(at % 9, start=at) for at in range(30)]
tasks += [task(at, Kind.YIELD, burst_ns=3 * MS, start=at) for at in range(5)]
tasks += [task(8, Kind.BATCH, burst_ns=40 * MS, hard=cpus(70, 71))]
told = {{"compiled": flat.COMPILED, "module": agenda.__file__}}
made = {{
    f"credit {{version}}": lambda version=version: credit(
        ground, tasks, version=version, seed=4, weights=[128] * 4 + [256] * 5, caps=[0] * 8 + [150]
    )
    for version in ("4.2", "4.3", "4.5", "4.13", "4.18")
}}
for arrangement in ("cpu", "core", "socket", "node", "all"):
    made[f"credit2 {{arrangement}}"] = lambda arrangement=arrangement: credit2(
        ground, tasks, arrangement=arrangement, seed=4, timer_delay_us=15,
        weights=[128] * 4 + [256] * 5, caps=[0] * 8 + [150],
    )
made["ideal"] = lambda: ideal(ground, tasks, seed=4)
for name, make in made.items():
    engine = make()
    pace = [[1.0 if node == at % 3 else 0.7 for node in range(3)] for at in range(len(tasks))]
    engine.set_pace([one for row in pace for one in row])
    engine.run(150 * MS)
    engine.set_affinity(0, cpus(*range(24)), cpus(1, 2))
    engine.run(200 * MS)
    told[name] = [engine.events, engine.happenings(), engine.reals("work")]
    told[name].append(engine.numbers("wait_ns"))
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Build the wheel elsewhere, and return the folder of the build, with what is in it."""
    if find_spec("Cython") is None or shutil.which("cc") is None:
        pytest.skip("Cython or a compiler is not there")
    folder = tmp_path_factory.mktemp("compiled")
    for name in ("src", "setup.py", "pyproject.toml", "README.md", "LICENSE", "packaging"):
        origin = ROOT / name
        copy = shutil.copytree if origin.is_dir() else shutil.copy
        copy(origin, folder / name)
    for left in folder.glob("src/*.egg-info"):
        shutil.rmtree(left)
    built = subprocess.run(
        [sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('dist')"],
        cwd=folder, env={**os.environ, "HOMENODE_COMPILED": "1", "CFLAGS": "-O0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr[-2000:]
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder


def told(path):
    script = SCRIPT.format(tests=str(ROOT / "tests"))
    ran = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout)


def test_the_compiled_build_gives_the_same_events(compiled):
    native, plain = told(compiled / "installed"), told(ROOT / "src")
    assert native.pop("compiled")
    assert not plain.pop("compiled")
    assert native.pop("module") != plain.pop("module")
    assert native.keys() == plain.keys()
    for name in plain:
        assert native[name] == plain[name], name


def test_declarations_of_the_build_are_not_left_behind(compiled):
    for place in ("src", "installed"):
        left = {path.name for path in (compiled / place).glob("homenode/scheduler/*.pxd")}
        assert left == {"flat.pxd"}


def test_no_c_is_in_the_wheel(compiled):
    assert not list((compiled / "installed").rglob("*.c"))


def test_the_wheel_says_what_it_runs_on(compiled):
    (wheel,) = (compiled / "dist").glob("*.whl")
    _, _, python, _, platform = wheel.stem.split("-")
    assert python == f"cp{sys.version_info.major}{sys.version_info.minor}"
    assert platform == sysconfig.get_platform().replace("-", "_").replace(".", "_")
