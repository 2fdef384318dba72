"""Look whether what is installed here is known to be vulnerable, consistent, declared and used.

    python -m proof.audit

``pip-audit`` asks the index of Python's packages for known vulnerabilities; from where it cannot
be asked nothing is known, which is said and is no failure. Offline ``pip check`` says whether the
versions go together, and ``deptry`` whether what the source imports is declared, and what is
declared imported.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BINDING = ("--package-module-name-map", "libvirt-python=libvirt")
"""Where it is not installed, nobody can tell what its module is called."""


def vulnerable() -> tuple[list[str], str]:
    """Return what is known to be vulnerable, and in one line what was looked at."""
    words = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--format", "json"]
    done = subprocess.run([*words, "--skip-editable"], capture_output=True, text=True, check=False)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = done.stderr.strip().splitlines() or ["it says nothing"]
        return [], f"pip-audit: nothing was audited: {last[-1][:200]}"
    # "Not found" is what it says of packages when the index does not answer its question.
    audited = [one for one in found if "vulns" in one]
    if not audited:
        return (
            [],
            f"pip-audit: the index does not answer: none of {len(found)} packages was audited",
        )
    bad = [
        f"{one['name']} {one['version']}: {vulnerability['id']}"
        for one in audited
        for vulnerability in one["vulns"]
    ]
    return bad, f"pip-audit: {len(audited)} of {len(found)} packages audited, {len(bad)} findings"


def offline(name: str, words: list[str]) -> tuple[bool, str]:
    """Run a check that needs no network; return whether it is content, and in one line what."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).strip().splitlines() or ["it says nothing"]
    told = "; ".join(lines) if done.returncode else lines[-1]
    return done.returncode == 0, f"{name}: {told}"


def main() -> int:
    """Be the command."""
    bad, told = vulnerable()
    print(told)
    print("".join(f"  {one}\n" for one in bad), end="")
    words = [sys.executable, "-m", "deptry", "src", "--no-ansi", "--known-first-party", "homenode"]
    content = True
    for name, command in (
        ("pip check", [sys.executable, "-m", "pip", "check"]),
        ("deptry", [*words, *BINDING]),
    ):
        is_content, told = offline(name, command)
        content = content and is_content
        print(told)
    return 1 if bad or not content else 0


if __name__ == "__main__":
    sys.exit(main())
