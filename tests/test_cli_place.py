"""The verbs that only look: what they print, and how they refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from homenode.cli.main import VERBS, main
from homenode.placement.facts import FACTS
from homenode.placement.policies import POLICIES

ROOT = Path(__file__).parent.parent
CAPTURES = ROOT / "tests" / "data" / "xen-captures"
HOST = f"capture:{CAPTURES / 'n8' / 'guests'}"
GUEST = str(CAPTURES / "n8" / "guests" / "g.cfg")
SMALL_HOST = f"capture:{CAPTURES / 'n2' / 'guests'}"


@pytest.fixture
def run(capsys, monkeypatch):
    """Return a function that runs the command: (exit status, stdout, stderr)."""
    monkeypatch.delenv("HOMENODE_URI", raising=False)

    def call(*arguments):
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            status = exit_.code
        return (int(status), *capsys.readouterr())

    return call


@pytest.fixture
def guest(tmp_path):
    """Return a function that writes a guest config and returns its path."""

    def write(**settings):
        lines = {"name": '"new"', "memory": "64", "vcpus": "2", **settings}
        path = tmp_path / "new.cfg"
        path.write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        return path

    return write


def test_place_says_where_the_memory_and_the_vcpus_go(run):
    status, out, err = run("place", "-c", HOST, GUEST)
    assert (status, err) == (0, "")
    assert out.startswith("g: nodes ")
    for word in ("memory", "vcpus", "because", "[already-running]"):
        assert word in out


def test_a_preference_is_shown_where_it_says_more_than_what_holds(run, guest):
    held = guest(cpus='"nodes:0"', cpus_soft='"nodes:0"')
    assert "held to cpus 0-1\n" in run("place", "-c", SMALL_HOST, held)[1]
    vcpus = json.loads(run("place", "-c", SMALL_HOST, "--json", held)[1])["vcpus"]
    assert [(one["hard"], one["soft"]) for one in vcpus] == [("0-1", "0-1")]
    wider = guest(cpus='"nodes:0-3"', cpus_soft='"nodes:0-1"')
    assert "held to cpus 0-7, preferring cpus 0-3\n" in run("place", "-c", HOST, wider)[1]


def test_the_document_of_a_decision_has_what_is_promised(run, guest):
    status, out, _ = run("place", "-c", HOST, "--json", guest(vcpus=4))
    document = json.loads(out)
    assert status == 0
    assert document["version"] == 1
    assert document["fits"] is document["optimal"] is True
    assert sum(share["kib"] for share in document["memory"]) == document["memory_needed_kib"]
    assert {share["guarantee"] for share in document["memory"]} <= {
        "bound",
        "preferred",
        "expected",
    }
    assert [run["vcpus"] for run in document["vcpus"]] == ["0-3"]
    assert document["candidates"][0]["nodes"] == document["nodes"]
    for candidate in document["candidates"]:
        assert set(FACTS) - {"nodes"} <= set(candidate)
    assert len(document["snapshot"]) >= 8
    again = json.loads(run("place", "-c", HOST, "--json", guest(vcpus=4))[1])
    assert again == document, "the same host and guest make the same document"


def test_virtual_nodes_are_in_the_document_with_the_nodes_they_name(run, guest):
    cells = [
        '["pnode=3", "size=64", "vcpus=0", "vdistances=10,20"]',
        '["pnode=4", "size=64", "vcpus=1", "vdistances=20,10"]',
    ]
    config = guest(type='"hvm"', memory="128", vnuma=f"[{', '.join(cells)}]")
    document = json.loads(run("place", "-c", HOST, "--json", config)[1])
    assert [cell["node"] for cell in document["virtual_nodes"]] == [3, 4]
    assert [cell["vcpus"] for cell in document["virtual_nodes"]] == ["0", "1"]
    assert [share["node"] for share in document["memory"]] == [3, 4]


def test_a_refusal_is_an_answer_on_stdout_with_status_1(run, guest):
    big = guest(memory=4096)
    status, out, err = run("place", "-c", SMALL_HOST, big)
    assert (status, err) == (1, "")
    assert "does not fit" in out
    assert "node 1: " in out
    status, out, err = run("place", "-c", SMALL_HOST, "--json", big)
    document = json.loads(out)
    assert (status, err, document["fits"], document["nodes"]) == (1, "", False, [])
    assert {node for rejected in document["rejected"] for node in rejected["nodes"]} == {0, 1}


def test_a_remedy_that_is_taken_makes_the_guest_fit(run, guest):
    document = json.loads(run("place", "-c", SMALL_HOST, "--json", guest(memory=800))[1])
    (smaller,) = [r for r in document["remedies"] if r["kind"] == "shrink"]
    less, unit = smaller["text"].split()[3:5]
    assert unit == "MiB"
    assert run("place", "-c", SMALL_HOST, guest(memory=800 - int(less) - 8))[0] == 0
    assert run("place", "-c", SMALL_HOST, guest(memory=800 - int(less) + 8))[0] == 1


def test_explain_ranks_rivals_and_says_what_each_lost_by(run, guest):
    status, out, _ = run("explain", "-c", HOST, "--all", guest())
    assert status == 0
    assert "candidates that fit:" in out
    assert "  chosen\n" in out
    assert "its hole is " in out or "its vcpus_per_core is " in out


def test_wishes_on_the_command_line_outrank_the_file(run, guest):
    config = guest(nodes='["1"]')
    assert run("place", "-c", HOST, config)[1].startswith("new: node 1")
    assert run("place", "-c", HOST, "--nodes", "3", config)[1].startswith("new: node 3")
    two = run("place", "-c", HOST, "--nodes", "2 nodes", "--policy", "xapi", config)[1]
    assert two.startswith("new: nodes ")


def test_policies_lists_every_policy_and_fact(run):
    out = run("policies")[1]
    for name in (*POLICIES, *FACTS):
        assert name in out
    document = json.loads(run("policies", "--json")[1])
    assert [entry["name"] for entry in document["policies"]] == list(POLICIES)
    assert [entry["name"] for entry in document["facts"]] == list(FACTS)


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help_with_examples(run, verb):
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert "examples:" in out
    assert f"homenode {verb}" in out.split("examples:")[1]
    assert "--json" in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["move"], "no verb 'move'"),
        (["place"], "required: FILE"),
        (["place", "-c", HOST, "--polcy", "x", GUEST], "--polcy"),
        (["place", GUEST], "no host is named"),
        (["place", "-c", "capture:/no/such", GUEST], "/no/such"),
        (["place", "-c", "xen-captures/n8", GUEST], "no connection URI"),
        (["place", "-c", "two\nlines", GUEST], "named as capture:PATH"),
        (["place", "-c", "ftp://host", GUEST], "no scheme 'ftp'"),
        (["place", "-c", HOST, "/no/such.cfg"], "/no/such.cfg: No such file"),
        (["place", "-c", HOST, str(CAPTURES)], "Is a directory"),
        (["place", "-c", HOST, "--policy", "fastest", GUEST], "no policy 'fastest'"),
        (["place", "-c", HOST, "--nodes", "0-9", GUEST], "nodes 8-9"),
        (["place", "-c", HOST, "--nodes", "many", GUEST], "'many'"),
        (["place", "-c", HOST, "--nodes", "9 nodes", GUEST], "has 8 nodes"),
        (["place", "-c", HOST, "--seconds", "soon", GUEST], "soon"),
        (["policies", "--check", "nodes,luck"], "no fact 'luck'"),
        (["topology", "-c", f"capture:{GUEST}"], "g.cfg"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_status_2(run, arguments, complaint):
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("homenode: ")
    assert err.count("\n") == 1
    assert complaint in err


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"vcpus": "[1]"}, "new.cfg:3"),
        ({"memory": '"lots"'}, "new.cfg:2"),
        ({"cpus": '"0-99"'}, "new.cfg:4"),
        ({"nodes_policy": '"fastest"'}, "new.cfg:4"),
        ({"pool": '"nowhere"'}, "nowhere"),
        ({"vcpus": "2 3"}, "new.cfg:3"),
    ],
)
def test_what_is_wrong_in_a_guest_file_is_named_with_its_line(run, guest, settings, complaint):
    status, out, err = run("place", "-c", HOST, guest(**settings))
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert complaint in err


def test_the_module_runs_as_a_program_and_survives_a_closed_pipe():
    command = [sys.executable, "-m", "homenode.cli.main", "policies"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.close()
        assert program.stderr.read() == b""
        assert program.wait() == 0


def test_nothing_is_compiled_on_the_way_to_an_answer():
    # The first compilation in a process takes a millisecond: a record with an annotation in quotes
    # is enough for one.
    program = """
import builtins, sys
compile_anyway = compile
def refuse(source, filename, *more, **named):
    assert filename != "<string>", f"compiled: {source!r}"  # modules without byte code have a file
    return compile_anyway(source, filename, *more, **named)
builtins.compile = refuse
from homenode.cli.main import main
sys.exit(main(["place", "-c", sys.argv[1], sys.argv[2]]))
"""
    capture = f"capture:{CAPTURES / 'n8/empty/xl-info-n.txt'}"
    guest = str(CAPTURES / "n8/guests/c.cfg")
    ran = subprocess.run(
        [sys.executable, "-c", program, capture, guest], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
