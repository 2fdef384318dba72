"""What the verbs share: their options, their input files, and how they print."""

import argparse
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from homenode.drivers.base import Driver
from homenode.errors import HomenodeError

if TYPE_CHECKING:
    from types import FrameType

    from homenode.asking import Overrides


_LARGEST_FILE = 4 << 20
"""In bytes; a guest config has a few KiB."""

_INTERRUPT_AGAIN_S = 0.01


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    # Told the width, argparse does not import shutil (3 ms) to find it out; it makes a formatter
    # for every argument that is added.
    return argparse.RawDescriptionHelpFormatter(prog, width=100)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse prints the whole usage and the error below it; one line is enough.
        hint = f"see {self.prog} --help"
        if message.endswith("expected one argument"):
            # It takes -usable for an option.
            hint = f"a value that begins with - is written --policy=-usable; {hint}"
        option, ignored, value = message.partition("ignored explicit argument ")
        if ignored:
            message = f"{option}takes no value, and {value} was given"
        raise HomenodeError(message, hint=hint)


def parser(verb: str, purpose: str, *, examples: str) -> argparse.ArgumentParser:
    """Return the parser of a verb, with the options that every verb has.

    `examples` are whole lines, as they are typed.
    """
    made = _Parser(
        prog=f"homenode {verb}",
        description=purpose,
        epilog=f"examples:\n{examples}",
        formatter_class=_help_formatter,
        allow_abbrev=False,
    )
    made.add_argument("--json", action="store_true", help="print a documented JSON document")
    return made


def add_connection(made: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add ``-c URI``; `several` lets it be given again, and makes it a list."""
    made.add_argument(
        "-c",
        "--connect",
        metavar="URI",
        action="append" if several else "store",
        # A default of argparse's own would be added to.
        default=[] if several else default_uri(),
        help="the host: xen:///, xen+ssh://[user@]host/, any libvirt URI (qemu:///system),"
        " sim:NAME, capture:PATH, local:/// (default: $HOMENODE_URI, else this dom0, else libvirt)"
        + ("; given again, the guest goes to one of the hosts" if several else ""),
    )


def default_uri() -> str | None:
    """Return the host that is meant if none is named; None: look for one."""
    return os.environ.get("HOMENODE_URI")


def add_wishes(made: argparse.ArgumentParser) -> None:
    """Add what can be asked of a placement beside the guest's file."""
    made.add_argument(
        "-p",
        "--policy",
        metavar="P",
        help="a policy, or an order of facts such as 'nodes,distance,-usable~4G' "
        "(default: the file's nodes_policy, else balanced; see homenode policies)",
    )
    made.add_argument(
        "-n",
        "--nodes",
        metavar="L",
        help="these nodes (0-1,^3), any so many ('2 nodes'), or auto; outranks the file",
    )
    made.add_argument(
        "--exclude", metavar="L", help="these nodes (2,4-5) give neither cpus nor memory"
    )
    made.add_argument(
        "--apart-from",
        dest="apart",
        action="append",
        default=[],
        metavar="GUEST",
        help="not on the nodes of that guest; may be given again",
    )
    _add_shape(made)
    made.add_argument("--whole-cores", action="store_true", help="a physical core for each vcpu")
    made.add_argument(
        "--exclusive", action="store_true", help="cpus that no other guest is pinned to"
    )
    hold = made.add_mutually_exclusive_group()
    hold.add_argument(
        "--hold",
        action="store_true",
        default=None,
        help="hold it to its nodes by hard affinity (the default for one node under credit2, where"
        " soft affinity does not)",
    )
    hold.add_argument("--no-hold", action="store_false", dest="hold", help="only prefer them")


def _add_shape(made: argparse.ArgumentParser) -> None:
    made.add_argument(
        "--near",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="near that device of the host (0000:41:00.0), beside those that the guest gets",
    )
    made.add_argument(
        "--devices",
        choices=("required", "preferred", "ignored"),
        help="being near its devices (default: the file's word, else preferred)",
    )
    made.add_argument(
        "--huge-pages", dest="pages", metavar="SIZE", help="memory from pools of such pages (2MiB)"
    )
    made.add_argument(
        "--spill",
        action="store_true",
        help="what the cpu nodes have too little of may come from nodes without cpus",
    )
    made.add_argument(
        "--tier",
        metavar="KIND[:SIZE]",
        help="so much of its memory (or all) from nodes without cpus of that kind: cxl:8GiB",
    )
    made.add_argument(
        "--virtual-nodes",
        choices=("auto", "none"),
        help="auto: if it fits no single node, give it a virtual node on each of its nodes",
    )


def overrides(chosen: argparse.Namespace) -> "Overrides":
    """Return what the options of `add_wishes` say."""
    from homenode.asking import Overrides  # noqa: PLC0415 - not every verb asks for a guest

    same = {name: getattr(chosen, name) for name in Overrides._fields}
    return Overrides(**same | {"apart": tuple(chosen.apart), "near": tuple(chosen.near)})


def connect(uri: str | None) -> Driver:
    """Return the driver for a connection URI."""
    from homenode.drivers.connect import driver_for  # noqa: PLC0415 - not every verb connects

    return driver_for(uri)


def read_text(path: str) -> str:
    """Return the text of the file at `path` (``-`` is standard input), UTF-8 in any locale."""
    name = "standard input" if path == "-" else path or "''"
    try:
        if path == "-":
            content = _standard_input()
        else:
            with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms
                content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise HomenodeError(f"{name}: is longer than {_LARGEST_FILE >> 20} MiB")
        # Line ends stay as they are: xl does not take those of DOS, and the reader says so.
        return content.decode()
    except UnicodeDecodeError as error:
        raise HomenodeError(f"{name}: is no text: byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise HomenodeError(f"{name}: {error.strerror}") from None


def write_text(path: str, text: str) -> None:
    """Put `text` in the place of the file at `path`, as a whole or not at all; its mode stays."""
    import tempfile  # noqa: PLC0415 - only where a file is changed

    if path == "-":
        raise HomenodeError("standard input cannot be written to", hint="print it with --config")
    path = os.path.realpath(path)
    try:
        before = os.stat(path)  # noqa: PTH116 - as above
        _refuse_to_write(path, before.st_mode)
        folder, name = os.path.split(path)
        handle, beside = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            os.chmod(beside, before.st_mode & 0o7777)  # noqa: PTH101 - as above
            if os.geteuid() == 0:
                os.chown(beside, before.st_uid, before.st_gid)
            os.replace(beside, path)  # noqa: PTH105 - as above
        except BaseException:
            os.unlink(beside)  # noqa: PTH108 - as above
            raise
    except OSError as error:
        raise HomenodeError(f"{path}: {error.strerror}: it is as it was") from None


def _refuse_to_write(path: str, mode: int) -> None:
    # A file is replaced, which needs no leave of its own; to root everything is writable anyway.
    from stat import S_ISREG  # noqa: PLC0415 - as above

    if not S_ISREG(mode):
        raise HomenodeError(f"{path}: is no plain file", hint="print it with --config")
    if not mode & 0o222:
        raise HomenodeError(f"{path}: is read-only", hint="print it with --config, or chmod u+w")


def name_of(argument: str) -> str:
    """Return the name of a guest as it was typed, where the locale cannot tell what that was."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return os.fsencode(argument).decode(errors="replace")
    return argument


def _standard_input() -> bytes:
    if sys.stdin is None:
        raise HomenodeError("standard input: is closed", hint="- reads a guest config from it")
    return sys.stdin.buffer.read(_LARGEST_FILE + 1)


class Interrupted(KeyboardInterrupt):
    """The command was told to end.

    A class of its own because Python, once a KeyboardInterrupt itself has passed through an `exec`
    or `eval` of text (every named tuple is made by one), kills itself by SIGINT when it ends, even
    where it was caught; see ``run_eval_code_obj`` in CPython's Python/pythonrun.c.
    """


def end_as_interrupted() -> None:
    """Have being told to end (`kill`, a terminal that goes away) do what Ctrl-C does.

    So what was begun is taken back, and what was done is told. What is to be ignored (`nohup`, or
    a job in the background of a script) stays ignored.
    """
    import signal  # noqa: PLC0415 - where something changes

    def interrupt(_number: int, frame: "FrameType | None") -> None:
        if frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
            # Python's import ends some of its locks where an exception is printed and lost.
            signal.setitimer(signal.ITIMER_REAL, _INTERRUPT_AGAIN_S)
            return
        raise Interrupted

    signal.signal(signal.SIGALRM, interrupt)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def print_json(document: object) -> None:
    """Print `document` as JSON, for programs."""
    import json  # noqa: PLC0415 - only where asked for

    print(json.dumps(document, indent=2))


def colours_wanted() -> bool:
    """Return whether to print colours: only on a terminal, and not against NO_COLOR."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return sys.stdout.isatty() and not plain
