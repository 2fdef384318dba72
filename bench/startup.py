"""What `homenode place` and `homenode-numad` cost as whole processes, beside a bare interpreter.

    python bench/startup.py [--runs 25]

CPU time (user and system) of the installed command for an 8-node `xl info -n` capture, text
output, and of `homenode-numad -w 4:1000` on this machine, in turn with `python -c pass`; the median
of the runs and the ratio; then the same with homenode as one file, beside that. The wheel is built
and installed into an environment of its own, so that byte code is what pip compiles. As root
homenode-numad writes its claim to /run/homenode, as it does.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
CAPTURE = ROOT / "tests/data/xen-captures/n8/empty/xl-info-n.txt"
GUEST = ROOT / "tests/data/xen-captures/n8/guests/c.cfg"


def cpu_ms(command: list[str]) -> float:
    """Run the command and return its CPU time."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=25)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(installed(Path(folder)), chosen.runs)


def installed(folder: Path) -> Path:
    """Build the wheel and the one file, install them, and return the folder of the commands."""
    quiet = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, *quiet, "wheel", "--no-deps", "-w", folder, ROOT], check=True)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    commands = folder / "env" / "bin"
    one_file = [ROOT / "packaging" / "pyz.py", commands / "homenode.pyz"]
    subprocess.run([sys.executable, *one_file], check=True)
    wheels = list(folder.glob("homenode-*.whl"))
    subprocess.run([commands / "python", *quiet, "install", *wheels], check=True)
    return commands


def compare(commands: Path, runs: int) -> None:
    """Run the two in turn and print the figures."""
    place = [str(commands / "homenode"), "place", "-c", f"capture:{CAPTURE}", str(GUEST)]
    bare = [str(commands / "python"), "-c", "pass"]
    numad = [str(commands / "homenode-numad"), "-w", "4:1000"]
    packed = [str(commands / "python"), str(commands / "homenode.pyz"), *place[1:]]
    runs_ms = [tuple(map(cpu_ms, (bare, place, numad, packed))) for _ in range(runs + 2)][2:]
    bare_ms, place_ms, numad_ms, packed_ms = map(median, zip(*runs_ms, strict=True))
    print(f"python -c pass   {bare_ms:7.1f} ms CPU")
    print(f"homenode place   {place_ms:7.1f} ms CPU")
    print(f"ratio            {median(b / a for a, b, *_ in runs_ms):7.2f} (to reach: at most 4)")
    print(f"homenode.pyz     {packed_ms:7.1f} ms CPU for the same")
    print(f"beside the wheel {median(d / b for _, b, _, d in runs_ms):7.2f}")
    print(f"homenode-numad   {numad_ms:7.1f} ms CPU (to reach: at most 100; numad sleeps 2000)")


if __name__ == "__main__":
    main()
