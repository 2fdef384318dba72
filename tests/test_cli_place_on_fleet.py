"""``homenode -c URI -c URI place``: simulated hosts, each with its own guests."""

import json

import pytest

from homenode.cli.main import main

HOST = 'nodes = 2\ncores = 4\nmemory = "8GiB"\n'


def config(name, memory=1024, vcpus=2, **more):
    lines = [f'name = "{name}"', f"memory = {memory}", f"vcpus = {vcpus}"]
    return "\n".join(lines + [f"{key} = {value}" for key, value in more.items()]) + "\n"


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """Two simulated hosts; guest db runs on the second."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HOMENODE_URI", raising=False)
    (tmp_path / "host.toml").write_text(HOST)
    for name, memory in (("db", 6000), ("web", 1024), ("big", 20000)):
        (tmp_path / f"{name}.cfg").write_text(config(name, memory))
    uris = [f"sim:{name}?host={tmp_path / 'host.toml'}" for name in ("one", "two")]
    assert main(["create", "-c", uris[1], "db.cfg"]) == 0
    return ["-c", uris[0], "-c", "sim:two"]


def told(capsys, arguments, status=0):
    capsys.readouterr()
    assert main(arguments) == status
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "host"),
    [([], "two"), (["--host-policy", "spread"], "one"), (["--host-policy", "first"], "one"),
     (["--with", "db"], "two"), (["--not-with", "db"], "one"),
     (["--host-policy=-guests"], "two")],
)  # fmt: skip
def test_the_host_is_chosen_by_the_policy_and_by_who_is_there(fleet, capsys, options, host):
    document = json.loads(told(capsys, [*fleet, "place", "--json", *options, "web.cfg"]))
    assert document["fits"]
    assert document["host"].startswith(f"sim:{host}")
    assert document["decision"]["fits"]
    assert document["decision"]["nodes"] in ([0], [1])
    text = told(capsys, [*fleet, "place", *options, "web.cfg"])
    assert f"  host     {document['host']}" in text
    assert f"  because  {document['reason']}" in text


def test_what_fits_on_no_host_is_refused_with_the_reason_of_each(fleet, capsys):
    text = told(capsys, [*fleet, "place", "big.cfg"], 1)
    assert text.startswith("big fits on none of 2 hosts\n")
    assert text.count("  not on   sim:") == 2
    document = json.loads(told(capsys, [*fleet, "place", "--json", "big.cfg"], 1))
    assert (document["fits"], document["host"], document["decision"]) == (False, None, None)
    assert {one["host"] for one in document["rejected"]} == {fleet[1], fleet[3]}


def test_vcpus_can_be_limited(fleet, capsys, tmp_path):
    (tmp_path / "wide.cfg").write_text(config("wide", 64, 3))
    # Two of the four cpus of a node of the second host are db's already.
    text = told(capsys, [*fleet, "place", "--host-policy=-guests", "wide.cfg"])
    assert "  host     sim:two" in text
    document = json.loads(
        told(capsys, [*fleet, "place", "--overcommit", "1", "--host-policy=-guests", "--json",
                      "wide.cfg"])
    )  # fmt: skip
    at_db = json.loads(told(capsys, ["list", "-c", "sim:two", "--json"]))
    db = at_db["guests"][-1]
    assert document["host"] == "sim:two"
    assert document["decision"]["nodes"] != db["node_affinity"]


def test_the_file_gets_the_decision(fleet, capsys, tmp_path):
    told(capsys, [*fleet, "place", "--write", "--with", "db", "web.cfg"])
    assert "nodes = " in (tmp_path / "web.cfg").read_text()


def test_a_host_that_does_not_answer_is_left_out(fleet, capsys):
    capsys.readouterr()
    assert main([*fleet, "-c", "xen+ssh://127.0.0.1:1/", "place", "web.cfg"]) == 0
    printed = capsys.readouterr()
    assert "xen+ssh://127.0.0.1:1/ is left out" in printed.err
    assert "  not on   xen+ssh://127.0.0.1:1/" in printed.out


@pytest.mark.parametrize(
    ("options", "complaint"),
    [(["--overcommit", "0"], "not a number of vcpus"),
     (["--with", "nobody"], "no host has a guest"),
     (["--host-policy", "best"], "no host policy 'best'"), (["--policy", "best"], "no policy"),
     (["-c", "nothing"], "'nothing' is no connection URI")],
)  # fmt: skip
def test_what_cannot_be_asked_for_is_one_line(fleet, capsys, options, complaint):
    capsys.readouterr()
    assert main([*fleet, "place", *options, "web.cfg"]) == 2
    printed = capsys.readouterr()
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out


@pytest.mark.usefixtures("fleet")
def test_a_connection_before_the_verb_is_the_same_as_behind_it(capsys):
    before = told(capsys, ["-c", "sim:two", "list", "--json"])
    assert before == told(capsys, ["list", "-c", "sim:two", "--json"])
    assert main(["-c", "sim:two"]) == 2
    assert main(["-c"]) == 2


def test_a_host_that_lacks_what_is_asked_for_is_passed_over(fleet, capsys, tmp_path):
    (tmp_path / "small.toml").write_text('nodes = 1\ncores = 2\nmemory = "4GiB"\n')
    hosts = ["-c", f"sim:small?host={tmp_path / 'small.toml'}", *fleet]
    (tmp_path / "first.cfg").write_text(config("first", 64, 1, nodes='"1"'))
    document = json.loads(told(capsys, [*hosts, "place", "--json", "first.cfg"]))
    assert document["host"].startswith(("sim:one", "sim:two"))
    assert [one["host"] for one in document["rejected"]] == [hosts[1]]
    capsys.readouterr()
    (tmp_path / "ninth.cfg").write_text(config("ninth", 64, 1, nodes='"9"'))
    assert main([*hosts, "place", "ninth.cfg"]) == 2


def test_a_limit_of_vcpus_lets_a_guest_have_several_nodes(fleet, capsys, tmp_path):
    (tmp_path / "wide.cfg").write_text(config("wide", 64, 8))
    asked = [*fleet, "place", "--json", "--overcommit", "1", "--host-policy", "spread", "wide.cfg"]
    document = json.loads(told(capsys, asked))
    assert document["host"].startswith("sim:one")
    assert document["decision"]["nodes"] == [0, 1]


@pytest.mark.usefixtures("fleet")
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["place", "-c", "sim:two", "--not-with", "x", "web.cfg"], "--not-with is for several hosts"),
     (["-c", "sim:one", "-c", "sim:two", "create", "web.cfg"], "create is for one host"),
     (["-c", "sim:one", "-c", "sim:two", "place", "--host-policy=-candidate", "web.cfg"],
      "candidate has no sign"),
     (["-c", "sim:one", "-c", "sim:two", "place", "--host-policy=empty~2", "web.cfg"],
      "empty is 0 or 1")],
)  # fmt: skip
def test_what_has_no_meaning_is_refused(capsys, arguments, complaint):
    capsys.readouterr()
    assert main(arguments) == 2
    assert complaint in capsys.readouterr().err
