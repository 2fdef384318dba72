"""The command line for guests of every shape: what is asked, what comes of it, how it refuses."""

import io
import json
import os
import re
import stat
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

from homenode.cli.main import main
from homenode.errors import ExitStatus
from homenode.formats.xl_cfg import GuestConfig

ROOT = Path(__file__).parent.parent
HOSTS = ROOT / "examples" / "hosts"
XEN_GUESTS = f"capture:{ROOT / 'tests' / 'data' / 'xen-captures' / 'n8' / 'guests'}"
EPYC = f"capture:{HOSTS / 'epyc-7763-2s-nps4.toml'}"
UNEVEN = f"capture:{HOSTS / 'uneven.toml'}"
KVM = ROOT / "tests" / "data" / "kvm-captures"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Be in a folder of our own."""
    monkeypatch.delenv("HOMENODE_URI", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(capsys):
    """Return a function that runs the command: (exit status, stdout, stderr)."""

    def call(verb, uri, *arguments):
        status = main([verb, "-c", uri, *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


@pytest.fixture
def tiers():
    """Return a host with every kind of memory that runs QEMU, not Xen."""
    text = (HOSTS / "memory-tiers.toml").read_text(encoding="utf-8")
    Path("tiers.toml").write_text(text.replace('"Linux 6.12, KVM"', '"QEMU"'), encoding="utf-8")
    return "capture:tiers.toml"


def xl(*lines, memory=512, vcpus=2):
    text = "\n".join(['name = "g"', 'type = "hvm"', f"memory = {memory}", f"vcpus = {vcpus}"])
    Path("g.cfg").write_text("\n".join([text, *lines, ""]), encoding="utf-8")
    return Path("g.cfg")


def xml(*elements, memory="512", vcpus=2, placement=""):
    metadata = (
        f'<metadata><h:placement xmlns:h="urn:homenode:placement:1" {placement}/></metadata>'
        if placement
        else ""
    )
    text = (
        f'<domain type="kvm">\n  <name>g</name>\n  {metadata}\n'
        f'  <memory unit="MiB">{memory}</memory>\n  <vcpu>{vcpus}</vcpu>\n'
        f"  <os><type>hvm</type></os>\n  {''.join(elements)}\n</domain>\n"
    )
    Path("g.xml").write_text(text, encoding="utf-8")
    return Path("g.xml")


def tree(text):
    return ET.fromstring(text)  # noqa: S314 - our own


def complaint(result):
    """Return the one line of a refusal."""
    status, out, err = result
    assert status == ExitStatus.BAD_INPUT, (out, err)
    assert out == ""
    assert err.startswith("homenode: ")
    assert err.count("\n") == 1
    return err


def document(result, status=ExitStatus.DONE):
    assert result[0] == status, result
    return json.loads(result[1])


def by_node(decision):
    return {share["node"]: share["kib"] for share in decision["memory"]}


# --- what a guest's file has no words for ---


@pytest.mark.parametrize("wish", [["--tier", "cxl"], ["--spill"], ["--huge-pages", "2MiB"]])
@pytest.mark.parametrize("hypervisor", ["QEMU", "Xen 4.20"])
def test_xl_cannot_be_told_of_some_memory_whatever_the_host(run, tiers, hypervisor, wish):
    path = Path(tiers.removeprefix("capture:"))
    path.write_text(path.read_text("utf-8").replace('"QEMU"', f'"{hypervisor}"'), "utf-8")
    assert "Xen" in complaint(run("place", tiers, *wish, xl()))


def test_xl_is_told_of_a_tier_as_a_virtual_node_without_vcpus_of_an_hvm_guest(run, tiers):
    status, out, err = run("place", tiers, "--tier", "cxl:256MiB", "--config", xl(memory=512))
    assert (status, "virtual-nodes-stay" in err) == (ExitStatus.DONE, True)
    assert '["pnode=6", "size=256", "vdistances=14,10"]' in out
    pvh = Path("g.cfg").read_text("utf-8").replace("hvm", "pvh")
    Path("g.cfg").write_text(pvh, "utf-8")
    assert "--tier: xl cannot make a pvh guest" in complaint(
        run("place", tiers, "--tier", "cxl:256MiB", Path("g.cfg"))
    )


def test_a_tier_is_written_as_a_virtual_node_without_vcpus(run, tiers):
    status, out, _ = run("place", tiers, "--tier", "cxl:256MiB", "--config", xml())
    assert status == ExitStatus.DONE
    root = tree(out)
    cells = root.findall("cpu/numa/cell")
    assert [(cell.get("cpus"), cell.get("memory")) for cell in cells] == [
        ("0-1", "262144"),
        (None, "262144"),
    ]
    nodes = [memnode.get("nodeset") for memnode in root.findall("numatune/memnode")]
    assert nodes == ["1", "6"]
    assert root.find("numatune/memory") is None


def test_a_tier_of_all_of_the_memory_needs_no_virtual_node(run, tiers):
    status, out, err = run("place", tiers, "--tier", "cxl", "--config", xml())
    assert (status, err) == (ExitStatus.DONE, "")
    root = tree(out)
    assert root.find("cpu/numa") is None
    memory = root.find("numatune/memory")
    assert (memory.get("mode"), memory.get("nodeset")) == ("preferred", "6")


def test_a_tier_beside_named_nodes_is_a_virtual_node_too(run, tiers):
    wishes = ["--nodes", "2", "--tier", "cxl:256MiB"]
    made = document(run("place", tiers, *wishes, "--json", xml()))
    assert [cell["node"] for cell in made["virtual_nodes"]] == [2, 7]
    assert by_node(made)[7] == 256 << 10


def test_a_tier_goes_against_virtual_nodes_that_are_not_to_be(run, tiers):
    wishes = ["--tier", "cxl:256MiB", "--virtual-nodes", "none"]
    assert "--tier" in complaint(run("place", tiers, *wishes, xml()))


def test_a_tier_goes_against_virtual_nodes_that_are_there(run, tiers):
    cells = (
        '<cpu><numa><cell id="0" cpus="0" memory="262144"/>'
        '<cell id="1" cpus="1" memory="262144"/></numa></cpu>'
    )
    assert "virtual nodes" in complaint(run("place", tiers, "--tier", "cxl:256MiB", xml(cells)))


def test_huge_pages_that_are_asked_for_are_written(run, tiers):
    status, out, _ = run("place", tiers, "--huge-pages", "2MiB", "--config", xml())
    assert status == ExitStatus.DONE
    root = tree(out)
    page = root.find("memoryBacking/hugepages/page")
    assert (page.get("size"), page.get("unit")) == ("2048", "KiB")
    assert root.find("numatune/memory").get("mode") == "strict"
    again = xml()
    again.write_text(out, encoding="utf-8")
    made = document(run("place", tiers, "--json", again))
    assert [share["page_kib"] for share in made["memory"]] == [2048]


def test_virtual_nodes_of_huge_pages_are_written_with_them(run, tiers):
    wishes = ["--huge-pages", "1GiB", "--virtual-nodes", "auto"]
    status, out, err = run("place", tiers, *wishes, "--config", xml(memory=8 << 10))
    assert (status, err) == (ExitStatus.DONE, "")
    root = tree(out)
    assert root.find("memoryBacking/hugepages/page").get("size") == "1048576"
    assert [one.get("mode") for one in root.findall("numatune/memnode")] == ["strict"] * 2


def test_what_spills_from_several_nodes_is_not_spread_over_all_of_them(run, tiers):
    guest = xml(memory=400 << 10, vcpus=40)
    status, out, _ = run("place", tiers, "--spill", "--config", guest)
    assert status == ExitStatus.DONE
    memory = tree(out).find("numatune/memory")
    assert (memory.get("mode"), memory.get("nodeset")) == ("interleave", "0-3")


def test_virtual_nodes_are_made_on_named_nodes(run):
    wishes = ["--virtual-nodes", "auto", "--nodes", "2,5"]
    made = document(run("place", EPYC, *wishes, "--json", xl()))
    assert [cell["node"] for cell in made["virtual_nodes"]] == [2, 5]
    assert [cell["vcpus"] for cell in made["virtual_nodes"]] == ["0", "1"]
    assert made["reason"].startswith("explicit")


def test_named_nodes_that_cannot_have_a_virtual_node_each_say_so(run):
    wishes = ["--virtual-nodes", "auto", "--nodes", "0-2"]
    made = document(run("place", EPYC, *wishes, "--json", xl()))
    assert made["virtual_nodes"] == []
    assert "not-split" in {warned["code"] for warned in made["warnings"]}


def test_a_tier_that_no_virtual_node_can_be_is_not_written_as_something_else(run, tiers):
    wishes = ["--tier", "cxl:256MiB", "--nodes", "0-1", "--config"]
    assert "virtual node" in complaint(run("place", tiers, *wishes, xml(vcpus=1)))


def test_pages_of_another_size_than_the_files_are_not_written_over_it(run, tiers):
    own = '<memoryBacking><hugepages><page size="2048"/></hugepages></memoryBacking>'
    told = complaint(run("place", tiers, "--huge-pages", "1GiB", "--config", xml(own, memory=2048)))
    assert "g.xml:7" in told
    assert "1 GiB" in told


# --- the file with the decision in it ---


def test_a_printed_config_stands_alone_and_what_is_to_be_said_is_on_the_other_stream(run):
    status, out, err = run(
        "place", EPYC, "--virtual-nodes", "auto", "--nodes", "0-1", "--config", xl()
    )
    assert status == ExitStatus.DONE
    assert next(iter(GuestConfig.parse(out).values)) == "name"
    assert "[virtual-nodes-stay]" in err


def test_a_guest_that_does_not_fit_prints_no_config(run):
    status, out, err = run("place", EPYC, "--config", xl(memory=1 << 20))
    assert (status, out) == (ExitStatus.DOES_NOT_FIT, "")
    assert err.startswith("g: does not fit")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--config", "--json"], "--json"),
        (["--config", "--write"], "--write"),
        (["--config", "g.cfg"], "one FILE"),
    ],
)
def test_a_config_is_printed_of_one_guest_and_of_nothing_else(run, options, told):
    assert told in complaint(run("place", EPYC, *options, xl()))


@pytest.mark.parametrize("option", ["--config", "--write"])
def test_explaining_writes_nothing(run, option):
    guest = xl()
    before = guest.read_bytes()
    assert option in complaint(run("explain", EPYC, option, guest))
    assert guest.read_bytes() == before


@pytest.mark.parametrize("make", [xl, xml])
def test_what_is_written_is_what_was_printed_and_is_placed_there_again(run, make):
    guest = make()
    guest.chmod(0o640)
    printed = run("place", EPYC, "--exclude", "0", "--config", guest)[1]
    status, out, err = run("place", EPYC, "--exclude", "0", "--write", guest)
    assert (status, err) == (ExitStatus.DONE, "")
    assert f"written  {guest}" in out
    assert guest.read_text(encoding="utf-8") == printed
    assert stat.S_IMODE(guest.stat().st_mode) == 0o640
    made = document(run("place", EPYC, "--json", guest))
    assert made["nodes"] == [1]
    assert made["reason"].startswith("explicit")
    run("place", EPYC, "--write", guest)
    assert guest.read_text(encoding="utf-8") == printed


def test_a_link_stays_a_link_and_what_it_points_to_is_written(run):
    guest = xl()
    guest.rename("real.cfg")
    guest.symlink_to("real.cfg")
    assert run("place", EPYC, "--write", guest)[0] == ExitStatus.DONE
    assert guest.is_symlink()
    assert "cpus_soft" in Path("real.cfg").read_text(encoding="utf-8")


def test_a_guest_that_does_not_fit_leaves_its_file_alone(run):
    guest = xl(memory=1 << 20)
    before = guest.read_bytes()
    status, out, _ = run("place", EPYC, "--write", guest)
    assert status == ExitStatus.DOES_NOT_FIT
    assert "written" not in out
    assert guest.read_bytes() == before


@pytest.mark.parametrize("path", ["nowhere.cfg", ".", "-", ""])
def test_what_cannot_be_written_is_said(run, path, monkeypatch):
    if path == "-":
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(xl().read_bytes())))
    told = complaint(run("place", EPYC, "--write", path))
    assert (path or "''") in told or "standard input" in told


def test_json_beside_writing_is_a_document_and_writes(run):
    guest = xl()
    made = document(run("place", EPYC, "--write", "--json", guest))
    assert made["fits"] is True
    assert "cpus_soft" in guest.read_text(encoding="utf-8")


def test_several_files_are_written_each(run):
    one = xl().rename("one.cfg")
    two = xml().rename("two.xml")
    status, out, _ = run("place", EPYC, "--write", one, two)
    assert status == ExitStatus.DONE
    assert out.count("written  ") == 2
    assert "numatune" in two.read_text(encoding="utf-8")


def test_a_folder_that_cannot_be_written_to_leaves_the_file_as_it_was(run, folder):
    if os.geteuid() == 0:
        pytest.skip("root may write to every folder")
    guest = xl()
    before = guest.read_bytes()
    folder.chmod(0o555)
    try:
        assert "as it was" in complaint(run("place", EPYC, "--write", guest))
    finally:
        folder.chmod(0o755)
    assert guest.read_bytes() == before


def test_a_file_that_is_read_only_stays_as_it_is_even_for_root(run):
    guest = xl()
    before = guest.read_bytes()
    guest.chmod(0o444)
    assert "read-only" in complaint(run("place", EPYC, "--write", guest))
    assert guest.read_bytes() == before


def test_only_files_are_written(run):
    os.mkfifo("pipe")
    feeder = Thread(target=Path("pipe").write_bytes, args=[xl().read_bytes()])
    feeder.start()
    told = complaint(run("place", EPYC, "--write", "pipe"))
    feeder.join()
    assert "no plain file" in told
    assert stat.S_ISFIFO(Path("pipe").stat().st_mode)


# --- what is told ---


def test_memory_is_told_with_its_kind_and_its_pages(run, tiers):
    out = run("place", tiers, "--tier", "cxl:256MiB", xml())[1]
    assert "296 MiB on node 1, 256 MiB on node 6 (cxl)" in out
    assert "virtual  node 0: vcpus 0-1, 256 MiB on node 1" in out
    assert out.count("virtual  node 1: no vcpus, 256 MiB on node 6") == 1
    out = run("place", tiers, "--huge-pages", "2MiB", xml())[1]
    assert "512 MiB in pages of 2 MiB on node 1" in out


def test_pools_of_nodes_without_cpus_matter_to_guests_that_want_them_alone(run, tiers):
    out = run("place", tiers, "--huge-pages", "2MiB", xml())[1]
    assert "unknown" not in out
    out = run("place", tiers, "--huge-pages", "2MiB", "--spill", xml())[1]
    assert "free pages of 2 MiB of nodes 4-9 are unknown" in out


def test_a_guest_on_a_node_without_cpus_is_told_of(run, tiers):
    out = run("place", tiers, "--nodes", "9", xml())[1]
    assert out.startswith("g: memory on node 9, vcpus elsewhere")


def test_the_memory_of_the_chosen_candidate_is_that_of_the_decision(run):
    wishes = ["--virtual-nodes", "auto", "--nodes", "2 nodes", "--json"]
    made = document(run("explain", EPYC, *wishes, xl()))
    assert made["candidates"][0]["memory"] == made["memory"]
    shares = {tuple(share["kib"] for share in one["memory"]) for one in made["candidates"]}
    assert len(shares) == 1, "the nodes are alike"


CELLS = 'vnuma = [["size=256", "vcpus=0"], ["size=256", "vcpus=1"]]'


def test_why_virtual_nodes_are_on_several_nodes_is_told_truly(run):
    out = run("place", EPYC, xl(CELLS))[1]
    assert "no node can hold it alone" not in out
    assert "2 nodes for its virtual nodes" in out


@pytest.mark.parametrize(("count", "nodes"), [(1, [0]), (2, [0, 1]), (3, [0, 1])])
def test_another_number_of_nodes_than_virtual_nodes_is_told_of(run, count, nodes):
    made = document(run("place", EPYC, "--nodes", f"{count} nodes", "--json", xl(CELLS)))
    assert made["nodes"] == nodes
    codes = [warned["code"] for warned in made["warnings"]]
    assert ("node-count-overruled" in codes) is (count > 2)


def test_free_memory_that_nobody_tells_is_no_shortage(run):
    uri = f"capture:{KVM / 'n4' / 'virsh-capabilities.xml'}"
    status, out, _ = run("explain", uri, xml())
    assert status == ExitStatus.DOES_NOT_FIT
    assert "node 0: its free memory is unknown" in out
    assert "--empty" in out
    assert "short (0 MiB" not in out
    assert run("place", uri, "--empty", xml())[0] == ExitStatus.DONE


def test_a_tier_in_pages_that_it_has_not_is_named_so(run, tiers):
    wishes = ["--huge-pages", "2MiB", "--tier", "cxl:256MiB"]
    out = run("place", tiers, *wishes, xml())[1]
    assert "no node without cpus has cxl memory in pages of 2 MiB" in out
    assert "do without pages of 2 MiB" in out


@pytest.mark.parametrize(
    ("sizes", "nodes", "fits"),
    [
        ([4, 4, 4], [0, 0, 0], True),
        ([30, 30, 30], [0, 1, 0], True),
        ([40, 10, 30], [0, 1, 1], True),  # in turn, the first and the third would share a node
        ([40, 40, 40], [], False),
    ],
)
def test_more_virtual_nodes_than_nodes_share_them_as_they_fit(run, sizes, nodes, fits):
    cells = ", ".join(f'["size={size << 10}", "vcpus={n}"]' for n, size in enumerate(sizes))
    guest = xl(f"vnuma = [{cells}]", memory=sum(sizes) << 10, vcpus=len(sizes))
    wishes = ["--exclude", "2-7", "--json"]
    made = document(
        run("place", EPYC, *wishes, guest),
        ExitStatus.DONE if fits else ExitStatus.DOES_NOT_FIT,
    )
    assert made["fits"] is fits
    if fits:
        assert [cell["node"] for cell in made["virtual_nodes"]] == nodes
        assert "share nodes" in made["reason"]
    else:
        assert "does not fit" in made["reason"]


def test_pages_that_are_short_can_be_made(run, tiers):
    guest = xml(memory=20 << 10)
    wishes = ["--huge-pages", "2MiB", "--nodes", "0"]
    status, out, _ = run("place", tiers, *wishes, guest)
    assert status == ExitStatus.DOES_NOT_FIT
    assert "make 2048 more pages of 2 MiB on node 0: node 0" in out
    host = Path("tiers.toml")
    made = re.sub(r'"2MiB" = 8192', '"2MiB" = 10240', host.read_text(encoding="utf-8"), count=1)
    host.write_text(made, encoding="utf-8")
    assert run("place", tiers, *wishes, guest)[0] == ExitStatus.DONE


def test_one_word_says_everywhere_that_there_are_to_be_no_virtual_nodes(run, tiers):
    guests = [xl('virtual_nodes = "none"'), xml(placement='virtual-nodes="none"')]
    for guest in guests:
        made = document(run("place", tiers, "--virtual-nodes", "none", "--json", guest))
        assert made["virtual_nodes"] == []


def test_nodes_without_cpus_that_are_named_beside_others_are_where_the_tier_is(run, tiers):
    wishes = ["--nodes", "2,6", "--tier", "cxl:256MiB", "--json"]
    made = document(run("place", tiers, *wishes, xml()))
    assert (made["nodes"], by_node(made)[6]) == ([2], 256 << 10)
    out = run("place", tiers, "--nodes", "2,9", "--tier", "cxl:256MiB", xml())
    assert out[0] == ExitStatus.DOES_NOT_FIT
    assert "no node without cpus has cxl memory" in out[1]


@pytest.mark.parametrize(
    "wishes",
    [
        ["--tier", "cxl"],
        ["--tier", "cxl", "--exclude", "6"],
        ["--tier", "cxl:256MiB"],
        ["--spill", "--exclude", "0-2"],
        ["--spill"],
        ["--spill", "--exclude", "1-3", "--nodes", "0,5"],
        ["--near", "97:00.0", "--near", "17:00.0", "--devices", "required"],
        ["--nodes", "9"],
    ],
)
def test_what_was_written_is_read_as_it_was_meant_and_written_alike(run, tiers, wishes):
    guest = xml(memory=(60 if "9" in wishes else 100) << 10)
    first = document(run("place", tiers, *wishes, "--write", "--json", guest))
    written = guest.read_bytes()
    again = document(run("place", tiers, "--write", "--json", guest))
    assert again["nodes"] == first["nodes"]
    assert by_node(again) == by_node(first)
    assert guest.read_bytes() == written


def test_a_node_without_cpus_that_is_named_alone_has_all_of_the_memory(run, tiers):
    wishes = ["--nodes", "9", "--tier", "hbm:64MiB", "--virtual-nodes", "auto"]
    for size in (512, 100 << 10):
        status, out, _ = run("explain", tiers, *wishes, xml(memory=size))
        assert status == (ExitStatus.DONE if size == 512 else ExitStatus.DOES_NOT_FIT)
        assert "[tier-overruled]" in out


def test_an_exclusive_guest_has_its_pins_on_the_nodes_of_its_virtual_nodes(run):
    cells = 'vnuma = [["size=256", "vcpus=0-39"], ["size=256", "vcpus=40-41"]]'
    guest = xl(cells, vcpus=42)
    made = document(run("place", EPYC, "--nodes", "0-1", "--exclusive", "--json", guest))
    hard = {line["vcpus"]: line["hard"] for line in made["vcpus"]}
    assert hard["32-39"] == "0-31", "more vcpus than cpus: all that the node has"
    assert hard["40"] == "32"


def test_a_guest_that_could_not_be_split_is_explained_as_it_was_placed(run):
    wishes = ["--exclude", "0-1", "--spill", "--virtual-nodes", "auto"]
    made = document(run("explain", UNEVEN, *wishes, "--json", xml()))
    assert (made["nodes"], list(by_node(made))) == ([4], [9])
    assert made["candidates"][0]["memory"] == made["memory"]
    assert "not-split" in {warned["code"] for warned in made["warnings"]}


def test_an_empty_host_has_all_of_its_memory_but_that_of_dom0_and_of_pools(run, tiers):
    wishes = ["--empty", "--exclude", "0,2-7", "--json"]
    made = document(run("place", XEN_GUESTS, *wishes, xl(memory=64)))
    assert made["facts"]["usable"] == (512 << 10) - 4224, "dom0 has 4224 KiB on node 1"
    made = document(run("place", tiers, "--empty", "--exclude", "1-3", "--json", xml()))
    assert made["facts"]["usable"] == (128 - 16 - 4) << 20, "16 GiB and 4 GiB are in pools"


def test_nodes_that_give_memory_alone_are_taken(run, tiers):
    made = document(run("explain", tiers, "--spill", "--json", xml(memory=420 << 10, vcpus=40)))
    taken = set(by_node(made))
    assert taken & {6, 7}
    assert taken.isdisjoint({4, 5, 9}), "HBM and a GPU's memory are taken by name alone"
    refused = {node for one in made["rejected"] for node in one["nodes"]}
    assert refused.isdisjoint(taken)


def test_unknown_memory_is_said_of_guests_that_are_to_be_split_too(run):
    uri = f"capture:{KVM / 'n4' / 'virsh-capabilities.xml'}"
    out = run("explain", uri, "--virtual-nodes", "auto", xml())[1]
    assert "does not fit: the free memory of nodes 0-3 is unknown" in out
    assert "node 0: its free memory is unknown" in out
    assert "no cpu" not in out


def test_vcpus_that_are_held_away_from_the_named_nodes_are_warned_of(run):
    out = run("place", EPYC, "--nodes", "1,4", xl('cpus = "0-1"'))[1]
    assert "[vcpus-away-from-memory]" in out


def test_what_is_neither_a_guest_nor_a_file_is_said_to_be_neither(run):
    assert "no guest and no file 'nobody'" in complaint(run("explain", XEN_GUESTS, "nobody"))


@pytest.mark.parametrize("more", [["--policy", "spread"], ["--nodes", "1"], ["b"], ["--all"]])
def test_a_guest_that_runs_is_explained_by_its_name_alone_and_that_is_said(run, more):
    said = complaint(run("explain", XEN_GUESTS, "a", *more))
    assert "'a' is no file; a guest that runs is explained alone" in said


def test_named_nodes_that_cannot_all_have_a_virtual_node_hold_a_whole_guest(run):
    wishes = ["--nodes", "0,4", "--virtual-nodes", "auto", "--json"]
    made = document(run("place", UNEVEN, *wishes, xml(vcpus=20)))
    assert list(by_node(made)) == [0]
    assert "not-split" in {warned["code"] for warned in made["warnings"]}


def test_bad_input_in_one_file_changes_none(run, tiers):
    good = xml()
    before = good.read_bytes()
    Path("bad.xml").write_text("<domain/>", encoding="utf-8")
    complaint(run("place", tiers, "--write", good, "bad.xml"))
    assert good.read_bytes() == before


@pytest.mark.parametrize("wishes", [["--tier", "cxl:256MiB"], ["--virtual-nodes", "auto"]])
def test_virtual_nodes_that_were_written_for_xl_are_read_as_they_were_meant(run, tiers, wishes):
    guest = xl('virtual_nodes = "auto"', memory=100 << 10)
    first = document(run("place", tiers, *wishes, "--write", "--json", guest))
    assert len(first["virtual_nodes"]) == 2 + ("--tier" in wishes)
    written = guest.read_bytes()
    again = document(run("place", tiers, "--write", "--json", guest))
    assert (by_node(again), again["nodes"]) == (by_node(first), first["nodes"])
    assert guest.read_bytes() == written


def test_virtual_nodes_that_are_not_wanted_now_are_not_made_by_the_written_file_either(run, tiers):
    guest = xl('virtual_nodes = "auto"', memory=100 << 10)
    run("place", tiers, "--virtual-nodes", "none", "--write", guest)
    assert document(run("place", tiers, "--json", guest))["virtual_nodes"] == []
