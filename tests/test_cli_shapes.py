"""The command line for guests of every shape: what is asked, what comes of it, how it refuses."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from homenode.cli.main import main
from homenode.errors import ExitStatus

ROOT = Path(__file__).parent.parent
HOSTS = ROOT / "examples" / "hosts"
XEN_GUESTS = f"capture:{ROOT / 'tests' / 'data' / 'xen-captures' / 'n8' / 'guests'}"
EPYC = f"capture:{HOSTS / 'epyc-7763-2s-nps4.toml'}"
UNEVEN = f"capture:{HOSTS / 'uneven.toml'}"
XEN_TIERS = f"capture:{HOSTS / 'memory-tiers.toml'}"
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
    Path("tiers.toml").write_text(text.replace('"Xen 4.20"', '"QEMU"'), encoding="utf-8")
    return "capture:tiers.toml"


def xl(*lines, memory=512, vcpus=2):
    text = "\n".join(['name = "g"', 'type = "pvh"', f"memory = {memory}", f"vcpus = {vcpus}"])
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


@pytest.mark.parametrize("wish", [["--tier", "cxl:256MiB"], ["--spill"], ["--huge-pages", "2MiB"]])
@pytest.mark.parametrize("uri", ["tiers", XEN_TIERS])
def test_xl_cannot_be_told_of_tiers_spill_and_huge_pages_whatever_the_host(run, tiers, uri, wish):
    uri = tiers if uri == "tiers" else uri
    assert "Xen" in complaint(run("place", uri, *wish, xl()))


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
