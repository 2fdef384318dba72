"""The four cases by a guest: a user's own, created anew for each measurement, and destroyed again.

As in the series: *best* is created on its node and pinned there; *pinned* has its memory spread
over all nodes, and is pinned after that; *worst* is created on the farthest node and pinned to the
other one. *Default* is the guest's own file, as the hypervisor takes it without homenode.

What the guest gets done, a command of the user's tells: it is run while the guest is, with the
guest's name in ``$GUEST``, and prints a number.
"""

import math
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from uuid import uuid4

from homenode.asking import Overrides, ask
from homenode.bitmap import CpuMap
from homenode.drivers.base import Driver, Masks
from homenode.drivers.libvirt import LibvirtDriver
from homenode.errors import Conflict, DoesNotFit, HomenodeError
from homenode.formats.guest_file import read_guest
from homenode.formats.xl_cfg import GuestConfig
from homenode.formats.xml_edit import New, XmlEdits
from homenode.guest import Guest
from homenode.host import Host
from homenode.lifecycle import StoppedError, Wanted, create_all, destroy
from homenode.tax.protocol import Case, Turn, flaw
from homenode.tax.results import Sample

FIGURE = "figure"
"""The name of the one measure that a guest has."""

_ENDING = "-tax"
_LONGEST_S = 3600.0


class Work(NamedTuple):
    """A guest's file, and the command that tells what the guest gets done."""

    text: str
    source: str
    command: str


def refuse_unsuitable(work: Work, host: Host) -> None:
    """Raise `HomenodeError` for a guest whose file says where it is to be: the cases say that."""
    config = read_guest(work.text, source=work.source)
    request = ask(config, host).request
    if request.virtual_nodes or request.split:
        raise config.error("it has virtual nodes, and the four cases are of guests without any")
    if request.explicit is not None or request.hard or request.soft:
        said = "nodes or cpus" if request.explicit is None else request.explicit.setting
        raise config.error(
            f"its file says where it is to be ({said}), and the four cases say that",
            hint="leave that out of a copy of the file",
        )


def refuse_company(driver: Driver) -> None:
    """Raise `Conflict` if guests run that would spoil the figures, and be spoiled."""
    names = [guest.name for guest in driver.snapshot("guests").guests if not guest.is_control]
    refuse_beside(names)


def refuse_beside(names: list[str]) -> None:
    """Raise `Conflict` if there are any guests."""
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise Conflict(
            f"guests run here ({', '.join(names[:3])}{more}): they would spoil the figures, and the"
            " work would slow them down",
            hint="--beside-guests measures all the same",
        )


def hypervisor(driver: Driver, host: Host) -> str | None:
    """Return what runs the guests, with its version."""
    if not isinstance(driver, LibvirtDriver):
        return host.hypervisor
    connection = driver.link.connection
    qemu = driver.link.maybe(connection.getVersion)
    libvirt = driver.link.maybe(connection.getLibVersion)
    return f"QEMU {_version(qemu)} by libvirt {_version(libvirt)}"


def _version(number: int | None) -> str:
    """Return ``7.2.15`` for 7002015, as libvirt counts (virConnectGetVersion)."""
    if number is None:
        return "?"
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def plan(driver: Driver, case: Case, work: Work) -> str:
    """Return the file that the guest of a case would be created from."""
    (planned,) = create_all(
        driver,
        [Wanted(_renamed(work, str(uuid4())), work.source)],
        overrides=_overrides(case),
        new_uuid=lambda: "",
        dry_run=True,
    )
    _refuse_unfit(planned.planned.decision.fits, planned.planned.decision.reason, case)
    return (planned.planned.kept if case.memory is None else planned.planned.config).text


def measured(driver: Driver, turn: Turn, host: Host, work: Work) -> Sample:
    """Create the guest of a case, have the command measure it, look where it was, destroy it."""
    uuid = str(uuid4())
    try:
        _create(driver, turn.case, work, uuid)
        guest = _there(driver, uuid)
        if turn.case.cpus is not None:
            masks = [Masks(turn.case.cpus, host.cpu_map)] * len(guest.vcpus)
            driver.pin(guest, masks)
        before = _cpus(driver, guest)
        figure = _figure(work.command, guest.name, turn.case)
        ran = before | _cpus(driver, guest)
        memory = _memory_kib(driver, uuid)
    finally:
        with _uninterrupted():
            _take_away(driver, uuid)
    why = flaw(turn.case, memory)
    nodes = host.nodes_of(ran)
    return Sample(turn.round, turn.copies, turn.case, {FIGURE: figure}, memory, nodes, why)


def _overrides(case: Case) -> Overrides:
    return Overrides() if case.memory is None else Overrides(nodes=str(case.memory), hold=True)


def _create(driver: Driver, case: Case, work: Work, uuid: str) -> None:
    wanted = [Wanted(_renamed(work, uuid), work.source)]
    default = case.memory is None
    try:
        (created,) = create_all(
            driver, wanted, overrides=_overrides(case), new_uuid=lambda: uuid, dry_run=default
        )
    except StoppedError:
        # Its advice is to look what was created: nothing will be.
        raise KeyboardInterrupt from None
    if created.error is not None:
        raise created.error
    planned = created.planned
    _refuse_unfit(planned.decision.fits, planned.decision.reason, case)
    if default:
        # The file as its user wrote it: nothing of the decision is handed over.
        driver.create(planned.request, planned.decision, planned.kept, planned.kept)


def _refuse_unfit(fits: bool, reason: str, case: Case) -> None:  # noqa: FBT001 - a decision's two facts
    if not fits:
        raise DoesNotFit(
            f"the {case.name} case does not fit: {reason}", hint="--node takes another home"
        )


def _renamed(work: Work, uuid: str) -> str:
    """Return the guest's file under another name: one of that name may be defined, or run."""
    config = read_guest(work.text, source=work.source)
    if isinstance(config, GuestConfig):
        name = str(config.values.get("name", "guest")) + _ENDING
        return config.edited({"name": name, "uuid": uuid})
    root = config.document.root
    edits = XmlEdits(config.text, config.document)
    for path in ("name", "uuid"):
        for element in root.findall(path):
            edits.remove(element)
    edits.add(root, [New("name", {}, text=config.name + _ENDING), New("uuid", {}, text=uuid)])
    return edits.edited()


def _find(driver: Driver, uuid: str) -> Guest | None:
    guests = driver.snapshot("guests").guests
    return next((guest for guest in guests if guest.uuid == uuid), None)


def _there(driver: Driver, uuid: str) -> Guest:
    guest = _find(driver, uuid)
    if guest is None:
        raise HomenodeError("the guest was created, and is gone again", hint="its log tells why")
    return guest


def _cpus(driver: Driver, guest: Guest) -> CpuMap:
    vcpus = driver.vcpus().get(guest.id or 0, ())
    return CpuMap(vcpu.cpu for vcpu in vcpus if vcpu.cpu is not None)


def _memory_kib(driver: Driver, uuid: str) -> dict[int, int]:
    """Return where the guest's memory is, counted if that can be; empty if nobody says."""
    try:
        guests = driver.pages().guests
    except HomenodeError:
        guests = driver.snapshot("guests").guests
    guest = next((guest for guest in guests if guest.uuid == uuid), None)
    memory = None if guest is None else guest.memory_by_node
    return {} if memory is None else {node: kib for node, kib in memory.kib.items() if kib}


def _figure(command: str, name: str, case: Case) -> float:
    """Run the user's command; return the number that its last word is."""
    running = None
    try:
        with _uninterrupted():  # else it might have begun, and nobody would know of it
            running = _begun(command, {**os.environ, "GUEST": name, "TAX_CASE": case.name})
        told, _ = running.communicate(timeout=_LONGEST_S)
    except subprocess.TimeoutExpired:
        raise HomenodeError(f"--measure: it did not end within {_LONGEST_S:g} s") from None
    finally:
        # The shell's own children, too: they would go on without it.
        if running is not None and running.returncode is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    if running.returncode:
        raise HomenodeError(f"--measure: the command ended with status {running.returncode}")
    return _number(told)


def _begun(command: str, environment: Mapping[str, str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(  # noqa: S602 - a command of the user's own, as he would type it
        command,
        shell=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _number(text: str) -> float:
    last = " ".join(text.split()[-1:])
    try:
        figure = float(last)
    except ValueError:
        figure = math.nan
    if not (math.isfinite(figure) and figure > 0):
        raise HomenodeError(
            f"--measure: {last[:60]!r} is no number above 0",
            hint="the command's last word has to be what the guest got done, or how long it took",
        )
    return figure


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let being interrupted wait until this is done."""
    caught: list[int] = []
    before = {
        number: handler
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    try:
        for number in before:
            signal.signal(number, lambda number, _frame: caught.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if caught:
        raise KeyboardInterrupt


def _take_away(driver: Driver, uuid: str) -> None:
    guest = _find(driver, uuid)
    if guest is not None:
        destroy(driver, guest)
    driver.forget(uuid)
