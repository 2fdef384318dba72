"""``homenode hook``: what libvirt calls when a guest is about to start, started, or has ended."""

import sys

from homenode.errors import ExitStatus

HELP = """\
usage: homenode hook libvirt GUEST OPERATION SUBOPERATION [EXTRA] <XML

Is called by libvirt, once there is a file /etc/libvirt/hooks/qemu.d/homenode (mode 755) with

  #!/bin/sh
  homenode hook libvirt "$@" || exit 0

in it; libvirtd looks for it when it starts. It tells homenode-numad which guest is about to be
started (prepare), ends the claims of guests that have ended (release), and gives guests that come
from another host or out of a file nodes of this one (migrate, restore). It never asks libvirt, and
its exit status is 0 whatever happens: homenode lets guests start. What goes wrong is told on
standard error, and homenode claims --json shows what came of it.

examples:
  virsh dumpxml web1 | homenode hook libvirt web1 release end -
"""

_LARGEST = 8 << 20
DEADLINE_S = 15.0


def run(arguments: list[str]) -> int:
    """Run the verb."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="")
        return ExitStatus.DONE if arguments else ExitStatus.BAD_INPUT
    if arguments[0] == "libvirt":
        _called(arguments[1:])
    else:
        _tell(f"{arguments[0][:40]!r} has no hook; libvirt has")
    return ExitStatus.DONE


def _called(words: list[str]) -> None:
    try:
        from homenode.cli.deadline import lift_deadline, set_deadline  # noqa: PLC0415 - not for help

        set_deadline(DEADLINE_S)
        from time import time  # noqa: PLC0415 - within what is watched

        from homenode.hook import called  # noqa: PLC0415 - the same
        from homenode.local_host import LocalHost  # noqa: PLC0415 - the same

        operation = words[1] if len(words) > 1 else ""
        text = sys.stdin.buffer.read(_LARGEST).decode(errors="replace")
        printed = called(LocalHost("/", time), operation, text)
        lift_deadline()
        sys.stdout.write(printed)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001 - a guest waits
        _tell(f"{' '.join(words)[:80]}: {type(error).__name__}: {error}")


def _tell(text: str) -> None:
    print(f"homenode hook: {text}", file=sys.stderr)
