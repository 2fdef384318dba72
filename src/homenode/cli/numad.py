"""``homenode-numad``, and ``homenode numad``: what libvirt runs in numad's place.

Imports as little as it can before it answers, and none of homenode on the way that is left when
anything goes wrong: a guest whose question is not answered does not start.
"""

import os
import sys

HELP = """\
usage: homenode-numad -w VCPUS[:MIB]

Answers as `numad -w` does: the nodes on which a guest of so many vcpus and MiB should be started,
as a list such as 0-1. libvirt asks so for each guest with placement="auto", once homenode-numad is
in numad's place:

  dpkg-divert --local --rename --divert /usr/bin/numad.distrib --add /usr/bin/numad
  ln -s "$(command -v homenode-numad)" /usr/bin/numad

and back:

  rm /usr/bin/numad
  dpkg-divert --local --rename --remove /usr/bin/numad

The memory is claimed (homenode claims), so guests started at once go to different nodes. libvirt's
hook (homenode hook --help) tells it of huge pages, devices and wishes as well. On any doubt it
prints all nodes with cpus and memory, says why on standard error and in the log, and the exit
status is 0: homenode lets guests start. With other options than these it becomes numad.distrib.
numad's form is all that it prints: homenode place --json tells more.

options:
  -w VCPUS[:MIB]   the question
  -V, --version    the version
  -h, --help       this text

examples:
  homenode-numad -w 4:8192
  homenode numad -w 4:8192      the same
  time numad -w 4:8192
"""

DEADLINE_S = 15.0
"""Then all nodes are printed. An answer takes 0.1 s, and each that comes before it as much."""

_REAL = "/usr/bin/numad.distrib"
_NODES = "/sys/devices/system/node"


def run(arguments: list[str]) -> int:
    """Run the verb; its exit status is 0 whatever happens, but for a mistake in its options."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if arguments else 2
    if arguments[0] in ("-V", "--version"):
        from homenode import __version__  # noqa: PLC0415 - only here

        print(f"homenode-numad {__version__}, in place of numad")
        return 0
    words = arguments[1] if arguments[0] == "-w" and len(arguments) == 2 else None
    if arguments[0].startswith("-w") and len(arguments) == 1:
        words = arguments[0][2:]
    if not words:
        return _become_numad(arguments)
    nodes, doubts = _answer(words)
    print(nodes, flush=True)
    for doubt in doubts:
        _tell(doubt)
    return 0


def console() -> None:
    """Be the console script."""
    import gc  # noqa: PLC0415 - as in homenode.cli.main

    gc.disable()
    try:
        status = run(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(0)
    # Garbage and modules end with the process.
    os._exit(status)


def _answer(words: str) -> tuple[str, list[str]]:
    """Return the nodes as numad prints them, and what is in doubt."""
    try:
        from homenode.cli.deadline import lift_deadline, set_deadline  # noqa: PLC0415 - may fail

        set_deadline(DEADLINE_S)
        from time import time  # noqa: PLC0415 - within what is watched

        from homenode.local_host import LocalHost  # noqa: PLC0415 - the same
        from homenode.numad import advise, parse  # noqa: PLC0415 - the same

        advice = advise(LocalHost("/", time), parse(words))
        lift_deadline()
        doubts = list(advice.doubts)
        if not advice.fits:
            doubts.insert(0, f"all nodes: it fits nowhere: {advice.reason}")
        if advice.nodes:
            return str(advice.nodes), doubts
        return _every_node(), ["all nodes: none is known", *doubts]
    except BaseException as error:  # noqa: BLE001 - a guest waits
        # By name: nothing is imported any more, since that may be what failed.
        kind = type(error).__name__
        told = f"{error}" if kind == "HomenodeError" else f"{kind}: {error}"
        return _every_node(), [f"all nodes: {told}"]


def _every_node() -> str:
    """Return the nodes with cpus and memory by what the kernel says, or node 0."""
    found: set[int] | None = None
    for name in ("has_cpu", "has_memory"):
        try:
            with open(f"{_NODES}/{name}") as file:  # noqa: PTH123 - nothing is imported here
                numbers = _numbers(file.read())
        except (OSError, ValueError):
            continue
        if numbers:
            found = numbers if found is None else (found & numbers) or found
    return ",".join(map(str, sorted(found))) if found else "0"


def _numbers(text: str) -> set[int]:
    numbers: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        if first:
            numbers.update(range(int(first), int(last or first) + 1))
    return numbers


def _tell(doubt: str) -> None:
    text = f"homenode-numad: {doubt}"
    print(text, file=sys.stderr)
    try:
        import syslog  # noqa: PLC0415 - where nothing is odd it is not needed

        syslog.syslog(syslog.LOG_WARNING, text)
    except Exception:  # noqa: BLE001 - a log is not worth a guest
        return


def _become_numad(arguments: list[str]) -> int:
    # Such as its daemon, which whoever starts it means as it is.
    try:
        os.execv(_REAL, ["numad", *arguments])  # noqa: S606 - the program that we stand for
    except OSError as error:
        told = f"homenode-numad: {_REAL}: {error.strerror}; -w VCPUS:MIB is all that it does itself"
        print(told, file=sys.stderr)
        return 2


if __name__ == "__main__":
    console()
