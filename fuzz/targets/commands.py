"""The command as a whole, in this process: what it prints, and how it ends."""

import contextlib
import io
import json

from fuzz.oracle import Defect
from fuzz.seeds import argument, chosen, for_reader
from fuzz.target import Target
from fuzz.targets import libvirt, machines, xen
from fuzz.workplace import FOLDER
from homenode.cli.main import main
from homenode.errors import ExitStatus

_XEN, _KVM, _GIVEN = FOLDER / "xen.toml", FOLDER / "kvm.toml", FOLDER / "given"
_XEN.write_text("name = 'x'\nhypervisor = 'Xen 4.17'\nnodes = 3\ncores = 2\nmemory = '4GiB'\n")
_KVM.write_text(
    "name = 'k'\nhypervisor = 'KVM'\nnodes = 3\ncores = 2\nmemory = '4GiB'\n"
    "[huge_pages]\n'2MiB' = 512\n"
)
_ON_XEN = ("-c", f"capture:{_XEN}")
_ON_KVM = ("-c", f"capture:{_KVM}")
_THERE = ("-c", f"capture:{_GIVEN}")
_GUEST = str(_GIVEN)

_CALLS = (
    ("place", *_ON_XEN, _GUEST),
    ("place", *_ON_XEN, "--json", _GUEST),
    ("place", *_ON_XEN, "--config", _GUEST),
    ("explain", *_ON_XEN, _GUEST),
    ("place", *_ON_KVM, _GUEST),
    ("place", *_ON_KVM, "--json", _GUEST),
    ("place", *_ON_KVM, "--config", _GUEST),
    ("place", *_ON_KVM, "--virtual-nodes", "auto", "--huge-pages", "2MiB", _GUEST),
    ("topology", *_THERE),
    ("topology", *_THERE, "--json"),
    ("doctor", *_THERE),
    ("list", *_THERE),
    ("check", *_THERE),
)
_FOR_XEN, _FOR_KVM, _FOR_HOSTS = range(4), range(4, 8), range(8, 13)
_ANSWERS = {ExitStatus.DONE, ExitStatus.DOES_NOT_FIT, ExitStatus.MENDING_NEEDED}
_REFUSALS = {ExitStatus.BAD_INPUT, ExitStatus.HYPERVISOR}
_BARRED = (b"w", b"/", b"-c", b"h", b"\0")
"""What may be part of an option that writes, names another host or file, or prints the help."""


def _files(data: bytes) -> None:
    which, rest = chosen(data, len(_CALLS))
    _GIVEN.write_bytes(rest)
    _run(_CALLS[which])


def _words(data: bytes) -> None:
    """Give `place` any words that keep it from files, and from standard input."""
    words = data.split(b"\n")
    if any(one in data for one in _BARRED) or b"-" in words:
        return
    _GIVEN.write_text("name = 'a'\nmemory = 512\n")
    _run(("place", *_ON_XEN, _GUEST, *map(argument, words)))


def _run(words: tuple[str, ...]) -> None:
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status: object = main(list(words))
    except SystemExit as end:
        status = end.code
    told = err.getvalue()
    if not ("--config" in words or all(map(str.isprintable, (out.getvalue() + told).split("\n")))):
        raise Defect(f"{words[0]}: prints what may steer a terminal: {out.getvalue()[:300]!r}")
    if status in _ANSWERS:
        if "--json" in words:
            json.loads(out.getvalue())
    elif status not in _REFUSALS:
        raise Defect(f"{words[0]}: exit status {status!r}")
    elif out.getvalue() or not told.startswith("homenode: ") or told.count("\n") != 1:
        raise Defect(f"{words[0]}: status {status}, not one line: {told[:300]!r}")


def _file_seeds() -> list[bytes]:
    given = (
        (_FOR_XEN, xen.configs()),
        (_FOR_KVM, libvirt.guests()),
        (_FOR_HOSTS, machines.any_host()),
    )
    return [
        for_reader(which, len(_CALLS), content)
        for readers, contents in given
        for content in contents
        for which in readers
    ]


def _word_seeds() -> list[bytes]:
    calls = (
        "--json",
        "--nodes\n0-1",
        "--policy\nnodes,-usable~4G",
        "--exclude\n3\n--all",
        "--near\n0000:81:00.0",
        "--tier\ncxl:1GiB\n--spill",
        "--seconds\n2",
        "--empty",
    )
    return [call.encode() for call in calls]


TARGETS = (
    Target(
        "command_files",
        _files,
        ("cli.main", "cli.common", "cli.place", "cli.topology", "cli.explain", "cli.decision_text"),
        _file_seeds,
        f"{xen.SETTINGS} {libvirt.WORDS}",
        shape="settings",
        most_bytes=1100,
        share=0.2,
    ),
    Target(
        "command_words",
        _words,
        ("cli.main", "cli.common", "cli.place"),
        _word_seeds,
        "--json --nodes --policy --exclude --apart --near --devices --huge-pages --tier --spill"
        " --virtual-nodes --seconds --all --empty \\n =",
        shape="plain",
        most_bytes=128,
        share=0.2,
    ),
)
