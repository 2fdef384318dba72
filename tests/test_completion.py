"""TAB in real shells: bash, zsh and fish offer what may stand there, and put in what is chosen."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homenode.cli.completing import grammar
from homenode.cli.completion import SHELLS, script
from homenode.cli.main import VERBS, main
from homenode.fleet.policies import HOST_POLICIES
from homenode.placement.facts import FACTS
from homenode.placement.policies import POLICIES

ROOT = Path(__file__).parent.parent
DRIVERS = ROOT / "tests" / "shells"
CAPTURE = "capture:tests/data/xen-captures/n8/guests"
GUESTS = ["Domain-0", *"abcdefg"]
NODE_POLICIES = [name for policy in POLICIES.values() for name in (policy.name, *policy.aliases)]


def beginning(names, start):
    return [name for name in names if name.startswith(start)]


EXPECTED = {
    "homenode ": list(VERBS),
    "homenode pl": ["place"],
    "homenode -c xen:/// pl": ["place"],
    "homenode --connect=xen:/// pl": ["place"],
    "homenode place -c ": list(grammar.URIS),
    "homenode -c x": beginning(grammar.URIS, "x"),
    "homenode place -c xen:": ["xen:///"],
    "homenode place --connect=q": beginning(grammar.URIS, "q"),
    "homenode place --policy ": NODE_POLICIES,
    "homenode place --policy=b": beginning(NODE_POLICIES, "b"),
    "homenode create -p nodes,dis": [f"nodes,{name}" for name in beginning(FACTS, "dis")],
    "homenode place --host-policy ": list(HOST_POLICIES),
    "homenode replay t.csv -p pack/": [f"pack/{name}" for name in POLICIES],
    "homenode place g.cfg --devices re": ["required"],
    "homenode topology --format ": ["text", "svg", "json"],
    "homenode completion ": [*SHELLS, "guests"],
    "homenode xl c": ["create"],
    "homenode xl ": ["create", "node-affinity"],
    "homenode hook libvirt a r": ["release", "restore"],
    f"homenode affinity -c {CAPTURE} ": GUESTS,
    f"homenode -c {CAPTURE} affinity ": GUESTS,
    f"homenode place --connect={CAPTURE} g.cfg --apart-from ": GUESTS,
    f"homenode explain -c {CAPTURE} D": ["Domain-0"],
    "homenode affinity -c xen+ssh://nobody@no.host/ ": [],
    "homenode affinity -c capture:no/such/file ": [],
    "homenode simulate --variant ": [],
}
"""What is offered for a line that ends where TAB is pressed; files are the shells' own."""


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """Return a folder with each shell's code."""
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        (folder / shell).write_text(script(shell), encoding="utf-8")
    return folder


def offered(shell, codes, lines):
    """Return what a shell offers for each line, by a driver that has it complete them."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    alone = {"zsh": ["-f"], "bash": ["--norc"], "fish": ["--no-config"]}[shell]
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "TERM": "dumb",
        "TMPDIR": str(codes),
        "HOME": str(codes),
        "HOMENODE_URI": "capture:nowhere",
    }
    done = subprocess.run(
        [shell, *alone, DRIVERS / f"offered.{shell}", codes / shell, *lines],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    told = [json.loads(line) for line in done.stdout.splitlines() if line]
    assert len(told) == len(lines)
    return dict(zip(lines, told, strict=True))


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_offers_what_may_stand_there(shell, codes):
    found = offered(shell, codes, list(EXPECTED))
    bare = {line: sorted(cut(line, words)) for line, words in found.items()}
    assert bare == {line: sorted(words) for line, words in EXPECTED.items()}


def cut(line, words):
    """Return candidates as values: a shell may offer --option=value, or the end of a list."""
    typed = line.rpartition(" ")[2]
    option = f"{typed.partition('=')[0]}=" if typed.startswith("--") else ""
    before = typed.removeprefix(option)
    listed = before[: before.rfind(",") + 1]
    return [listed + word.removeprefix(option).removeprefix(listed) for word in words]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_offers_every_option_of_every_verb(shell, codes):
    verbs = [verb for verb in grammar.verbs() if verb.name != "xl"]
    found = offered(shell, codes, [f"homenode {verb.name} --" for verb in verbs])
    for verb in verbs:
        names = {name for option in verb.options for name in option.names if name[:2] == "--"}
        assert set(found[f"homenode {verb.name} --"]) == names, verb.name


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_what_was_given_or_does_not_go_with_it_is_not_offered_again(shell, codes):
    line = "homenode place --hold --policy balanced --near 0000:41:00.0 --"
    rest = set(offered(shell, codes, [line])[line])
    assert not rest & {"--hold", "--no-hold", "--policy"}
    assert {"--near", "--devices"} <= rest


def test_bash_puts_in_what_is_chosen(codes, tmp_path):
    """Keys are typed into an interactive bash, whose readline splits words at : and =."""
    if shutil.which("bash") is None or shutil.which("script") is None:
        pytest.skip("there is no bash, or no script")
    (tmp_path / "a host.toml").touch()
    typed = {
        "homenode place -c xen:/\t": ["place", "-c", "xen:///"],
        "homenode place --connect=qemu:\t": ["place", "--connect=qemu:///system"],
        "homenode top -c cap\ta\\ h\t": ["top", "-c", "capture:a host.toml"],
        "homenode place --pol\txap\t --devi\t pref\t": [
            "place", "--policy", "xapi", "--devices", "preferred",
        ],
        "homenode topology --save=a\t": ["topology", "--save=a host.toml"],
        "homenode place a\t": ["place", "a host.toml"],
        "homenode place --policy=nodes,distance_me\t": ["place", "--policy=nodes,distance_mean"],
    }  # fmt: skip
    keys = "".join(f"{line}\r" for line in typed)
    (tmp_path / "bashrc").write_text(
        f"source {codes / 'bash'}\nhomenode() {{ printf '<%s>' \"$@\" >>told; echo >>told; }}\n"
        "bind 'set bell-style none'\nPS1='$ '\n"
    )
    subprocess.run(
        ["script", "-qec", "bash --noprofile --rcfile bashrc -i", "/dev/null"],
        cwd=tmp_path, input=f"{keys}exit\r".encode(), capture_output=True, check=False, timeout=60,
        env={**os.environ, "TERM": "dumb", "HISTFILE": ""},
    )  # fmt: skip
    told = (tmp_path / "told").read_text().splitlines()
    assert [re.findall("<(.*?)>", line) for line in told] == list(typed.values())


def test_every_word_for_a_value_is_known():
    """A new option that takes a file or a guest would be completed as nothing else."""
    values = [
        value
        for verb in grammar.verbs()
        for value in (*verb.positions, *(option.value for option in verb.options))
        if value is not None and value.kind is not grammar.Kind.WORDS
    ]
    own = {"CONFIG", "VCPUS[:MIB]"}  # of what has no parser
    assert {value.metavar for value in values} - own == set(grammar.KINDS)


def test_guests_are_told_without_a_word_of_complaint(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    # Long enough for a busy machine; what it is for is tried by whoever presses Tab.
    monkeypatch.setattr("homenode.cli.completion._PATIENCE_S", 60.0)
    for uri, names in ((CAPTURE, GUESTS), ("xen+ssh://no.host/", []), ("capture:no/file", [])):
        assert main(["completion", "-c", uri, "guests"]) == 0
        told = capsys.readouterr()
        assert (told.out.split(), told.err) == (names, "")
        main(["completion", "-c", uri, "guests", "--json"])
        assert json.loads(capsys.readouterr().out) == {"version": 1, "guests": names}


def test_code_is_printed_and_another_shell_refused(capsys):
    for shell in SHELLS:
        assert main(["completion", shell]) == 0
        code = capsys.readouterr().out
        assert code == script(shell)
        main(["completion", shell, "--json"])
        assert json.loads(capsys.readouterr().out)["code"] == code
    assert main(["completion", "ksh"]) == 2
    assert "'ksh'" in capsys.readouterr().err
