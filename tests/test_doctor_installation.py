"""What the doctor says of homenode's own installation, and which settings it shows."""

import json
import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from homenode.cli import doctor as verb
from homenode.configuration import keeper_configuration
from homenode.doctor import InstallationFacts, Patient, examine
from homenode.drivers.installation_facts import installation_facts
from homenode.drivers.simulated import open_simulated
from homenode.errors import ExitStatus, HomenodeError
from homenode.keeper.settings import Settings
from homenode.keeper_record import Record, Recorded, record_file
from homenode.ledger import Ledger

UNIT = Path(__file__).parent.parent / "packaging/homenode-keeper.service"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Keep simulated hosts and the configuration of this machine out of it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("HOMENODE_CONFIG", str(tmp_path / "homenode.toml"))
    (tmp_path / "homenode.toml").write_text("")
    return tmp_path


def states(facts):
    return {one.code: one.state for one in examine(Patient(installation=facts))}


def here(home, **changes):
    made = installation_facts(open_simulated("sim:try").ledger, root=str(home))
    return made._replace(**changes)


def test_this_installation_is_told_and_has_nothing_to_mend(home):
    found = states(here(home))
    assert "mend" not in found.values()
    assert found["state-folder"] == found["ledger"] == found["configuration"] == "fine"
    assert here(home).rich


def test_the_unit_is_absent_installed_or_enabled(home):
    assert here(home).unit == "absent"
    folder = home / "usr/lib/systemd/system"
    folder.mkdir(parents=True)
    shutil.copy(UNIT, folder)
    assert here(home).unit == "installed"
    assert states(here(home))["keeper"] == "know"
    wants = home / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / UNIT.name).symlink_to(f"/usr/lib/systemd/system/{UNIT.name}")
    assert here(home).unit == "enabled"
    # Enabled, and nobody at work.
    assert states(here(home))["keeper"] == "mend"


def test_a_keeper_is_at_work_while_its_process_lives(home):
    ledger = open_simulated("sim:try").ledger
    record = Record(record_file(ledger.path), boot_id=ledger.boot_id)
    record.write(Recorded(process=os.getpid()))
    assert here(home).keeper == os.getpid()
    assert states(here(home))["keeper"] == "fine"
    gone = subprocess.Popen(["true"])
    gone.wait()
    record.write(Recorded(process=gone.pid))
    assert here(home).keeper is None


def test_a_ledger_that_cannot_be_read_is_found(home):
    path = Path(open_simulated("sim:try").ledger.path)
    path.write_text("{")
    found = {one.code: one for one in examine(Patient(installation=here(home)))}
    assert found["ledger"].state == "mend"
    assert str(path) in found["ledger"].text
    assert "remove it" in found["ledger"].remedy


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting is for root")
@pytest.mark.parametrize(
    ("options", "error"), [("size=64k", "its disk is full"), ("size=1m,ro", "read-only")]
)
def test_a_folder_that_cannot_be_written_is_found(home, options, error):
    folder = home / "state"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        if error == "its disk is full":
            with suppress(OSError), (folder / "filled").open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
        ledger = Ledger(str(folder / "homenode/x"), boot_id="b", clock=lambda: 0.0)
        found = {one.code: one for one in examine(Patient(installation=installation_facts(ledger)))}
        assert found["state-folder"].state == "mend"
        assert error in found["state-folder"].text
    finally:
        subprocess.run(["umount", folder], check=True)


def test_nothing_is_said_of_folders_where_nothing_can_be_created():
    found = states(InstallationFacts())
    assert "ledger" not in found
    assert "state-folder" not in found


# --- settings ---


def settings_of(capsys, *words):
    status = verb.run(["-c", "sim:try", "--settings", *words])
    assert status == ExitStatus.DONE
    return capsys.readouterr().out


def test_each_setting_is_shown_with_where_it_is_from(home, capsys, monkeypatch):
    (home / "homenode.toml").write_text("[keeper]\nround_s = 2\ndamping_s = 4\n")
    (home / "homenode.d").mkdir()
    (home / "homenode.d/10-mine.toml").write_text("[keeper]\nround_s = 3\nconnect = 'sim:b'\n")
    monkeypatch.setenv("HOMENODE_URI", "sim:try")
    shown = json.loads(settings_of(capsys, "--json"))["settings"]
    told = {one["name"]: (one["value"], one["source"]) for one in shown}
    assert told["keeper.round_s"] == (3.0, str(home / "homenode.d/10-mine.toml"))
    assert told["keeper.damping_s"] == (4.0, str(home / "homenode.toml"))
    assert told["keeper.connect"] == ("sim:b", str(home / "homenode.d/10-mine.toml"))
    assert told["keeper.metrics"] == (None, "built in")
    assert told["HOMENODE_URI"] == ("sim:try", "the environment")
    assert {f"keeper.{name}" for name in Settings._fields} <= told.keys()


def test_what_is_shown_is_what_the_keeper_goes_by(home, capsys):
    (home / "homenode.toml").write_text("[keeper]\nblind_s = 60\n")
    shown = json.loads(settings_of(capsys, "--json"))["settings"]
    values = {one["name"]: one["value"] for one in shown}
    settings = keeper_configuration().settings
    assert {name: values[f"keeper.{name}"] for name in Settings._fields} == settings._asdict()


def test_settings_are_a_table_for_people(home, capsys):
    lines = settings_of(capsys).splitlines()
    assert lines[0].split() == ["Setting", "Value", "From"]
    assert any(line.split()[:2] == ["keeper.round_s", "5"] for line in lines)
    assert str(home / "homenode.toml") in lines[-1]


def test_a_configuration_that_cannot_be_read_is_something_to_mend(home, capsys):
    (home / "homenode.toml").write_text("[keeper]\nrounds = 2\n")
    assert verb.run(["-c", "sim:try", "--json"]) == ExitStatus.MENDING_NEEDED
    found = json.loads(capsys.readouterr().out)
    mend = {one["code"]: one["text"] for one in found["findings"] if one["state"] == "mend"}
    assert list(mend) == ["configuration"]
    assert "rounds" in mend["configuration"]
    with pytest.raises(HomenodeError, match="rounds"):
        verb.run(["-c", "sim:try", "--settings"])
