"""``homenode VERB``: finds the verb's module, and turns what happens into an exit status.

Only the module of the verb in question is imported: help for all of them needs none of them.
"""

import gc
import io
import os
import sys
from importlib import import_module

from homenode import __version__
from homenode.cli.complaint import complain
from homenode.errors import ExitStatus, HomenodeError

VERBS = {
    "topology": "draw a host: its nodes, cpus, memory, distances and guests",
    "place": "decide where a guest would go, and change nothing",
    "create": "decide, claim, create the guest there, and look where it went",
    "destroy": "stop a guest at once",
    "list": "list the guests and where they are",
    "affinity": "show or change the node affinity of a guest, on-line",
    "check": "tell which guests are not as they should be; exit status 4 if any",
    "explain": "tell why a guest goes where it goes, or is where it is",
    "doctor": "tell what works against placement on a host, and how to mend it",
    "keep": "hold guests at home while it has room, let them spread when it has not",
    "top": "watch nodes and guests live: loads, residency, and what the keeper does",
    "simulate": "predict what guests would get done, by scheduler, affinity and placement",
    "replay": "compare policies on a trace of arrivals and departures over many hosts",
    "tax": "measure what misplacement costs on this machine: the series' four cases",
    "policies": "list the policies and the facts they are made of",
    "claims": "show the memory that is promised and not yet seen",
    "xl": "be xl, but for guests that homenode places",
    "numad": "answer as numad -w does: where should a guest be started?",
    "completion": "print the code by which bash, zsh or fish completes command lines",
    "hook": "be libvirt's hook: keep the ledger true, give moved guests nodes of this host",
}
"""Every verb and what it does; the module of a verb is named as it is."""

_USAGE = """\
usage: homenode VERB [OPTION]...

homenode places virtual machines on the NUMA nodes of a host, and explains every choice.

verbs:
{verbs}

{name} VERB --help    options and examples of a verb
{name} --version

examples:
  homenode topology -c capture:FILE            draw the host behind saved `xl info -n` output
  homenode place -c capture:FILE guest.cfg     where would this guest go?
  homenode -c URI -c URI place guest.cfg       on which of these hosts, and where there?
  homenode create -c sim:try guest.cfg         create it on a simulated host
"""


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<10} {purpose}" for verb, purpose in VERBS.items())
    return _USAGE.format(verbs=verbs, name="homenode")


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    _mend_streams()
    try:
        status = _status(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has seen enough.
        _print_nowhere()
        return ExitStatus.DONE
    except OSError as error:
        # Whoever reads or writes a file says so himself: what is left is the output.
        _print_nowhere()
        place = error.filename or "standard output: cannot write to it"
        complain(f"{place}: {error.strerror or error}")
        return ExitStatus.BAD_INPUT
    return status


def _status(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except HomenodeError as error:
        complain(str(error))
        return error.exit_status
    except KeyboardInterrupt as interrupt:
        complain("; ".join(("interrupted", *map(str, interrupt.args))))
        return ExitStatus.INTERRUPTED
    except ModuleNotFoundError as error:
        # Where homenode was copied and not installed, all but pictures works without it.
        if (error.name or "").partition(".")[0] != "rich":
            raise
        complain(
            "rich, which draws this, is not installed; pip install rich, or apt install"
            " python3-rich; --json needs neither"
        )
        return ExitStatus.BAD_INPUT


def _mend_streams() -> None:
    # Python has None for a stream that was closed, and an error for a letter that the encoding of
    # the terminal lacks: neither may keep a command from doing what it was told.
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for good
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - for good
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _print_nowhere() -> None:
    # What is left in the buffer would be complained of once more when Python ends.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        if arguments[1:2] and arguments[1] in VERBS:
            return _run([arguments[1], "--help"])
        print(_usage(), end="")
        return ExitStatus.DONE if arguments else ExitStatus.BAD_INPUT
    if arguments[0] == "--version":
        print(f"homenode {__version__}")
        return ExitStatus.DONE
    connections, rest = _connections(arguments)
    verb = rest[0] if rest else ""
    if verb.startswith("-"):
        raise HomenodeError(
            f"{verb!r} is no verb", hint="options but -c come after it: homenode VERB --json"
        )
    if verb not in VERBS:
        raise HomenodeError(f"there is no verb {verb!r}", hint="see homenode --help")
    if verb != "place" and len(named := _named(connections)) > 1:
        raise HomenodeError(
            f"{verb} is for one host, and {len(named)} are named", hint="place takes several"
        )
    status: int = import_module(f"homenode.cli.{verb}").run([*connections, *rest[1:]])
    return status


def _connections(arguments: list[str]) -> tuple[list[str], list[str]]:
    # Where a command goes is often said first: homenode -c URI place guest.cfg.
    at = 0
    while at < len(arguments):
        if arguments[at] in ("-c", "--connect"):
            at += 2
        elif arguments[at].startswith(("-c", "--connect=")):
            at += 1
        else:
            break
    return arguments[:at], arguments[at:]


def _named(connections: list[str]) -> list[str]:
    return [word for word in connections if word.startswith(("-c", "--connect"))]


def console() -> None:
    """Be the console script."""
    # A command ends before its garbage matters; collecting it while modules are loaded costs a
    # tenth of the run. What lives longer than a moment turns it on again.
    gc.disable()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
