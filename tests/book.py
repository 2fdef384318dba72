"""Runs what the documents show: every command, with its output compared.

A page is Markdown. What it shows in fences of ``console`` is run in order, in one shell and one
folder for the page, where ``examples`` are this project's:

    ```console
    $ homenode place -c capture:host web1.cfg
    web1: node 0
      ...
    ```

``...`` alone is any lines, within a line any text. Where a fence shows no output at all, that of
its commands is not compared. Comments that readers do not see say the rest:

    <!-- run: SHELL -->           run here, too, and not shown
    <!-- file: NAME -->           the next fence is put into that file
    <!-- status: 1 -->            of the last command of the next fence; all others end with 0
    <!-- not run: REASON -->      the next fence is not run
    <!-- runs on: xen n4 -->      what follows is run in that lab, and not by ``make docs``
    <!-- runs on: here -->        and what follows here again

    python tests/book.py --write PAGE...     puts what comes out now into the page, to be looked at
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if not {"api", "manual"} & set(page.parts)
)

_MARK = "@@@ {} {}"
_COMMENT = re.compile(r"<!-- (run|file|status|not run|runs on): (.*?) ?-->", re.DOTALL)
_COMMAND_LIKE = re.compile(r"^ {4,}(\$ |homenode |xl |virsh )")


class Command(NamedTuple):
    """A command of a page by the number of its line; `shown` is its output, None: not compared."""

    line: int
    text: str
    shown: tuple[str, ...] | None
    status: int = 0


HERE = ("here", "")


class Part(NamedTuple):
    """What a page wants run at one place: a lab and its topology, or here."""

    path: Path
    place: tuple[str, str]
    commands: tuple[Command, ...]


class Page(NamedTuple):
    """A page by what it wants run at each place; `skipped` are lines that are not, with reasons.

    `astray` are lines that show a command outside of a fence.
    """

    parts: tuple[Part, ...]
    skipped: tuple[tuple[int, str], ...]
    astray: tuple[int, ...]


class _Block(NamedTuple):
    """A comment, a fence or a line of a page; `kind` is what the first says of itself."""

    line: int
    kind: str
    text: str


def read(path: Path) -> Page:
    """Return what a page shows."""
    places: dict[tuple[str, str], list[Command]] = {}
    commands = places.setdefault(HERE, [])
    said: dict[str, str] = {}
    skipped, astray = [], []
    for line, kind, text in _blocks(path.read_text(encoding="utf-8").splitlines()):
        if kind == "line":
            astray += [line] if _COMMAND_LIKE.match(text) else []
        elif kind == "run":
            commands.append(Command(line, text, None))
        elif kind == "runs on":
            lab, _, topology = text.partition(" ")
            commands = places.setdefault((lab, topology), [])
        elif not kind.startswith("```"):
            said[kind] = text
        else:
            if "file" in said:
                file = f"cat > {said['file']} <<'@END@'\n{text}\n@END@"
                commands.append(Command(line, file, None))
            if kind == "```console" and "not run" in said:
                skipped.append((line, said["not run"]))
            elif kind == "```console":
                commands += _session(text.split("\n"), line + 1, int(said.get("status", 0)))
            said = {}
    parts = tuple(Part(path, place, tuple(found)) for place, found in places.items() if found)
    return Page(parts, tuple(skipped), tuple(astray))


def parts(kind: str) -> list[Part]:
    """Return what all pages want run in labs of that kind, or here."""
    return [part for path in PAGES for part in read(path).parts if part.place[0] == kind]


def _blocks(lines: list[str]) -> Iterator[_Block]:
    at = 0
    while at < len(lines):
        line, end = lines[at], at
        if line.startswith("<!-- "):
            end = next(number for number in range(at, len(lines)) if lines[number].endswith("-->"))
            found = _COMMENT.fullmatch("\n".join(lines[at : end + 1]))
            if found:
                yield _Block(at + 1, found[1], found[2])
        elif line.startswith("```"):
            end = next(no for no in range(at + 1, len(lines)) if lines[no].rstrip() == "```")
            yield _Block(at + 1, line.rstrip(), "\n".join(lines[at + 1 : end]))
        else:
            yield _Block(at + 1, "line", line)
        at = end + 1


def _session(lines: list[str], first: int, status: int) -> list[Command]:
    typed: list[tuple[int, list[str], list[str]]] = []
    ending = ""
    for number, line in enumerate(lines, first):
        if typed and ending:
            typed[-1][1].append(line)
            ending = "" if line == ending else ending
        elif typed and not typed[-1][2] and typed[-1][1][-1].endswith("\\"):
            typed[-1][1].append(line)
        elif line.startswith("$ "):
            typed.append((number, [line.removeprefix("$ ")], []))
            here = re.search(r"<<'(\w+)'", line)
            ending = here[1] if here else ""
        elif typed:
            typed[-1][2].append(line)
    compared = any(output for _, _, output in typed)
    return [
        Command(
            number,
            "\n".join(text),
            tuple(output) if compared else None,
            status if number == typed[-1][0] else 0,
        )
        for number, text, output in typed
    ]


def script(commands: tuple[Command, ...]) -> str:
    """Return shell that runs the commands, and prints a mark before the output of each."""
    return "".join(
        f"{{\n{command.text}\n}} >.printed 2>&1 </dev/null\n"
        f'printf "\\n{_MARK.format(number, "%d")}\\n" $?; cat .printed\n'
        for number, command in enumerate(commands)
    )


def outputs(printed: str, count: int) -> list[tuple[int, list[str]]]:
    """Return status and output of each command from what `script` printed."""
    parts = re.split(r"\n@@@ (\d+) (\d+)\n", f"\n{printed}")
    assert len(parts) == 3 * count + 1, printed[-2000:]
    return [
        (
            int(status),
            [line.rstrip() for line in output.removesuffix("\n").split("\n")]
            if output.strip()
            else [],
        )
        for status, output in zip(parts[2::3], parts[3::3], strict=True)
    ]


def differences(page: Part, came: list[tuple[int, list[str]]]) -> list[str]:
    """Return what came out other than the page shows."""
    found = []
    for command, (status, output) in zip(page.commands, came, strict=True):
        place = f"{page.path.relative_to(ROOT)}:{command.line}: {command.text}"
        if status != command.status:
            found.append(f"{place}\n  status {status}, not {command.status}:\n" + "\n".join(output))
        elif command.shown is not None and not matches(command.shown, output):
            found.append("\n".join([place, "  shown:", *command.shown, "  came:", *output]))
    return found


def matches(shown: tuple[str, ...], output: list[str]) -> bool:
    """Return whether an output is as it is shown, with ``...`` for what is left out."""
    pattern = ""
    for line in shown:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += re.escape(line.rstrip()).replace(r"\.\.\.", ".*") + r"\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in output)) is not None


def run_here(page: Part, folder: Path) -> list[tuple[int, list[str]]]:
    """Run a page's commands in an empty folder and return what came of each."""
    (folder / "examples").symlink_to(ROOT / "examples")
    (folder / "docs").symlink_to(ROOT / "docs")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("HOMENODE_")
    }
    done = subprocess.run(
        ["/bin/sh", "-c", script(page.commands)],
        cwd=folder,
        env=environment
        | {
            "HOME": str(folder),
            "XDG_STATE_HOME": str(folder / ".state"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
            "HOMENODE_PROJECT": str(ROOT),
        },
        capture_output=True,
        text=True,
        check=True,
        timeout=240,
    )
    return outputs(done.stdout, len(page.commands))


def run_in_lab(page: Part, lab: Any) -> list[tuple[int, list[str]]]:
    """Run a page's commands in a lab, in an empty folder of its own."""
    folder = f"/root/book-{page.path.stem}"
    text = f"rm -rf {folder}; mkdir -p {folder}; cd {folder}\n{script(page.commands)}"
    done = lab.run(["sh", "-c", text], timeout_s=900)
    return outputs(done.stdout, len(page.commands))


def written(page: Part, came: list[tuple[int, list[str]]]) -> str:
    """Return the page with the outputs that came; what matches stays as it is."""
    lines = page.path.read_text(encoding="utf-8").splitlines()
    for command, (_, output) in reversed(list(zip(page.commands, came, strict=True))):
        if command.shown is None or matches(command.shown, output):
            continue
        start = command.line - 1 + len(command.text.split("\n"))
        lines[start : start + len(command.shown)] = output
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Run pages, and with ``--write`` put what comes out into them."""
    failed = False
    for name in [word for word in arguments if word != "--write"]:
        here = [part for part in read(Path(name).resolve()).parts if part.place == HERE]
        if not here:
            continue
        (page,) = here
        with tempfile.TemporaryDirectory() as folder:
            came = run_here(page, Path(folder))
        found = differences(page, came)
        if found:
            sys.stdout.write("\n\n".join(found) + "\n")
        if "--write" in arguments:
            page.path.write_text(written(page, came), encoding="utf-8")
        failed |= bool(found)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
