"""``homenode VERB``: finds the verb's module, and turns what happens into an exit status.

Only the module of the verb in question is imported: help for all of them needs none of them.
"""

import gc
import os
import sys
from importlib import import_module

from homenode import __version__
from homenode.errors import ExitStatus, HomenodeError

VERBS = {
    "topology": "draw a host: its nodes, cpus, memory, distances and guests",
    "place": "decide where a guest would go, and change nothing",
    "create": "decide, claim, create the guest there, and look where it went",
    "destroy": "stop a guest at once",
    "list": "list the guests and where they are",
    "affinity": "show or change the node affinity of a guest, on-line",
    "explain": "tell why a guest goes where it goes, or why nowhere",
    "policies": "list the policies and the facts they are made of",
    "claims": "show the memory that is promised and not yet seen",
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
  homenode create -c sim:try guest.cfg         create it on a simulated host
"""


def _usage() -> str:
    verbs = "\n".join(f"  {verb:<10} {purpose}" for verb, purpose in VERBS.items())
    return _USAGE.format(verbs=verbs, name="homenode")


def main(arguments: list[str]) -> int:
    """Run the command and return its exit status."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_usage(), end="")
        return ExitStatus.DONE if arguments else ExitStatus.BAD_INPUT
    if arguments[0] == "--version":
        print(f"homenode {__version__}")
        return ExitStatus.DONE
    try:
        return _run(arguments[0], arguments[1:])
    except HomenodeError as error:
        print(f"homenode: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("homenode: interrupted", file=sys.stderr)
        return ExitStatus.INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) has seen enough. Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.DONE


def _run(verb: str, arguments: list[str]) -> int:
    if verb not in VERBS:
        raise HomenodeError(f"there is no verb {verb!r}", hint="see homenode --help")
    status: int = import_module(f"homenode.cli.{verb}").run(arguments)
    sys.stdout.flush()
    return status


def console() -> None:
    """Be the console script."""
    # A command ends before its garbage matters; collecting it while modules are loaded costs a
    # tenth of the run. What lives longer than a moment turns it on again.
    gc.disable()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    console()
