"""The driver on a private libvirtd of this machine, and libvirt's own test driver for plumbing.

`test:///default` accepts any nonsense (cpu 99, node 7), so only the way there is tested by it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homenode.drivers.connect import driver_for
from homenode.errors import HomenodeError, HypervisorError

LAB = Path(__file__).parent / "labs/kvm"
TOOLS = ("libvirtd", "virsh", "qemu-system-x86_64", "unshare", "as", "ld")


def _why_not():
    try:
        import libvirt  # noqa: F401, PLC0415 - whether it is there
    except ImportError:
        return "the binding of libvirt is not installed"
    absent = [tool for tool in TOOLS if not shutil.which(tool, path=f"{os.defpath}:/usr/sbin")]
    if absent:
        return f"not installed: {', '.join(absent)}"
    if os.geteuid():
        return "a private libvirtd wants root"
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "true"], check=False, capture_output=True
    )
    return "mount namespaces cannot be made here" if done.returncode else None


REASON = _why_not()
needs_libvirtd = pytest.mark.skipif(REASON is not None, reason=str(REASON))
needs_binding = pytest.mark.skipif(
    str(REASON).startswith("the binding"), reason="the binding of libvirt is not installed"
)

SCRIPT = """
import json, os, subprocess, sys
import guests

def homenode(*words):
    done = subprocess.run([sys.executable, "-m", "homenode.cli.main", *words],
                          capture_output=True, text=True)
    return [done.returncode, done.stdout, done.stderr]

def put(name, **how):
    text = guests.xml(name, **how).replace(guests.FOLDER, os.environ["GUESTS"])
    path = os.path.join(os.environ["GUESTS"], name + ".xml")
    open(path, "w").write(text)
    return path

told = {}
told["empty"] = homenode("list", "-c", "qemu:///system")
told["create"] = homenode("create", put("g", vcpus=2))
told["list"] = homenode("list", "--json", "--sample", "0")
told["pages"] = homenode("list", "--json", "--pages", "--sample", "0")
told["dry"] = homenode("create", "--dry-run", put("h"))
told["again"] = homenode("create", put("g", vcpus=2))
told["large"] = homenode("create", put("huge", memory=1 << 22))
told["xl"] = homenode("create", "-c", "sim:try", put("h"))
told["check"] = homenode("check")
told["claims"] = homenode("claims", "--json")
told["destroy"] = homenode("destroy", "g")
told["after"] = homenode("claims", "--json")
told["defined"] = [0, subprocess.run(["virsh", "-q", "list", "--all", "--name"],
                                     capture_output=True, text=True).stdout, ""]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    if REASON is not None:
        pytest.skip(REASON)
    state = tmp_path_factory.mktemp("state")
    environment = {
        **os.environ,
        "PYTHONPATH": str(LAB),
        "XDG_STATE_HOME": str(state),
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
    }
    environment.pop("HOMENODE_URI", None)
    done = subprocess.run(
        [LAB / "here.sh", sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=240,
    )
    if not done.stdout.strip():
        # A container may forbid what a daemon needs; that is no defect of the driver.
        pytest.skip(f"no libvirtd here: {done.stderr.strip().splitlines()[-1:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


@needs_libvirtd
def test_a_guest_is_created_listed_and_destroyed(told):
    assert told["empty"][:2] == [0, "no guests are known here\n"]
    assert told["create"][0] == 0, told["create"]
    (guest,) = json.loads(told["list"][1])["guests"]
    assert (guest["name"], guest["vcpus"], guest["memory_kib"]) == ("g", 2, 64 << 10)
    assert guest["state"] == "running"
    assert told["destroy"][0] == 0
    assert told["defined"][1].split() == ["g"]


@needs_libvirtd
def test_all_of_its_memory_is_found(told):
    if told["pages"][0] == 3:
        pytest.skip(told["pages"][2])  # a kernel without NUMA has no numa_maps
    (guest,) = json.loads(told["pages"][1])["guests"]
    assert sum(share["kib"] for share in guest["memory"]) == 64 << 10


@needs_libvirtd
def test_a_dry_run_creates_nothing(told):
    assert told["dry"][0] == 0
    assert "would be created" in told["dry"][1]


@needs_libvirtd
def test_claims_are_kept_and_end(told):
    (claim,) = json.loads(told["claims"][1])["claims"]
    assert (claim["name"], claim["state"]) == ("g", "seen")
    assert json.loads(told["after"][1])["claims"] == []


@needs_libvirtd
def test_mistakes_get_one_line_and_change_nothing(told):
    for name, status, words in (
        ("again", 2, "is there already"),
        ("xl", 2, "creates guests from a config in xl's syntax"),
    ):
        assert told[name][0] == status, told[name]
        assert words in told[name][2]
        assert len(told[name][2].splitlines()) == 1
    assert told["large"][0] == 1
    assert "does not fit" in told["large"][1]


@needs_binding
def test_the_test_driver_has_guests_and_cells():
    seen = driver_for("test:///default").snapshot()
    assert [guest.name for guest in seen.guests] == ["test"]
    assert len(seen.host.nodes) == 2
    assert seen.guests[0].memory_by_node is None


@needs_binding
def test_a_daemon_that_does_not_answer_is_told_of_in_one_line():
    with pytest.raises(HypervisorError) as caught:
        driver_for("qemu+tcp://127.0.0.1:1/system").snapshot()
    assert "\n" not in str(caught.value)
    assert "is libvirtd (or virtqemud) running?" in str(caught.value)


@needs_binding
def test_nothing_is_created_where_no_ledger_can_be_kept():
    driver = driver_for("test:///default")
    assert driver.ledger is None


def test_without_the_binding_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "libvirt", None)
    with pytest.raises(HomenodeError, match="python3-libvirt"):
        driver_for("qemu:///system").snapshot()
