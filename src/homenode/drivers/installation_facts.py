"""What there is of homenode on this machine, for `homenode.doctor`: versions, programs, files."""

import os
from typing import TYPE_CHECKING

from homenode import __version__
from homenode.doctor import InstallationFacts
from homenode.doctor.facts import KeeperUnit
from homenode.errors import HomenodeError
from homenode.keeper_record import Record, record_file

if TYPE_CHECKING:
    from homenode.ledger import Ledger

_UNIT = "homenode-keeper.service"
_UNIT_FOLDERS = ("etc/systemd/system", "usr/local/lib/systemd/system", "lib/systemd/system",
                 "usr/lib/systemd/system")  # fmt: skip
_WANTED = "etc/systemd/system/multi-user.target.wants"


def installation_facts(
    ledger: "Ledger | None", *, configuration_error: str | None = None, root: str = "/"
) -> InstallationFacts:
    """Return what there is to know; `ledger` is that of the host that is asked about, if any.

    Nothing is made: a folder that is not there yet counts as what it would be made in.
    """
    from platform import python_version  # noqa: PLC0415 - only the doctor asks for all this
    from shutil import which  # noqa: PLC0415 - the same

    folder = "" if ledger is None else os.path.dirname(ledger.path)  # noqa: PTH120 - pathlib costs 5 ms at start
    return InstallationFacts(
        version=__version__,
        python=python_version(),
        rich=_version("rich"),
        binding=_version("libvirt-python") or _binding(),
        ssh=which("ssh"),
        numad_program=which("homenode-numad"),
        unit=_unit(root),
        keeper=None if ledger is None else _keeper(ledger),
        state_folder=folder,
        state_error=_state_error(folder) if folder else None,
        ledger_error=None if ledger is None else _ledger_error(ledger),
        configuration_error=configuration_error,
    )


def _version(distribution: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - as above

    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _binding() -> str | None:
    """Return the version of a binding that no distribution of Python's tells of."""
    from homenode.drivers.libvirt_link import binding_or_none  # noqa: PLC0415 - as above

    binding = binding_or_none()
    if binding is None:
        return None
    number = binding.getVersion()
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"


def _unit(root: str) -> KeeperUnit:
    def there(folder: str) -> bool:
        # A link to a unit that is gone is there all the same.
        return os.path.lexists(os.path.join(root, folder, _UNIT))  # noqa: PTH118 - as above

    if there(_WANTED):
        return "enabled"
    return "installed" if any(map(there, _UNIT_FOLDERS)) else "absent"


def _keeper(ledger: "Ledger") -> int | None:
    record = Record(record_file(ledger.path, storage=ledger.storage), boot_id=ledger.boot_id)
    try:
        process = record.read_whole().process
    except HomenodeError:
        return None
    return process if process is not None and ledger.lives(process) else None


def _state_error(folder: str) -> str | None:
    """Return why files could not be made in a folder, or the first above it that is there."""
    while folder and not os.path.isdir(folder):  # noqa: PTH112 - as above
        folder = os.path.dirname(folder)  # noqa: PTH120 - as above
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "its file system is read-only"
    if not os.access(folder, os.W_OK | os.X_OK):
        return "not allowed"
    told = os.statvfs(folder)
    # Some file systems have no fixed number of files, and tell of none.
    if not told.f_bavail or (told.f_files and not told.f_favail):
        return "its disk is full"
    return None


def _ledger_error(ledger: "Ledger") -> str | None:
    try:
        ledger.entries()
    except HomenodeError as error:
        return str(error)
    return None
