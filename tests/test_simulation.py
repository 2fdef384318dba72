"""Scenarios: read, arranged, run with several seeds, compared, printed and drawn."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from homenode.bitmap import CpuMap, NodeMap
from homenode.cli.main import main
from homenode.errors import HomenodeError
from homenode.estimate import estimate
from homenode.guest import Guest, MemoryByNode, Vcpu
from homenode.scheduler.models import machine
from homenode.simulation import live, scenario_file
from homenode.simulation.arranging import arrange
from homenode.simulation.comparison import compare
from homenode.simulation.run import run
from homenode.simulation.scenario_file import line_of
from homenode.simulation.watching import waits

TEXT = """\
name = "two kinds"
host = "e5620"
duration = "1s"
warmup = "100ms"
seeds = 2

[[guest]]
name = "web"
count = 2
vcpus = 2
memory = "1GiB"
run = "2ms"
sleep = "6ms"

[[guest]]
name = "db"
vcpus = 4
memory = "2GiB"
nodes = "1"
work = "specjbb2005"

[[compare]]
name = "free"
scheduler = "credit 4.2"
affinity = "none"
memory = "striped"

[[compare]]
name = "soft"
scheduler = "credit 4.18"

[[compare]]
name = "pinned"
scheduler = "credit2 node"
affinity = "pinned"
"""


def parsed(text=TEXT):
    return scenario_file.parse(text, source="s.toml", host_of=lambda _name: machine("8269cy").host)


@pytest.fixture
def scenario(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text(TEXT)
    return path


def test_a_scenario_says_what_it_is():
    made = parsed()
    assert [guest.name for guest in made.guests] == ["web1", "web2", "db"]
    assert [str(variant.scheduler) for variant in made.variants] == [
        "credit 4.2", "credit 4.18", "credit2 node",
    ]  # fmt: skip
    assert (made.duration_ns, made.warmup_ns, made.seeds) == (10**9, 10**8, (1, 2))


def test_guests_without_a_home_are_placed_by_the_policy():
    made = parsed()
    soft = made.variants[1]
    homes = {}
    for policy in ("balanced", "packed"):
        arranged = arrange(made, soft._replace(policy=policy), 1)
        homes[policy] = [str(own.home) for own in arranged.settled]
    # Packed fills one node; balanced spreads guests that want as many cpus as a node has.
    assert len(set(homes["packed"][:2])) == 1
    assert len(set(homes["balanced"][:2])) == 2


def test_variants_set_masks_and_memory():
    made = parsed()
    free, soft, pinned = (arrange(made, variant, 1) for variant in made.variants)
    database = 2
    assert free.settled[database].shares == (0.5, 0.5)
    assert soft.settled[database].shares == (0.0, 1.0)
    assert soft.settled[database].soft[0] == CpuMap.parse("8-15")
    assert [str(mask) for mask in pinned.settled[database].hard] == ["8", "9", "10", "11"]


def test_every_variant_has_the_same_work_for_a_seed():
    made = parsed()
    starts = [[task.start_ns for task in arrange(made, one, 7).tasks] for one in made.variants]
    assert starts[0] == starts[1] == starts[2]


def test_figures_of_a_guest_agree_with_one_another():
    made = parsed()
    outcome = run(made, made.variants[1], 1).outcome
    for guest in outcome.guests:
        assert 0 < guest.cpu_s <= guest.vcpus
        assert guest.locality <= guest.residency + 1e-9 <= 1 + 1e-6
        assert guest.work <= guest.cpu_s + 1e-9
    database = outcome.guests[2]
    assert database.cpu_s == pytest.approx(4.0, abs=0.01)
    # Alone on its cores or not, its second threads yield a tenth.
    assert 0.5 * database.cpu_s < database.work <= database.cpu_s
    web = outcome.guests[0]
    assert web.throughput == pytest.approx(2 * 1000 / 8, rel=0.3)


def test_all_variants_and_seeds_run_and_are_estimated():
    compared = compare(parsed(), workers=2)
    assert [result.name for result in compared.results] == ["free", "soft", "pinned"]
    assert len(compared.outcomes) == 6
    free, soft, pinned = compared.results
    assert free.values["locality"].mean == pytest.approx(0.5, abs=0.01)
    assert pinned.values["locality"].mean == 1.0
    assert soft.values["work"].mean > free.values["work"].mean
    gains = [
        own.work / base.work - 1
        for own, base in zip(compared.outcomes[2:4], compared.outcomes[:2], strict=True)
    ]
    assert soft.values["gain"].mean == pytest.approx(sum(gains) / 2)
    again = compare(parsed(), workers=1)
    assert again.outcomes == compared.outcomes


def test_a_script_that_is_not_guarded_against_its_import_runs_once(scenario, tmp_path):
    script = tmp_path / "homenode-here"
    script.write_text("from homenode.cli.main import console\nconsole()\n")
    asked = [sys.executable, script, "simulate", scenario, "--workers", "2", "--json"]
    ran = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert len(json.loads(ran.stdout)["variants"]) == 3
    assert ran.stderr == ""


def test_an_estimate_has_the_interval_of_student():
    assert estimate([1.0]) == (1.0, None)
    # What is left of the same sum in another order is no margin.
    assert estimate([0.1 + 0.2, 0.3, 0.3])[1] == 0
    # 1, 2, 3: mean 2, deviation 1, 4.303 times 1 / sqrt(3).
    assert estimate([1.0, 2.0, 3.0]) == pytest.approx((2.0, 2.484), abs=1e-3)


def test_intervals_hold_the_mean_of_many_seeds_about_as_often_as_they_say():
    made = parsed()._replace(seeds=tuple(range(1, 41)), variants=parsed().variants[:1])
    values = [run(made, made.variants[0], seed).outcome.guests[0].throughput for seed in made.seeds]
    truth = sum(values) / len(values)
    held = 0
    for at in range(0, 40, 4):
        one = estimate(values[at : at + 4])
        held += abs(one.mean - truth) <= one.margin
    assert held >= 8


BAD = {
    'scheduler = "credit 4.2"': (
        'scheduler = "credit 9"',
        r"s\.toml:24: compare\[0\]\.scheduler: .*no version '9'.*4\.2",
    ),
    'scheduler = "credit 4.18"': (
        'scheduler = "cfs"',
        r"s\.toml:30: .*no scheduler 'cfs'.*credit2",
    ),
    "vcpus = 4": ("vcpus = 17", r"s\.toml:17: guest\[1\]\.vcpus: 17 are more than the 16 cpus"),
    'memory = "2GiB"': ('memory = "20GiB"', r"s\.toml:18: .*more than the 12 GiB"),
    'duration = "1s"': ('duration = "0s"', r"s\.toml:3: duration: has to be more than 0"),
    'run = "2ms"': ('run = "-2ms"', r"s\.toml:12: guest\[0\]\.run: not a time.*30ms"),
    'sleep = "6ms"': ('sleep = "0ms"', r"s\.toml:13: .*has to be more than 0"),
    'work = "specjbb2005"': (
        "work = {gb_s = -1}",
        r"s\.toml:20: guest\[1\]\.work\.gb_s: a number from 0",
    ),
    'nodes = "1"': ('nodes = "2"', r"s\.toml:19: .*nodes"),
    'affinity = "none"': (
        'affinity = "any"',
        r"s\.toml:25: .*one of as-is, none, soft, hard, pinned",
    ),
    "count = 2": ("count = 0", r"s\.toml:9: guest\[0\]\.count: not from 1"),
    "seeds = 2": ("seeds = []", r"s\.toml:5: seeds: not from 1"),
    'name = "db"': (
        'name = "db"\nweight = -3',
        r"s\.toml:17: guest\[1\]\.weight: not from 1 to 65535",
    ),
    'affinity = "pinned"': (
        'afinity = "pinned"',
        r"s\.toml:35: .*no such key; did you mean 'affinity'",
    ),
    'name = "pinned"': ('name = "soft"', "two are named 'soft'"),
}


@pytest.mark.parametrize("right", BAD)
def test_bad_input_names_the_line_and_what_is_allowed(right, scenario, capsys):
    wrong, complaint = BAD[right]
    scenario.write_text(TEXT.replace(right, wrong))
    assert main(["simulate", str(scenario)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(complaint, said), said


@pytest.mark.parametrize(
    "text",
    [
        "", "duration = '1s'", "duration = '1s'\nhost = 'e5620'", "[",
        "seeds = " + "[" * 5000, "seeds = " + "9" * 5000,
    ],
)  # fmt: skip
def test_what_is_no_scenario_is_refused_in_one_line(text, scenario, capsys):
    scenario.write_text(text)
    assert main(["simulate", str(scenario)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_scenario_without_a_host_is_told_of_both_ways_to_name_one(scenario, capsys, monkeypatch):
    monkeypatch.delenv("HOMENODE_URI", raising=False)
    monkeypatch.setattr("homenode.drivers.connect.is_dom0", lambda: False)
    monkeypatch.setattr("homenode.drivers.connect.libvirt_answers", lambda: False)
    scenario.write_text("duration = '1s'")
    assert main(["simulate", str(scenario)]) == 2
    said = capsys.readouterr().err
    assert "host: is missing, and there is no -c; host = a file" in said
    assert "dom0" not in said


def test_lines_are_found_in_tables_and_lists_of_tables():
    assert line_of(TEXT, "duration") == 3
    assert line_of(TEXT, "guest[1].vcpus") == 17
    assert line_of(TEXT, "guest[1].cap") == 15
    assert line_of(TEXT, "compare[2]") == 32
    assert line_of(TEXT, "nothing") is None


def test_a_guest_that_fits_nowhere_is_an_answer(scenario, capsys):
    scenario.write_text(
        TEXT.replace('memory = "1GiB"', 'memory = "6GiB"\n').replace("count = 2", "count = 3")
    )
    assert main(["simulate", str(scenario)]) == 1
    assert "does not fit" in capsys.readouterr().err


def test_the_command_prints_writes_and_draws(scenario, tmp_path, capsys):
    bars, figures = tmp_path / "bars.svg", tmp_path / "figures.csv"
    assert main(["simulate", str(scenario), "--svg", str(bars), "--csv", str(figures)]) == 0
    printed = capsys.readouterr().out
    assert "Beside first" in printed
    assert "web1" in printed
    assert ET.fromstring(bars.read_text()).tag.endswith("svg")  # noqa: S314 - our own
    rows = list(csv.DictReader(figures.read_text().splitlines()))
    assert len(rows) == 3 * 2 * 3
    assert {row["variant"] for row in rows} == {"free", "soft", "pinned"}


def test_the_document_has_estimates_for_all(scenario, capsys):
    assert main(["simulate", str(scenario), "--json", "--seeds", "3"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["seeds"] == [1, 2, 3]
    assert [one["name"] for one in document["variants"]] == ["free", "soft", "pinned"]
    database = document["variants"][0]["guests"][2]
    assert database["values"]["throughput"]["margin"] >= 0


def test_a_timeline_shows_who_ran_where(scenario, tmp_path, capsys):
    picture = tmp_path / "cpus.svg"
    asked = ["simulate", str(scenario), "--variant", "pinned", "--for", "50ms"]
    assert main([*asked, "--timeline", str(picture)]) == 0
    drawn = picture.read_text()
    assert "db.0" in drawn
    assert "100% of its memory here" in drawn
    assert main([*asked, "--timeline", "-"]) == 0
    text = capsys.readouterr().out.splitlines()
    own = next(line for line in text if " cpu 10 " in line)
    assert own.split()[-1] == "c" * 100


def test_a_timeline_shows_who_waited_and_an_idle_cpu_beside(scenario, tmp_path):
    picture = tmp_path / "cpus.svg"
    scenario.write_text(TEXT.replace('name = "db"\nvcpus = 4', 'name = "db"\nvcpus = 16'))
    asked = ["simulate", str(scenario), "--variant", "pinned", "--for", "50ms"]
    assert main([*asked, "--timeline", str(picture)]) == 0
    drawn = picture.read_text()
    # Sixteen vcpus that always run, on the eight cpus of their home.
    assert "db.0 waits: " in drawn
    assert ">waiting<" in drawn
    assert "more vcpus that waited" in drawn


@pytest.mark.parametrize("variant", ["free", "soft", "pinned"])
def test_waits_of_the_record_are_those_that_are_counted(variant, scenario):
    scenario.write_text(
        TEXT.replace("vcpus = 4", "vcpus = 12\ncap = 300").replace("count = 2", "count = 9")
    )
    asked = scenario_file.parse(scenario.read_text(), source="test", host_of=None)
    asked = asked._replace(warmup_ns=0)
    chosen = next(one for one in asked.variants if one.name == variant)
    recorded = run(asked, chosen, seed=1, record=True)
    waited = {guest.name: 0 for guest in asked.guests}
    for one in waits(recorded, 0, asked.duration_ns):
        waited[one.name.partition(".")[0]] += one.end - one.begin
    counted = {one.name: one.wait_s for one in recorded.outcome.guests}
    assert {name: ns / 1e9 for name, ns in waited.items()} == pytest.approx(counted, abs=1e-6)
    assert sum(waited.values()) > 0


def colours_of(picture):
    """Return the colours of what ran in a timeline."""
    return {
        box.get("fill")
        for box in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314 - our own
        if "of its memory here" in "".join(box.itertext())
    }


@pytest.mark.parametrize(("memory", "colours"), [("home", 1), ("striped", 3)])
def test_a_timeline_is_coloured_by_guest_where_locality_tells_nothing(
    memory, colours, scenario, tmp_path
):
    picture = tmp_path / "cpus.svg"
    held = f'affinity = "pinned"\nmemory = "{memory}"'
    scenario.write_text(TEXT.replace('affinity = "pinned"', held))
    asked = ["simulate", str(scenario), "--variant", "pinned", "--for", "50ms"]
    assert main([*asked, "--timeline", str(picture)]) == 0
    assert len(colours_of(picture.read_text())) == colours


def test_a_timeline_that_is_too_long_is_refused(scenario, capsys):
    assert main(["simulate", str(scenario), "--timeline", "-", "--from", "5s"]) == 2
    assert "that ends at 1.1s" in capsys.readouterr().err


def guests_before_and_after():
    def guest(name, ran, nodes):
        vcpus = tuple(
            Vcpu(at, CpuMap.parse("0-15"), CpuMap.parse("0-7"), cpu=at, time_ns=own)
            for at, own in enumerate(ran)
        )
        return Guest(name, vcpus, uuid=name, memory_kib=1 << 20,
                     memory_by_node=MemoryByNode(nodes, "test"))  # fmt: skip

    before = [
        guest("busy", (0, 0), {0: 1}),
        guest("half", (0,), {0: 1, 1: 3}),
        guest("idle", (0,), {}),
    ]
    after = [
        guest("busy", (2_000_000_000, 1_990_000_000), {0: 1}),
        guest("half", (1_000_000_000,), {0: 1, 1: 3}),
        guest("idle", (1_000_000,), {}),
    ]
    return before, after


def test_a_host_as_it_runs_becomes_a_scenario():
    made = live.scenario_of(
        machine("e5620").host, *guests_before_and_after(), 2.0, duration_ns=10**9, seeds=[1]
    )
    busy, half, idle = made.guests
    assert busy.doing.kind.name == "SPIN"
    assert half.doing.run_ns / (half.doing.run_ns + half.doing.sleep_ns) == pytest.approx(0.5)
    assert half.memory == ((0, 0.25), (1, 0.75))
    assert idle.doing.kind.name == "IDLE"
    assert half.masks[0].soft == CpuMap.parse("0-7")
    outcome = run(made, made.variants[0], 1).outcome
    assert outcome.guests[1].cpu_s == pytest.approx(0.5, abs=0.1)


def test_times_are_those_of_a_later_look_at_who_is_still_there():
    _, guests = guests_before_and_after()
    guests = [guest._replace(id=number) for number, guest in enumerate(guests)]
    looked = {
        0: [vcpu._replace(time_ns=7 + vcpu.id, hard=CpuMap()) for vcpu in guests[0].vcpus],
        2: [],
    }
    busy, idle = live.with_times([*guests, guests[1]._replace(id=None)], looked)
    assert [(vcpu.time_ns, vcpu.hard) for vcpu in busy.vcpus] == [
        (7, guests[0].vcpus[0].hard),
        (8, guests[0].vcpus[1].hard),
    ]
    assert (idle.name, idle.vcpus[0].time_ns) == ("idle", None)


def test_changes_make_one_variant_beside_today():
    made = live.scenario_of(
        machine("e5620").host, *guests_before_and_after(), 2.0, duration_ns=10**9, seeds=[1]
    )
    asked = live.what_if(made, ["hold half 1", "scheduler credit 4.18", "without idle"])
    today, changed = asked.variants
    assert (today.name, str(changed.scheduler)) == ("today", "credit 4.18")
    arranged = arrange(asked, changed, 1)
    assert [guest.name for guest in arranged.guests] == ["busy", "half"]
    assert arranged.settled[1].hard[0] == CpuMap.parse("8-15")
    assert arranged.settled[1].shares == (0.25, 0.75)
    moved = live.what_if(made, ["move half 1"])
    assert arrange(moved, moved.variants[1], 1).settled[1].shares == (0.0, 1.0)
    outcome = run(asked, changed, 1).outcome
    assert outcome.guests[1].locality == pytest.approx(0.75)


def test_preferring_other_nodes_does_not_free_who_is_held():
    before, after = guests_before_and_after()
    held = [
        guest._replace(vcpus=tuple(v._replace(hard=CpuMap.parse("0-3")) for v in guest.vcpus))
        for guest in after
    ]
    made = live.scenario_of(machine("e5620").host, before, held, 2.0, duration_ns=10**9, seeds=[1])
    for change, hard in (
        ("affinity half 1", "0-3"),
        ("move half 1", "0-15"),
        ("hold half 1", "8-15"),
    ):
        asked = live.what_if(made, [change])
        own = arrange(asked, asked.variants[1], 1).settled[1]
        assert own.hard[0] == CpuMap.parse(hard), change


@pytest.mark.parametrize(
    ("change", "complaint"),
    [("affinity half", "is no change"), ("affinity nobody 0", "no guest 'nobody'"),
     ("hold half 7", "node 7"), ("free half 0", "is no change"),
     ("scheduler rt", "no scheduler 'rt'"), ("hold half x", "hold half x")],
)  # fmt: skip
def test_a_change_that_cannot_be_is_refused(change, complaint):
    made = live.scenario_of(
        machine("e5620").host, *guests_before_and_after(), 2.0, duration_ns=10**9, seeds=[1]
    )
    with pytest.raises(HomenodeError, match=complaint):
        live.what_if(made, [change])


def test_what_runs_on_a_simulated_host_can_be_simulated(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "host.toml").write_text('nodes = 2\ncores = 4\nmemory = "8GiB"\n')
    (tmp_path / "db.cfg").write_text('name = "db"\nmemory = 1024\nvcpus = 2\n')
    uri = f"sim:now?host={tmp_path / 'host.toml'}"
    assert main(["create", "-c", uri, str(tmp_path / "db.cfg")]) == 0
    capsys.readouterr()
    asked = ["simulate", "-c", uri, "--now", "--busy", "1", "--duration", "1s", "--json"]
    assert main([*asked, "--what-if", "hold db 1"]) == 0
    document = json.loads(capsys.readouterr().out)
    today, changed = document["variants"]
    assert changed["name"] == "hold db 1"
    local = [
        next(guest for guest in one["guests"] if guest["name"] == "db")["values"]["locality"][
            "mean"
        ]
        for one in (today, changed)
    ]
    assert local[0] > 0.9 > local[1] or local[0] < 0.1 < local[1]


def test_the_keeper_brings_guests_home():
    text = TEXT.replace('duration = "1s"', 'duration = "40s"')
    made = parsed(text)
    variant = made.variants[1]._replace(
        scheduler=made.variants[2].scheduler, affinity="none", keeper=False
    )
    wandering = run(made, variant, 1).outcome
    kept = run(made, variant._replace(keeper=True), 1).outcome
    assert wandering.residency < 0.9
    assert kept.residency > wandering.residency
    assert NodeMap([0, 1]) == made.host.node_map


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["--duration", "3000min"], "longer than"),
        (["--duration", "0s"], "more than 0"),
        (["--svg", "/nonexistent/bars.svg"], "cannot be written"),
        (["--csv", "/nonexistent/runs.csv"], "cannot be written"),
        (["--now"], "either a scenario or --now"),
        (["--variant", "nobody", "--timeline", "-"], "no variant 'nobody'"),
        (["--seeds", "0"], "not a number from 1"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_runs(
    asked, complaint, scenario, capsys
):
    assert main(["simulate", str(scenario), *asked]) == 2
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_files_in_which_no_time_passes_need_to_be_told_how_busy_guests_are(capsys):
    capture = Path(__file__).parent / "data" / "xen-captures" / "n4" / "guests"
    asked = ["simulate", "-c", f"capture:{capture}", "--now", "--duration", "50ms", "--seeds", "1"]
    assert main(asked) == 2
    assert "--busy" in capsys.readouterr().err
    assert main([*asked, "--busy", "1"]) == 0


def test_what_is_known_is_listed(capsys):
    assert main(["simulate", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "specjbb2005" in listed
    assert "credit 4.2 | 4.3" in listed
    assert main(["simulate", "--list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["schedulers"]["ideal"] == []


@pytest.mark.parametrize("text", ["n" * 5000, "credit " + "4" * 5000, "credit2 " + "n" * 5000])
def test_a_complaint_of_a_scheduler_is_short_however_long_its_name_is(text):
    with pytest.raises(HomenodeError) as caught:
        scenario_file.scheduler_choice(text)
    assert len(str(caught.value)) < 300
