import json

import pytest

from homenode.cli.main import main
from homenode.errors import ExitStatus

VERBS = ("create", "destroy", "list", "affinity", "claims")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    """Have simulated hosts of our own, and be in a folder of our own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("HOMENODE_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "state" / "homenode" / "sim" / "try.json"


@pytest.fixture
def run(capsys):
    """Run a command; return its exit status, what it said to people, and to programs."""

    def run_one(verb, *arguments, uri="sim:try"):
        status = main([verb, "-c", uri, *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run_one


@pytest.fixture
def document(run):
    def document_of(verb, *arguments, status=ExitStatus.DONE, uri="sim:try"):
        exit_status, out, _ = run(verb, "--json", *arguments, uri=uri)
        assert exit_status == status
        read = json.loads(out)
        assert read["version"] == 1
        return read

    return document_of


def config(path, name, *lines, memory=4096, vcpus=4, kind="pvh"):
    settings = (f'name = "{name}"', f'type = "{kind}"', f"memory = {memory}", f"vcpus = {vcpus}")
    (path / f"{name}.cfg").write_text("\n".join((*settings, *lines)) + "\n")
    return f"{name}.cfg"


def test_guests_are_created_shown_moved_and_destroyed(tmp_path, run, document):
    files = [config(tmp_path, name) for name in ("web1", "web2")]
    created = document("create", "--policy", "spread", *files)["guests"]
    nodes = [guest["decision"]["nodes"] for guest in created]
    assert len(nodes[0]) == len(nodes[1]) == 1
    assert nodes[0] != nodes[1]
    assert [guest["created"]["match"] for guest in created] == [100, 100]

    listed = {guest["name"]: guest for guest in document("list")["guests"]}
    assert listed["web1"] == created[0]["created"]
    assert listed["web1"]["memory"] == [{"node": nodes[0][0], "kib": 4096 << 10}]

    other = str(nodes[1][0])
    shown = document("affinity", "web1", other)
    assert (shown["changed"], shown["guest"]["match"]) == (True, 0)
    shown = document("affinity", "web1", other, "--move")
    assert shown["guest"]["memory"] == [{"node": nodes[1][0], "kib": 4096 << 10}]
    assert not document("affinity", "web1", other, "--move")["changed"]

    destroyed = document("destroy", "web1", "web2")["destroyed"]
    assert [guest["name"] for guest in destroyed] == ["web1", "web2"]
    assert [guest["name"] for guest in document("list")["guests"]] == ["Domain-0"]
    assert document("claims")["claims"] == []
    assert run("list")[1].count("\n") == 2


def test_the_text_says_where_a_guest_went(tmp_path, run):
    status, out, err = run("create", config(tmp_path, "web1", 'nodes = "5"'))
    assert (status, err) == (ExitStatus.DONE, "")
    assert "web1: created on node 5" in out
    assert "100 %" in out
    assert "as planned" in out
    assert "4096 MiB on 5" in run("list")[1]
    assert "web1: node 5" in run("affinity", "web1")[1]


def test_what_vcpus_prefer_is_told_where_they_may_run_elsewhere(tmp_path, run):
    run("create", config(tmp_path, "web1", 'nodes = "5"'))
    assert "preferring" not in run("affinity", "web1", "5", "--hard")[1]
    assert "preferring cpus 160-191" in run("affinity", "web1", "5", "--soft")[1]


def test_a_dry_run_shows_what_would_be_and_changes_nothing(tmp_path, run, state):
    file = config(tmp_path, "web1", "# ours")
    run("create", file)
    before = state.read_bytes()
    other = config(tmp_path, "web2", "# theirs")
    out = run("create", "--dry-run", "--nodes", "2", other)[1]
    assert "web2: node 2" in out
    assert 'cpus_soft = "nodes:2"' in out
    assert "# theirs" in out
    assert "would" in run("destroy", "--dry-run", "web1")[1]
    assert "would" in run("affinity", "--dry-run", "--move", "web1", "7")[1]
    assert state.read_bytes() == before


def test_what_does_not_fit_is_an_answer_and_the_others_are_created(tmp_path, run, document):
    files = [config(tmp_path, "huge", memory=1 << 20), config(tmp_path, "web1")]
    guests = document("create", *files, status=ExitStatus.DOES_NOT_FIT)["guests"]
    assert [guest["decision"]["fits"] for guest in guests] == [False, True]
    assert guests[0]["created"] is None
    status, out, err = run("create", files[0])
    assert (status, err) == (ExitStatus.DOES_NOT_FIT, "")
    assert "does not fit" in out


@pytest.mark.parametrize(
    ("step", "status"),
    [("allocate", ExitStatus.HYPERVISOR), ("start", ExitStatus.UNDONE)],
)
def test_a_failure_has_its_exit_status_and_one_line(tmp_path, run, state, step, status):
    run("list")
    before = state.read_bytes()
    result, out, err = run("create", config(tmp_path, "web1"), uri=f"sim:try?fail={step}")
    assert (result, out) == (status, "")
    assert err.count("\n") == 1
    assert state.read_bytes() == before
    assert run("claims")[1] == "nothing is claimed\n"


def test_one_bad_file_of_several_keeps_all_from_being_created(tmp_path, run, document):
    files = [config(tmp_path, "web1"), config(tmp_path, "web2", "memory = [")]
    status, out, err = run("create", "--json", *files)
    assert status == ExitStatus.BAD_INPUT
    assert out == ""
    assert [guest["name"] for guest in document("list")["guests"]] == ["Domain-0"]
    assert err.startswith("homenode: web2.cfg:6:")


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "none.cfg"],
        ["create"],
        ["create", "--colour", "red", "web1.cfg"],
        ["create", "--policy", "nicest", "web1.cfg"],
        ["create", "--nodes", "0-99", "web1.cfg"],
        ["create", "--nodes", "", "web1.cfg"],
        ["destroy", "nobody"],
        ["destroy"],
        ["affinity", "nobody"],
        ["affinity", "Domain-0", "0-99"],
        ["affinity", "Domain-0", "x"],
        ["affinity", "Domain-0", "0,^0"],
        ["affinity", "Domain-0", "--move"],
        ["list", "extra"],
    ],
)
def test_bad_input_is_one_line_and_exit_status_2(tmp_path, run, arguments):
    config(tmp_path, "web1")
    status, out, err = run(*arguments)
    assert (status, out) == (ExitStatus.BAD_INPUT, "")
    assert err.startswith("homenode: ")
    assert err.count("\n") == 1


def test_all_or_none_of_the_named_guests_are_known_before_any_is_destroyed(tmp_path, run):
    run("create", config(tmp_path, "web1"))
    assert run("destroy", "web1", "nobody")[0] == ExitStatus.BAD_INPUT
    assert "web1" in run("list")[1]


def test_dom0_is_refused_by_the_host(run):
    assert run("destroy", "Domain-0")[0] == ExitStatus.HYPERVISOR


@pytest.mark.parametrize("verb", ["create", "destroy", "affinity", "claims"])
def test_a_host_that_can_only_be_looked_at_says_so(tmp_path, run, verb):
    (tmp_path / "host.toml").write_text('nodes = 2\ncores = 8\nmemory = "8GiB"\n')
    config(tmp_path, "web1", memory=64)
    arguments = {"create": ["web1.cfg"], "claims": []}.get(verb, ["web1"])
    status, out, err = run(verb, *arguments, uri="capture:host.toml")
    assert (status, out) == (ExitStatus.BAD_INPUT, "")
    assert "capture:host.toml" in err


def test_vcpus_that_may_not_run_on_the_new_nodes_are_warned_of(tmp_path, run, document):
    run("create", config(tmp_path, "web1", 'cpus = "node:0"'))
    (warned,) = document("affinity", "web1", "3", "--dry-run")["warnings"]
    assert warned["code"] == "vcpus-away-from-memory"
    assert warned["text"].startswith("vcpus 0-3 may not run on node 3")


def test_a_pending_claim_is_shown_with_what_is_outstanding(tmp_path, run, state, document):
    run("create", config(tmp_path, "web1", 'nodes = "1"'))
    ledger = state.with_name("try.claims.json")
    content = json.loads(ledger.read_text())
    ghost = "00000000-0000-4000-8000-00000000abcd"
    content["claims"].append(
        {**content["claims"][0], "uuid": ghost, "state": "pending", "expires_at": 2**40}
    )
    ledger.write_text(json.dumps(content))
    claims = document("claims")
    assert [claim["state"] for claim in claims["claims"]] == ["seen", "pending"]
    assert claims["claims"][0]["outstanding"] == []
    assert claims["outstanding"] == [{"node": 1, "kib": 4096 << 10}]
    assert "pending  4096 MiB on 1  4096 MiB on 1" in run("claims")[1]


def test_names_that_steer_a_terminal_or_fill_it_are_shown_as_text(tmp_path, run, document):
    odd = "[red]" + "\\a" + "x" * 60
    (tmp_path / "odd.cfg").write_text(f'name = "{odd}"\nmemory = 64\n')
    assert run("create", "odd.cfg")[0] == ExitStatus.DONE
    out = run("list")[1]
    assert "\a" not in out
    assert "[red]" in out
    assert "x" * 41 not in out
    assert document("list")["guests"][1]["name"] == "[red]\a" + "x" * 60


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples_and_the_document(capsys, verb):
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])
    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert "examples:" in told
    assert f"homenode {verb} -c" in told
    assert '"version": 1' in told
    assert max(map(len, told.splitlines())) <= 100


def test_the_dry_run_of_an_affinity_says_what_would_be_for_programs_too(tmp_path, run, document):
    run("create", config(tmp_path, "web1", 'nodes = "1"'))
    assert document("affinity", "web1")["wanted"] is None
    planned = document("affinity", "web1", "2-3", "--move", "--dry-run")
    assert planned["wanted"] == {"node_affinity": [2, 3], "kind": "hard", "move": True}
    assert (planned["changed"], planned["guest"]["node_affinity"]) == (False, [1])
    said = run("affinity", "web1", "2-3", "--dry-run")[1]
    assert "would be held to nodes 2-3 instead of node 1" in said
    assert "would stay" in said
    assert "would be held to node 1 as it does" in run("affinity", "web1", "1", "--dry-run")[1]


def test_an_explicit_wish_is_not_put_down_to_a_policy(tmp_path, run):
    assert "(balanced)" in run("create", config(tmp_path, "web1"))[1]
    out = run("create", config(tmp_path, "web2", 'nodes = "5"'))[1]
    assert "balanced" not in out
    assert "node 5 (as nodes says)" in out
    out = run("create", "--nodes", "6", config(tmp_path, "web3"))[1]
    assert "node 6 (as --nodes says)" in out


@pytest.mark.parametrize("length", [100_000, 4097])
def test_a_name_that_no_hypervisor_takes_is_refused_before_anything_is_written(
    tmp_path, run, length
):
    (tmp_path / "long.cfg").write_text(f'name = "{"n" * length}"\nmemory = 64\n')
    status, out, err = run("create", "long.cfg")
    assert (status, out) == (ExitStatus.BAD_INPUT, "")
    assert err.startswith("homenode: long.cfg:1: the name is longer than")
    assert run("claims")[1] == "nothing is claimed\n"
    assert run("list")[0] == ExitStatus.DONE


def test_a_guest_of_very_many_vcpus_is_kept_and_read_again(tmp_path, run, document):
    (tmp_path / "host.toml").write_text('nodes = 2\ncores = 4096\nmemory = "64GiB"\n')
    uri = f"sim:wide?host={tmp_path}/host.toml"
    assert run("create", config(tmp_path, "wide", vcpus=8192), uri=uri)[0] == ExitStatus.DONE
    assert document("list", uri=uri)["guests"][1]["vcpus"] == 8192


def test_no_guest_and_no_policy_are_said_so(run, capsys):
    assert run("list", uri="local:///")[1] == "no guests are known here\n"
    assert main(["policies", "--check", ""]) == ExitStatus.BAD_INPUT
    assert "there is no policy ''" in capsys.readouterr().err


def test_an_order_is_checked_term_by_term(capsys):
    assert main(["policies", "--check", "nodes,-usable~4G"]) == ExitStatus.DONE
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [
        "      nodes       smaller: how many cpu nodes",
        "      -usable~4G  larger, in steps of 4G: memory that the nodes can give",
    ]
    assert main(["policies", "--check", "spread/best-fit"]) == ExitStatus.DONE
    said = capsys.readouterr().out
    assert "-memory  larger: memory that is free on it" in said
    assert "usable  smaller: memory that the nodes can give" in said


def test_names_fill_no_picture(tmp_path, run):
    (tmp_path / "long.cfg").write_text(f'name = "{"n" * 4000}"\nmemory = 64\n')
    run("create", "long.cfg")
    for form in ("text", "svg"):
        out = run("topology", "--format", form)[1]
        assert 1 <= out.count("n" * 20) < 10


def test_a_guest_held_to_a_node_keeps_its_node_affinity_there_as_on_xen(tmp_path, run, document):
    run("create", config(tmp_path, "held", 'cpus = "node:3"'))
    moved = document("affinity", "held", "5", "--move")
    assert moved["guest"]["node_affinity"] == [3]
    assert [share["node"] for share in moved["guest"]["memory"]] == [3]
    assert [warned["code"] for warned in moved["warnings"]] == ["vcpus-away-from-memory"]


@pytest.mark.parametrize(("nodes", "there"), [("6-7", [6, 7]), ("3-5", [3, 4])])
def test_virtual_nodes_lie_on_the_nodes_named_and_their_vcpus_prefer_them(
    tmp_path, document, nodes, there
):
    cells = ", ".join(
        f'["pnode={node}", "size=2048", "vcpus={vcpus}", "vdistances={row}"]'
        for node, vcpus, row in ((3, "0-1", "10,20"), (4, "2-3", "20,10"))
    )
    name = config(tmp_path, "wide", f'nodes = "{nodes}"', f"vnuma = [{cells}]", kind="hvm")
    (made,) = document("create", name)["guests"]
    assert made["created"]["node_affinity"] == there
    assert made["created"]["memory"] == [{"node": node, "kib": 2 << 20} for node in there]


def test_a_guest_whose_cpus_contradict_its_nodes_gets_memory_where_its_cpus_are(
    tmp_path, run, document
):
    run("create", config(tmp_path, "torn", 'nodes = "6"', 'cpus = "node:3"'))
    guest = document("affinity", "torn")["guest"]
    assert guest["node_affinity"] == [3]
    assert [share["node"] for share in guest["memory"]] == [3]
