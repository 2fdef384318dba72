"""``homenode replay``: tables, documents, datasets and pictures of small traces."""

import json
import re

import pytest

from homenode.cli.main import main
from homenode.cli.replay import _policies
from homenode.fleet import fleet_policy

pl = pytest.importorskip("polars", reason="replays need polars")

FLEET = """\
name = "small"

[[hosts]]
count = 3
nodes = 2
cores = 4
memory = "8GiB"
"""


def trace_rows(guests=20):
    """Guests that come every ten seconds and stay for a minute; every fifth is on two nodes."""
    happens = []
    for guest in range(guests):
        nodes = "2" if guest % 5 == 0 else ""
        happens.append(
            (guest * 10, 1, f"create,g{guest},{1 + guest % 4},{512 * (1 + guest % 3)},{nodes}")
        )
        happens.append((guest * 10 + 60, 0, f"delete,g{guest},,,"))
    happens.sort()
    return [f"{at},{what}" for at, _, what in happens]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.toml").write_text(FLEET)
    rows = ["time_s,event,guest,vcpus,memory_mib,nodes", *trace_rows()]
    rows = [row.replace("create,g0,1,", "create,g0,2,") for row in rows]
    rows = [row.replace(",1,512,2", ",2,512,2").replace(",1,1024,2", ",2,1024,2") for row in rows]
    rows = [row.replace(",1,1536,2", ",2,1536,2") for row in rows]
    (tmp_path / "trace.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def told(capsys, *arguments, status=0):
    capsys.readouterr()
    assert main(["replay", *map(str, arguments)]) == status
    return capsys.readouterr()


def test_policies_are_compared_with_the_bounds_below(files, capsys):
    assert (files / "trace.csv").exists()
    out = told(capsys, "trace.csv", "--fleet", "fleet.toml").out
    lines = out.splitlines()
    assert lines[0] == "trace on small: 20 guests, 3 hosts"
    assert lines[1].split()[0] == "Policy"
    names = [line.split()[0] for line in lines[2:6]]
    assert names == ["first/first-fit", "pack/balanced", "spread/balanced", "preserve/balanced"]
    assert lines[6].startswith("no better than")


def test_the_document_has_values_bounds_and_time(files, capsys):
    assert (files / "trace.csv").exists()
    asked = ("trace.csv", "--fleet", "fleet.toml", "--policy", "pack,spread/best-fit", "--json")
    document = json.loads(told(capsys, *asked).out)
    assert [row["policy"] for row in document["rows"]] == ["pack/balanced", "spread/best-fit"]
    pack, spread = document["rows"]
    assert pack["values"]["refused"] == {"mean": 0, "margin": None}
    assert pack["values"]["hosts_mean"]["mean"] < spread["values"]["hosts_mean"]["mean"]
    assert pack["bounds"]["hosts_mean"] <= pack["values"]["hosts_mean"]["mean"]
    assert pack["over_time"][-1]["guests"] == 0
    assert all(one["hosts"] >= one["hosts_least"] for one in pack["over_time"])
    assert document["rows"][0]["host_order"] == ["empty", "vcpus", "memory"]


def test_filling_until_full(files, capsys):
    rows = ["time_s,event,guest,vcpus,memory_mib", *(f"{n},create,g{n},2,2048" for n in range(30))]
    (files / "many.csv").write_text("\n".join(rows) + "\n")
    asked = ("many.csv", "--fleet", "fleet.toml", "--fill", "--policy", "first", "--json")
    (row,) = json.loads(told(capsys, *asked).out)["rows"]
    # Three hosts of two nodes with four cpus and 8 GiB each.
    assert row["values"]["placed_first"]["mean"] == 12
    assert row["bounds"] == {"placed_first": 12}
    assert row["values"]["refused"]["mean"] == 1
    assert row["refused_of"] == {"2x2GiB": 1}


def test_a_dataset_is_gone_on_from(files, capsys):
    asked = ("trace.csv", "--fleet", "fleet.toml", "--dataset", "results", "--json")
    first = told(capsys, *asked, "--policy", "pack").out
    kept = {path: path.stat().st_mtime_ns for path in (files / "results").iterdir()}
    assert len(kept) == 1
    both = told(capsys, *asked, "--policy", "pack,spread", "--seeds", "2").out
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())
    assert len(list((files / "results").iterdir())) == 4
    one, again = json.loads(first)["rows"][0], json.loads(both)["rows"][0]
    assert one["over_time"] == again["over_time"]
    assert again["seeds"] == [1, 2]
    assert again["values"]["hosts_mean"]["margin"] == 0
    table = pl.read_parquet(files / "results/*.parquet")
    assert set(table["policy"]) == {"pack/balanced", "spread/balanced"}


def test_over_commitment_and_rules(files, capsys):
    rows = ["time_s,event,guest,vcpus,memory_mib", *(f"{n},create,g{n},4,512" for n in range(30))]
    (files / "many.csv").write_text("\n".join(rows) + "\n")
    asked = ("many.csv", "--fleet", "fleet.toml", "--policy", "first", "--json")
    (plain,) = json.loads(told(capsys, *asked).out)["rows"]
    assert plain["values"]["placed"]["mean"] == 6
    (more,) = json.loads(told(capsys, *asked, "--overcommit", "vcpus=2").out)["rows"]
    assert more["values"]["placed"]["mean"] == 12
    (wide,) = json.loads(told(capsys, *asked, "--wide", "4:2").out)["rows"]
    assert wide["values"]["distance_wide"]["mean"] > 10
    assert "2 nodes" in " ".join(wide["synthetic"])
    (gone,) = json.loads(told(capsys, *asked, "--lifetimes", "3").out)["rows"]
    assert gone["values"]["refused"]["mean"] < 24
    assert gone["synthetic"]


def test_a_trace_can_be_saved_in_the_format_of_our_own(files, capsys):
    told(capsys, "trace.csv", "--save", "trace.parquet")
    asked = ("--fleet", "fleet.toml", "--policy", "pack", "--json")
    (one,) = json.loads(told(capsys, "trace.csv", *asked).out)["rows"]
    (other,) = json.loads(told(capsys, "trace.parquet", *asked).out)["rows"]
    assert one["values"] == other["values"]
    assert (files / "trace.parquet").exists()


def test_pictures_are_drawn(files, capsys):
    pytest.importorskip("altair", reason="pictures need altair")
    asked = ("trace.csv", "--fleet", "fleet.toml", "--policy", "pack,spread", "--pictures", "out")
    assert "pictures: out" in told(capsys, *asked).out
    drawn = sorted(path.name for path in (files / "out").iterdir())
    assert drawn == ["heat-map.svg", "stranding.svg", "use.svg"]
    assert "spread/balanced" in (files / "out/use.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["trace.csv"], "no fleet is named"),
        (["nothing.csv", "--fleet", "fleet.toml"], "nothing.csv"),
        (["trace.csv", "--fleet", "nothing.toml"], "nothing.toml"),
        (["trace.csv", "--fleet", "trace.csv"], "is not TOML"),
        (["fleet.toml", "--fleet", "fleet.toml"], "fleet.toml"),
        (["trace.csv", "--fleet", "fleet.toml", "--policy", "best"], "no policy 'best'"),
        (["trace.csv", "--fleet", "fleet.toml", "--policy", "pack,best"], "no policy 'best'"),
        (["trace.csv", "--fleet", "fleet.toml", "--wide", "x"], "--wide x"),
        (["trace.csv", "--fleet", "fleet.toml", "--wide", "1:2"], "2 nodes"),
        (["trace.csv", "--fleet", "fleet.toml", "--overcommit", "2"], "vcpus=N,memory=N"),
        (["trace.csv", "--fleet", "fleet.toml", "--overcommit", "vcpus=1e9"], "vcpus=N,memory=N"),
        (["trace.csv", "--fleet", "fleet.toml", "--policy=-candidate"], "candidate has no sign"),
        (["trace.csv", "--fleet", "fleet.toml", "--seeds", "1000000"], "more than 10000"),
        (["trace.csv", "--fleet", "fleet.toml", "--pictures", "trace.csv"], "trace.csv"),
        (["trace.csv", "--fleet", "fleet.toml", "--lifetimes", "5"], "departures"),
        (["trace.csv", "--fleet", "fleet.toml", "--seeds", "0"], "no number from 1"),
        (["trace.csv", "--fleet", "fleet.toml", "--save", "trace.txt"], "trace.txt"),
        (["trace.csv", "trace.csv", "--save", "x.csv"], "one TRACE"),
    ],
)
def test_what_cannot_be_replayed_is_one_line_and_nothing_written(
    files, capsys, arguments, complaint
):
    before = sorted(files.iterdir())
    printed = told(capsys, *arguments, status=2)
    assert complaint in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert sorted(files.iterdir()) == before


def test_a_row_that_is_wrong_is_named_with_its_column(files, capsys):
    text = (files / "trace.csv").read_text().splitlines()
    text[3] = "0,create,other,-2,512,"
    (files / "wrong.csv").write_text("\n".join(text) + "\n")
    printed = told(capsys, "wrong.csv", "--fleet", "fleet.toml", "--dataset", "results", status=2)
    assert "wrong.csv:4:" in printed.err
    assert "vcpus" in printed.err
    assert not (files / "results").exists() or not list((files / "results").iterdir())


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pack,spread/spread", ["pack/balanced", "spread/worst-fit"]),
        ("empty,vcpus", ["empty,vcpus/balanced"]),
        ("-vcpus~3/2,memory/nodes,usable", ["-vcpus~3/2,memory/nodes,usable"]),
        ("pack/nodes,usable~1/8", ["pack/nodes,usable~1/8"]),
        ("nodes,usable", ["preserve/nodes,usable"]),
    ],
)
def test_commas_part_names_and_join_facts(files, capsys, text, names):
    assert (files / "trace.csv").exists()
    asked = ("trace.csv", "--fleet", "fleet.toml", f"--policy={text}", "--json")
    rows = json.loads(told(capsys, *asked).out)["rows"]
    assert [row["policy"] for row in rows] == names


def test_examples_of_the_help_are_policies(capsys):
    with pytest.raises(SystemExit):
        main(["replay", "--help"])
    shown = capsys.readouterr().out
    asked = re.findall(r"--policy '?([^' ]+)'?", shown.split("examples:")[1])
    assert asked
    for text in asked:
        for name in _policies(text.rstrip()):
            assert fleet_policy(name).name == name
