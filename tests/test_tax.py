"""``homenode tax``: the protocol, what the figures say together, and what it does here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import kvm_tree
import strategies
from homenode.bitmap import CpuMap, NodeMap
from homenode.cli import tax_report
from homenode.cli.main import main
from homenode.cli.tax import options
from homenode.drivers.connect import driver_for
from homenode.drivers.local import LocalDriver
from homenode.drivers.trees import FolderTree
from homenode.errors import DoesNotFit, ExitStatus, HomenodeError
from homenode.tax import hardware, protocol, results, worker
from homenode.tax.memory_policy import PAGE, pages_by_node
from homenode.tax.protocol import CASES, Case, four_cases, turns
from homenode.tax.results import COPY, MEASURES, WALK, Sample, summarised
from homenode.tax.shared import read, side_by_side
from homenode.tax.workers import guests_here

ROOT = Path(__file__).parent.parent
EPYC = ROOT / "examples" / "hosts" / "epyc-7763-2s-nps4.toml"
DOCUMENT = (ROOT / "docs" / "tax.md").read_text("utf-8")
GUEST = 'name = "web"\nmemory = 512\nvcpus = 2\n'
MANY = Case("pinned", CpuMap([0]), NodeMap([0, 1, 2]))


def case_of(name):
    return {
        "default": Case("default", None, None),
        "pinned": Case("pinned", CpuMap([0, 1]), NodeMap([0, 1])),
        "best": Case("best", CpuMap([0, 1]), NodeMap([0])),
        "worst": Case("worst", CpuMap([0, 1]), NodeMap([1])),
    }[name]


# --- the protocol ---


@given(host=strategies.hosts(most_nodes=5, most_cores=2), data=st.data())
def test_the_cases_differ_in_their_memory_alone_and_the_worst_is_the_farthest(host, data):
    cpus = data.draw(strategies.cpu_maps(host))
    nodes = data.draw(strategies.node_maps(host))
    try:
        cases = four_cases(host, cpus=cpus, nodes=nodes)
    except HomenodeError:
        usable = [node for node in nodes if host.nodes_by_id[node].present_kib != 0]
        homes = [node for node in usable if host.cpus_by_node[node] & cpus]
        assert len(usable) < 2 or not homes
        return
    default, pinned, best, worst = cases
    assert tuple(case.name for case in cases) == CASES
    assert (default.cpus, default.memory) == (None, None)
    assert pinned.cpus == best.cpus == worst.cpus
    (home,), (far,) = best.memory, worst.memory
    assert best.cpus == host.cpus_by_node[home] & cpus
    assert best.cpus
    assert pinned.memory <= nodes
    assert {home, far} <= set(pinned.memory)
    away = [host.distance(home, node) for node in pinned.memory if node != home]
    assert far != home
    assert host.distance(home, far) == max(away)


@given(
    copies=st.lists(st.integers(1, 99), min_size=1, max_size=3, unique=True),
    runs=st.integers(1, 9),
    seed=st.integers(),
)
def test_each_round_has_each_case_once_in_an_order_that_can_be_had_again(copies, runs, seed):
    cases = [case_of(name) for name in CASES]
    order = turns(cases, copies=copies, runs=runs, seed=seed)
    assert [turn.round for turn in order] == sorted(turn.round for turn in order)
    for number in range(1, runs + 1):
        found = [(turn.copies, turn.case.name) for turn in order if turn.round == number]
        assert sorted(found) == sorted((count, name) for count in copies for name in CASES)
    assert order == turns(cases, copies=copies, runs=runs, seed=seed)


def test_no_case_is_favoured_by_its_place_in_the_rounds():
    order = turns([case_of(name) for name in CASES], copies=[1], runs=400, seed=1)
    for place in range(4):
        at_place = [turn.case.name for turn in order[place::4]]
        assert all(70 < at_place.count(name) < 130 for name in CASES)


@settings(max_examples=50)
@given(
    host=strategies.hosts(most_nodes=5, most_cores=2),
    copies=st.integers(1, 64),
    quick=st.booleans(),
    data=st.data(),
)
def test_what_is_worked_on_by_default_fits_wherever_anything_does(host, copies, quick, data):
    cache = data.draw(st.none() | st.integers(0, 1 << 20))
    try:
        cases = four_cases(host, cpus=host.cpu_map, nodes=host.node_map)
    except HomenodeError:
        assume(False)  # noqa: FBT003 - hypothesis's own way
    size = protocol.size_kib(host, cases, copies=copies, cache_kib=cache, quick=quick)
    least = protocol.process_kib(1024)
    rooms = [
        (host.nodes_by_id[node].usable_kib, len(case.memory))
        for case in cases
        for node in case.memory or ()
    ]
    fits = all(usable is None or usable * 9 // 10 * n // copies >= least for usable, n in rooms)
    if fits:
        protocol.refuse_too_little(host, cases, copies=copies, size=size)
    else:
        with pytest.raises(DoesNotFit, match="--size and --copies ask for less"):
            protocol.refuse_too_little(host, cases, copies=copies, size=size)


@pytest.mark.parametrize(
    ("case", "seen", "why"),
    [
        (case_of("best"), {0: 100}, None),
        (case_of("best"), {0: 96, 1: 4}, None),
        (case_of("best"), {0: 90, 1: 10}, "10 % of its memory lay elsewhere than on node 0"),
        (case_of("worst"), {0: 100}, "100 % of its memory lay elsewhere than on node 1"),
        (MANY, {0: 33, 1: 33, 2: 34}, None),
        (MANY, {0: 50, 1: 50}, "its memory was not spread evenly over nodes 0-2"),
        (case_of("default"), {0: 7, 5: 3}, None),
        (case_of("default"), {}, "nobody can say where its memory lay"),
        (case_of("best"), {}, "nobody can say where its memory lay"),
    ],
)
def test_a_measurement_counts_only_if_its_memory_lay_where_it_should(case, seen, why):
    assert protocol.flaw(case, seen) == why


# --- what the figures say together ---


def sample(number, name, walk, copy, *, flaw=None, copies=1):
    case = case_of(name)
    memory = dict.fromkeys(case.memory or [0], 1024)
    figures = {WALK.name: walk, COPY.name: copy}
    return Sample(number, copies, case, figures, memory, NodeMap([0]), flaw)


positive = st.floats(0.01, 1e4)


@given(
    true=st.fixed_dictionaries({name: st.tuples(positive, positive) for name in CASES}),
    drifts=st.lists(st.floats(0.5, 2), min_size=2, max_size=6),
)
def test_what_the_machine_drifts_by_from_round_to_round_costs_no_case_anything(true, drifts):
    samples = [
        sample(number, name, true[name][0] * drift, true[name][1] / drift)
        for number, drift in enumerate(drifts, start=1)
        for name in CASES
    ]
    for row in summarised(samples, MEASURES):
        walk, copy = true[row.case.name]
        wanted = {WALK.name: walk / true["best"][0], COPY.name: true["best"][1] / copy}
        for measure, ratio in wanted.items():
            cost = row.figures[measure].cost_percent
            assert cost.mean == pytest.approx(100 * (ratio - 1), rel=1e-6, abs=1e-6)
            assert cost.margin == pytest.approx(0, abs=1e-6 * (1 + 100 * ratio))


@given(st.lists(st.tuples(st.sampled_from(CASES), positive, positive), max_size=12), st.data())
def test_what_is_not_counted_changes_no_figure(measured, data):
    samples = [sample(number, *one) for number, one in enumerate(measured, start=1)]
    flawed = [
        sample(number, name, 1.0, 1.0, flaw="elsewhere")
        for number, name in data.draw(
            st.lists(st.tuples(st.integers(1, 12), st.sampled_from(CASES)), max_size=6)
        )
    ]
    clean = {row.case.name: row.figures for row in summarised(samples, MEASURES)}
    for row in summarised(samples + flawed, MEASURES):
        assert row.figures == clean.get(row.case.name, {})
        left = [number for number, _ in row.left_out]
        assert left == [one.round for one in flawed if one.case.name == row.case.name]


def test_the_sentence_says_what_the_worst_case_costs():
    samples = []
    for number in (1, 2, 3):
        samples += [sample(number, "best", 100.0, 10.0), sample(number, "worst", 150.0, 5.0)]
    rows = summarised(samples, MEASURES)
    (told,) = results.sentences(rows, MEASURES, home=0)
    assert told == (
        "on this machine, memory on node 1 instead of node 0 costs: a walk over a list in random"
        " order 50 % more time (+50 ns a step); a copy of a large buffer 100 % more time"
    )


def test_a_cost_that_may_be_chance_is_called_that():
    values = {"best": [100.0, 100.0, 100.0], "worst": [90.0, 100.0, 111.0]}
    samples = [
        sample(number, name, value, 1.0)
        for name, given_ in values.items()
        for number, value in enumerate(given_, start=1)
    ]
    (told,) = results.sentences(summarised(samples, MEASURES), MEASURES, home=0)
    assert told.count("nothing that these runs can tell from chance") == 2


# --- documents ---


def report():
    samples = [
        sample(number, name, 90.0 + 7 * CASES.index(name) + number, 9.5)
        for number in (1, 2)
        for name in CASES
    ] + [sample(3, "worst", 1.0, 1.0, flaw="it lay elsewhere")]
    rows = summarised(samples, MEASURES)
    machine = {"vendor": "Some", "product": "Machine", "cpu": "Fast", "nodes": [{}, {}], "cpus": 4}
    plan = {"home": 0, "farthest": 1, "distance": 21, "runs": 3, "size_kib": 65536, "own_ns": 18.0}
    told = results.sentences(rows, MEASURES, home=0)
    return tax_report.Report("processes", machine, plan, MEASURES, rows, told, ["a doubt"])


def test_a_document_comes_back_as_a_column(tmp_path, capsys):
    path = tmp_path / "a.json"
    path.write_text(tax_report.document_text(report()))
    assert main(["tax", "--show", str(path), str(path)]) == ExitStatus.DONE
    out = capsys.readouterr().out
    lines = {line[:25].split("  ")[0]: line for line in out.splitlines()}
    assert lines["machine"].count("Some Machine") == 2
    assert lines["x1 walk, best"].count("105.5 ns a step") == 2
    assert lines["x1 walk, worst"].count("112.5 ns a step (+7 %)") == 2


def test_people_read_the_table_with_what_is_not_counted_and_every_doubt(capsys):
    tax_report.print_report(report())
    out = capsys.readouterr().out
    assert "Some, Machine, Fast: 2 nodes, 4 cpus" in out
    assert "not counted: round 3, worst: it lay elsewhere" in out
    assert "note: a doubt" in out
    (worst,) = [line for line in out.splitlines() if line.startswith("worst")]
    assert worst.split()[1:3] == ["0-1", "1"]
    assert "100 % on 1" in worst


json_values = st.recursive(
    st.sampled_from([None, True, 10**400]) | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(
            ["machine", "nodes", "caches", "kib", "results", "measures", "name", "figures", "walk",
             "title", "unit", "case", "copies", "median", "cost_percent", "protocol", "kind"]
        ),
        inner,
        max_size=5,
    ),
    max_leaves=30,
)  # fmt: skip


@given(json_values, json_values, json_values)
def test_a_strange_document_is_shown_or_refused_and_steers_no_terminal(machine, measures, rows):
    document = {"version": 1, "kind": "tax", "machine": machine, "measures": measures}
    shared = read(json.dumps(document | {"results": rows}), source="a\x1b[31m")
    table = side_by_side([shared, shared])
    assert all(len(row) == 3 for row in table)
    assert all(cell.isprintable() for row in table for cell in row)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON"),
        ("[1]", "is no document of homenode tax"),
        ('{"kind": "tax", "version": 2}', "is of version 2"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_no_document_of_ours_is_refused_in_a_line(tmp_path, capsys, text, said):
    path = tmp_path / "a.json"
    path.write_text(text)
    assert main(["tax", "--show", str(path)]) == ExitStatus.BAD_INPUT
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


# --- the machine ---


def tree(tmp_path, **files):
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return FolderTree(str(tmp_path))


def test_the_hardware_is_named_from_files(tmp_path):
    host = LocalDriver().snapshot().host
    cpu = "sys/devices/system/cpu"
    files = {
        "proc/cpuinfo": "processor : 0\nmodel name : Fast  CPU @ 3\nflags : fpu hypervisor\n",
        "sys/class/dmi/id/sys_vendor": "Some\n",
        "sys/class/dmi/id/product_name": "Machine 3\n",
        "sys/class/dmi/id/product_serial": "SECRET\n",
        "proc/sys/kernel/hostname": "SECRET\n",
        f"{cpu}/intel_pstate/no_turbo": "0\n",
        f"{cpu}/cpu{host.cpu_map.first}/cpufreq/scaling_governor": "powersave\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always [madvise] never\n",
        "proc/loadavg": "99.00 1 1 1/1 1\n",
    }
    for index, (level, kind, size) in enumerate(
        [(1, "Data", "32K"), (1, "Instruction", "32K"), (3, "Unified", "65536K")]
    ):
        folder = f"{cpu}/cpu{host.cpu_map.first}/cache/index{index}"
        files |= {f"{folder}/level": f"{level}", f"{folder}/type": kind, f"{folder}/size": size}
        files[f"{folder}/shared_cpu_list"] = "0-7"
    found = tree(tmp_path, **files)
    described = hardware.machine(found, host, home=host.nodes[0].id)
    assert (described["vendor"], described["product"]) == ("Some", "Machine 3")
    assert described["cpu"] == "Fast CPU @ 3"
    assert described["caches"] == [
        {"level": 1, "kib": 32, "cpus": 8}, {"level": 3, "kib": 65536, "cpus": 8},
    ]  # fmt: skip
    assert (described["governor"], described["turbo"]) == ("powersave", True)
    assert described["transparent_hugepage"] == "madvise"
    assert "SECRET" not in json.dumps(described)
    doubts = " ".join(hardware.doubts(found, host, described))
    for word in ("virtual machine", "powersave", "turbo", "a load of 99.00"):
        assert word in doubts


def test_a_machine_that_says_nothing_is_described_with_what_is_known(tmp_path):
    host = LocalDriver().snapshot().host
    found = tree(tmp_path)
    described = hardware.machine(found, host, home=host.nodes[0].id)
    assert (described["cpu"], described["caches"], described["turbo"]) == (None, [], None)
    assert hardware.doubts(found, host, described) == []


def test_guests_are_seen_by_libvirt_s_files_and_without_these_by_their_processes(tmp_path):
    found = guests_here(root=str(kvm_tree.unpacked(tmp_path / "all")))
    assert sorted(found) == sorted(kvm_tree.GUESTS)
    tree(tmp_path / "few", **{"proc/7/comm": "bash\n", "proc/9/comm": "qemu-system-x86\n"})
    assert guests_here(root=str(tmp_path / "few")) == ["process 9, a QEMU"]


# --- the work ---


@given(st.integers(1, 3000))
def test_the_ring_has_every_object_once_and_its_pages_are_theirs(count):
    start, pages = worker.ring(count)
    at, seen = start, set()
    while id(at) not in seen:
        seen.add(id(at))
        at = at.next
    assert at is start
    assert len(seen) == count
    assert pages
    assert pages <= {address & -PAGE for address in seen}


def test_a_copy_copies_and_its_pages_are_seen():
    buffer = worker.Buffer(10 * PAGE)
    assert buffer.copy_gb_s(0) > 0
    try:
        found = pages_by_node(buffer.pages)
    except HomenodeError as error:
        pytest.skip(str(error))
    assert sum(found.values()) == len(buffer.pages) == 10


def test_a_worker_ends_with_the_one_that_began_it():
    order = {"cpus": None, "memory": None, "size_kib": 4096, "seconds": 0.01}
    code = "from homenode.tax.worker import serve; serve()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(order) + "\nwalk\n", capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert (done.returncode, done.stderr) == (0, "")
    if "error" in answers[0]:
        pytest.skip(answers[0]["error"])
    walked = answers[1]
    assert walked["value"] > 0
    # The pages that are looked at are those that it works on: 4 MiB of objects, and of buffer.
    assert 0.9 * 8192 <= sum(walked["memory"].values()) <= 1.1 * 8192


# --- the command ---


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Return a function that runs the command: (exit status, stdout, stderr)."""
    monkeypatch.delenv("HOMENODE_URI", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "web.cfg").write_text(GUEST)

    def call(*arguments):
        status = main(["tax", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def test_a_machine_with_one_node_has_nothing_to_misplace(run):
    if sum(node.present_kib != 0 for node in LocalDriver().snapshot().host.nodes) > 1:
        pytest.skip("this machine has several nodes")
    status, out, err = run()
    assert (status, out) == (ExitStatus.BAD_INPUT, "")
    assert err == (
        "homenode: this machine has one node with memory: there is nothing to misplace\n"
    )


def test_a_plan_for_a_host_that_is_described(run):
    asked = ("-c", f"capture:{EPYC}", "--dry-run", "--runs", 3, "--node", 5, "--copies", "4,1")
    status, out, _ = run(*asked, "--json")
    assert status == ExitStatus.DONE
    plan = json.loads(out)
    assert len(plan["order"]) == 3 * 2 * 4
    (best, *_) = [turn for turn in plan["order"] if turn["case"] == "best"]
    assert (best["cpus"], best["memory"]) == (
        str(driver_for(f"capture:{EPYC}").snapshot().host.cpus_by_node[5]),
        [5],
    )
    assert plan["protocol"]["distance"] == 32
    status, out, _ = run(*asked)
    assert (status, out.count("round ")) == (ExitStatus.DONE, 3)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-c", f"capture:{EPYC}"], "is a description"),
        (["-c", "qemu+ssh://elsewhere/system"], "measure the machine that they run on"),
        (["-c", "xen:///"], "--guest FILE --measure COMMAND"),
        (["-c", f"capture:{EPYC}", "--dry-run", "--node", "9"], "--node 9: there is no such node"),
        (["--runs", "0"], "--runs 0; 1 to 1000"),
        (["--seconds", "nan"], "--seconds nan"),
        (["-c", f"capture:{EPYC}", "--dry-run", "--copies", "1,,2"], "--copies '1,,2'"),
        (["-c", f"capture:{EPYC}", "--dry-run", "--size", "3"], None),
        (["-c", f"capture:{EPYC}", "--dry-run", "--size", "3KiB"], "64KiB or more"),
        (["--measure", "true"], "--guest"),
        (["--guest", "web.cfg"], "--measure COMMAND prints a number"),
        (["--guest", "web.cfg", "--measure", "true", "--copies", "2"], "are for processes"),
        (["-c", f"capture:{EPYC}", "--guest", "web.cfg", "--measure", "1"], "on the host itself"),
        (["-o", "web.cfg"], "web.cfg: is there already"),
        (["-o", "no/such/a.json"], "cannot be written there"),
        (["--show", "no.json"], "no.json: No such file"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(run, arguments, said):
    status, _, err = run(*arguments)
    if said is None:
        assert (status, err) == (ExitStatus.DONE, "")
        return
    assert status == ExitStatus.BAD_INPUT
    assert said in err
    assert err.count("\n") == 1


def sim(run, *arguments, uri="sim:here"):
    asked = ("-c", uri, "--guest", "web.cfg", "--measure", "echo $TAX_CASE 7.5", "--runs", 1)
    return run(*asked, *arguments)


def guests_of(uri="sim:here"):
    return [guest.name for guest in driver_for(uri).snapshot().guests if not guest.is_control]


def test_a_guest_is_measured_in_its_cases_and_taken_away(run):
    status, out, err = sim(run, "--json", "-o", "a.json")
    assert (status, err) == (ExitStatus.DONE, "")
    document = json.loads(out)
    assert out == Path("a.json").read_text()
    rows = {row["case"]: row for row in document["results"]}
    assert set(rows) == set(CASES)
    far, home = document["protocol"]["farthest"], document["protocol"]["home"]
    assert [share["node"] for share in rows["best"]["memory_seen"]] == [home]
    assert [share["node"] for share in rows["worst"]["memory_seen"]] == [far]
    assert all(row["figures"]["figure"]["median"] == 7.5 for row in rows.values())
    assert guests_of() == []


@pytest.mark.parametrize("step", ["create-domain", "set-affinity", "allocate", "start"])
def test_nothing_stays_of_a_guest_where_a_step_fails(run, step):
    assert sim(run, uri="sim:here")[0] == ExitStatus.DONE
    status, _, err = sim(run, uri=f"sim:here?fail={step}")
    assert status in (ExitStatus.HYPERVISOR, ExitStatus.UNDONE)
    assert err.count("\n") == 1
    assert guests_of() == []


def test_a_plan_for_a_guest_has_its_files_and_changes_nothing(run):
    status, out, _ = sim(run, "--dry-run")
    assert status == ExitStatus.DONE
    assert out.count('name = "web-tax"') == 4
    assert 'cpus = "nodes:' in out
    assert guests_of() == []


def test_a_guest_is_not_measured_beside_others_unless_told(run):
    assert main(["create", "-c", "sim:here", "web.cfg"]) == ExitStatus.DONE
    status, _, err = sim(run)
    assert status == ExitStatus.BAD_INPUT
    assert "guests run here (web)" in err
    assert sim(run, "--beside-guests")[0] == ExitStatus.DONE
    assert guests_of() == ["web"]


@pytest.mark.parametrize(
    "line",
    ['nodes = "0"', 'cpus = "0-1"', 'type = "hvm"\nvnuma = [["pnode=0", "size=512", "vcpus=0-1"]]'],
)
def test_a_guest_whose_file_says_where_it_is_to_be_is_refused(run, line):
    Path("web.cfg").write_text(GUEST + line + "\n")
    status, _, err = sim(run)
    assert status == ExitStatus.BAD_INPUT
    assert err.startswith("homenode: web.cfg:")
    assert "four cases" in err


def test_interrupted_it_takes_its_guest_away(run, tmp_path):
    assert sim(run)[0] == ExitStatus.DONE
    asked = ["-c", "sim:here", "--guest", "web.cfg", "--measure", "kill -INT $PPID; sleep 60"]
    done = subprocess.run(
        [sys.executable, "-m", "homenode.cli.main", "tax", *asked],
        capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (ExitStatus.INTERRUPTED, "homenode: interrupted\n")
    assert guests_of() == []


# --- the document ---


def shown():
    """Return what docs/tax.md shows: the output of each command, by the command."""
    command_and_output = r"^\$ homenode tax ?(.*)\n((?:(?!```|\$ ).*\n)*)"
    return dict(re.findall(command_and_output, DOCUMENT, re.MULTILINE))


def test_the_plan_in_the_document_is_what_is_printed(run):
    ((command, output),) = [one for one in shown().items() if one[0].startswith("-c capture:")]
    words = command.replace("capture:", f"capture:{ROOT}/").split()
    assert run(*words) == (ExitStatus.DONE, output, "")


def test_the_document_has_the_table_s_headings_and_every_option(capsys):
    (output,) = [output for command, output in shown().items() if "--size" in command]
    tax_report.print_report(report())
    (heading,) = [line for line in capsys.readouterr().out.splitlines() if line[:4] == "Case"]
    assert heading.split() in [line.split() for line in output.splitlines()]
    told = options().format_help()
    for option in set(re.findall(r"--[a-z][a-z-]+", DOCUMENT)) - {"--cap-add"}:
        assert option in told, option
