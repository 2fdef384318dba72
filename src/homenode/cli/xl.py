"""``homenode xl``: a front for people and scripts that type ``xl``.

What homenode has a better answer for is its own: ``create``, and ``node-affinity`` of the 2012
series. For all else this process becomes xl.
"""

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from homenode.errors import Conflict, ExitStatus, HomenodeError, HypervisorError, ParseError
from homenode.xl_front import Call, Creation, merged, parse_call, parse_creation, placed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from homenode.drivers.base import Driver, Snapshot
    from homenode.drivers.gateway import Gateway
    from homenode.drivers.xen_attended import AttendedXen
    from homenode.guest import Guest
    from homenode.lifecycle import Created

HELP = """\
usage: homenode xl [-c URI] [--] [xl's options] COMMAND [ARGUMENT]...

Everything is xl's own, with its exit status, terminal, input and signals, but for two commands:

  create [xl's options] CONFIG [key=value]...
      decides, claims, creates the guest there, and looks, as homenode create does; that is told
      on standard error. nodes="0-1" and nodes_policy="spread" may be in the file or among the
      arguments, which outrank it. All of xl's options go to xl, which runs on this terminal; once
      it has run, its exit status is ours. A guest that does not fit is not created (exit status
      1). A dry run (-n), and what xl refuses, go to xl as they are; behind ssh, CONFIG is the
      host's then.
      With -c and -F xl goes on when the guest runs. homenode then looks twice a second whether it
      does, settles the claim when it does, and waits for xl. With -c it tells where the guest
      went when the console is left; with -p as well it settles when someone unpauses the guest.
      Ctrl-C before the guest runs takes it away; afterwards it stops xl alone, as xl has it.

  node-affinity DOMAIN [NODES]
      shows the node affinity of a guest, or sets it: its vcpus prefer the cpus of those nodes, or
      are held to them if homenode holds the guest. NODES is 0-1, 0-3,^2 or all; DOMAIN is a name
      or an id. Memory that it has stays; homenode affinity has more, such as --move.

options of our own, before the first word that is xl's:
  -c, --connect URI   the host: xen:///, xen+ssh://[user@]host/ (default: $HOMENODE_URI, else this
                      dom0); other hosts have these two commands alone. A CONFIG is a file of this
                      machine, whatever the host; files of xl's other commands are the host's.
  -h, --help          this text; homenode xl help is xl's own

xl prints what xl prints: homenode list --json is for programs.

examples:
  homenode xl list
  homenode xl create guest.cfg memory=2048 'nodes="0-1"'
  homenode xl create -c guest.cfg
  homenode xl -vvv create guest.cfg
  homenode xl node-affinity guest 0-1
  homenode xl -c xen+ssh://root@host/ dmesg
"""

_NODE_AFFINITY = "node-affinity"


class _Asked(NamedTuple):
    uri: str | None
    words: list[str]


def run(arguments: list[str]) -> int:
    """Run the verb; it does not return where the command is xl's."""
    from homenode.drivers.connect import driver_for  # noqa: PLC0415 - not for help

    asked = _asked(arguments)
    if asked is None:
        print(HELP, end="")
        return ExitStatus.DONE
    driver = driver_for(asked.uri)
    call = parse_call(asked.words)
    if call is not None and call.creates and not call.is_dry:
        creation = parse_creation(call.arguments)
        if creation is not None:
            return _create(driver, call, creation)
    if call is not None and call.command == _NODE_AFFINITY:
        return _node_affinity(driver, call)
    return _become_xl(driver, asked.words)


def _asked(arguments: list[str]) -> _Asked | None:
    """Return the host and the words that are xl's; None if help is wanted."""
    uri, words = os.environ.get("HOMENODE_URI"), arguments
    while words:
        word, _, value = words[0].partition("=")
        if word in ("-h", "--help"):
            return None
        if word == "--":
            return _Asked(uri, words[1:])
        if words[0] in ("-c", "--connect"):
            if len(words) == 1:
                raise HomenodeError(f"{word}: expected a URI", hint="see homenode xl --help")
            uri, words = words[1], words[2:]
        elif word == "--connect":
            uri, words = value, words[1:]
        elif word.startswith("-c"):
            uri, words = words[0][2:], words[1:]
        else:
            break
    return _Asked(uri, words)


def _become_xl(driver: "Driver", words: "Sequence[str]") -> NoReturn:
    """Be xl from now on."""
    from homenode.drivers.gateway import trace  # noqa: PLC0415 - not for help
    from homenode.drivers.xen import XenDriver  # noqa: PLC0415 - the same
    from homenode.drivers.xen_attended import environment  # noqa: PLC0415 - the same

    if not isinstance(driver, XenDriver):
        raise HomenodeError(
            f"{driver.uri}: there is no xl for {' '.join(words)[:60]!r}",
            hint="homenode xl has create CONFIG and node-affinity there; see homenode --help",
        )
    command = driver.gateway.interactive(["xl", *words])
    trace(driver.gateway.name, ["xl", *words])
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        # Python ignores these, and what is ignored stays so.
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment())  # noqa: S606 - words, no shell
    except OSError as error:
        raise _cannot_run(driver.gateway, command[0], error) from None


def _cannot_run(gateway: "Gateway", program: str, error: OSError) -> HypervisorError:
    from homenode.drivers.gateway import missing  # noqa: PLC0415 - hardly ever

    reason = error.strerror or str(error)
    if not gateway.name:
        return missing("", program, reason)
    return HypervisorError(f"cannot run {program}: {reason}", hint="HOMENODE_SSH_COMMAND names it")


def _create(driver: "Driver", call: Call, creation: Creation) -> int:
    from homenode.asking import Overrides  # noqa: PLC0415 - only here
    from homenode.cli.common import end_as_interrupted, read_text  # noqa: PLC0415 - the same
    from homenode.lifecycle import create  # noqa: PLC0415 - the same

    # To xl - is a file as any other.
    text = read_text("./-" if creation.path == "-" else creation.path)
    attended = _attended(driver, call, creation)
    end_as_interrupted()
    try:
        created = create(
            attended or driver,
            merged(text, creation.settings),
            source=creation.path,
            overrides=Overrides(),
            new_uuid=_new_uuid,
        )
    except HomenodeError as error:
        if attended is not None and attended.process is not None:
            print(f"homenode: {error}", file=sys.stderr)
            return _status_of(attended)
        if not isinstance(error, ParseError):
            raise
        raise placed(
            error, source=creation.path, config_text=text, settings=creation.settings
        ) from None
    if attended is None or created.guest is None or not creation.has_console:
        _tell(created, creation)
    if created.guest is None:
        return ExitStatus.DOES_NOT_FIT
    if attended is None:
        return ExitStatus.DONE
    status = _status_of(attended)
    if creation.has_console:
        _tell(created, creation)
    return status


def _new_uuid() -> str:
    from uuid import uuid4  # noqa: PLC0415 - only where a guest is made

    return str(uuid4())


def _attended(driver: "Driver", call: Call, creation: Creation) -> "AttendedXen | None":
    """Return the driver that has xl create the guest as it was told to; None where no xl is."""
    from homenode.drivers.xen import XenDriver  # noqa: PLC0415 - not for help

    if isinstance(driver, XenDriver):
        from homenode.drivers.xen_attended import AttendedXen  # noqa: PLC0415 - where an xl is

        words = [*call.options, call.command, *creation.options]
        return AttendedXen(driver.gateway, uri=driver.uri, words=words, stays=creation.stays)
    if creation.letters - {"q"}:
        raise HomenodeError(
            f"{driver.uri}: there is no xl to take {' '.join(creation.options)}",
            hint="leave that out",
        )
    return None


def _tell(created: "Created", creation: Creation) -> None:
    from homenode.cli.create import created_lines  # noqa: PLC0415 - only here
    from homenode.cli.decision_text import warning_lines  # noqa: PLC0415 - the same

    if created.guest is not None and creation.is_quiet:
        lines = warning_lines(created.warnings)
    else:
        lines = created_lines(created, dry_run=False)
    for line in lines:
        print(line, file=sys.stderr)


def _status_of(attended: "AttendedXen") -> int:
    """Wait for xl and return its exit status; end by the signal that ended it, if one did."""
    process = attended.process
    if process is None:
        raise AssertionError("xl was not started")

    def hand_on(number: int, _frame: "FrameType | None") -> None:
        process.send_signal(number)

    # Ctrl-C goes to both, and it is for xl to end of it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, hand_on)
    signal.signal(signal.SIGHUP, hand_on)
    status = process.wait()
    if status >= 0:
        return status
    with contextlib.suppress(OSError):  # SIGKILL cannot be changed
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
    return 128 - status


def _node_affinity(driver: "Driver", call: Call) -> int:
    from homenode.affinity import apply, change, named_nodes  # noqa: PLC0415 - only here
    from homenode.cli.common import end_as_interrupted, name_of  # noqa: PLC0415 - the same
    from homenode.cli.decision_text import warning_lines  # noqa: PLC0415 - the same

    if call.arguments[:1] in (("-h",), ("--help",)):
        print(f"usage: homenode xl {_NODE_AFFINITY} DOMAIN [NODES]; see homenode xl --help")
        return ExitStatus.DONE
    if call.is_dry or not 1 <= len(call.arguments) <= 2:
        raise HomenodeError(
            f"{_NODE_AFFINITY} wants a domain, and nodes if it is to change",
            hint=f"homenode xl {_NODE_AFFINITY} DOMAIN [NODES]; homenode affinity has more",
        )
    seen = driver.snapshot("guests")
    guest = _domain(seen, name_of(call.arguments[0]), driver.uri)
    if len(call.arguments) == 1:
        print("\n".join(_affinity_lines(seen, guest)))
        return ExitStatus.DONE
    wanted = change(seen, guest, named_nodes(call.arguments[1], seen))
    end_as_interrupted()
    _, warnings = apply(driver, wanted)
    for line in warning_lines(warnings):
        print(line, file=sys.stderr)
    return ExitStatus.DONE


def _domain(seen: "Snapshot", word: str, uri: str) -> "Guest":
    """Return the guest that xl takes `word` for: what is all digits is an id."""
    is_id = word.isascii() and word.isdecimal()
    for guest in seen.guests:
        if (is_id and guest.id == int(word)) or (not is_id and guest.name == word):
            return guest
    raise Conflict(f"{uri}: there is no domain {word!r}", hint="see homenode xl list")


def _affinity_lines(seen: "Snapshot", guest: "Guest") -> list[str]:
    # As `xl list -n` has it, without what is not asked for.
    nodes = guest.node_affinity
    told = "?" if nodes is None else "all" if nodes == seen.host.node_map else str(nodes)
    return [
        f"{'Name':<40} {'ID':>5}   NODE Affinity",
        f"{guest.name:<40} {'-' if guest.id is None else guest.id:>5}   {told}",
    ]
