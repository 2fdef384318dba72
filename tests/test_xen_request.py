"""What a guest config asks for: xl 4.17's own readings, homenode's keys, and clear refusals."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.bitmap import CpuMap, NodeMap
from homenode.errors import ParseError
from homenode.formats.xl_cfg import GuestConfig, Number, render
from homenode.guest import ExplicitNodes, Tier
from homenode.host import Cpu, Cpupool, Host, Node
from homenode.rules.xen_request import request

# Four nodes of two cpus, as on the host on which xl 4.17 was asked.
CPUS = [Cpu(cpu, cpu // 2) for cpu in range(8)]
HOST = Host(cpus=CPUS, nodes=[Node(node) for node in range(4)])
POOLS = HOST.replace(
    pools=[Cpupool("Pool-0", CpuMap([0, 1, 2, 3])), Cpupool("other", CpuMap([4, 5, 6, 7]))]
)
BASE = 'name = "g"\nmemory = 64\n'
UUID = "00112233-4455-6677-8899-AABBCCDDEEFF"


def ask(text, host=HOST):
    return request(GuestConfig.parse(BASE + text, source="g.cfg"), host)


def asked(text, host=HOST):
    answer = ask(text, host)
    assert answer.warnings == ()
    return answer.request


def codes(text, host=HOST):
    return [code for code, _ in ask(text, host).warnings]


def written(maps):
    return [str(cpus) for cpus in maps]


# --- as xl reads it (xl -N create, the JSON that it prints) ---


@pytest.mark.parametrize(
    ("text", "vcpus"),
    [
        ("", 1),
        ("vcpus=2", 2),
        ('vcpus="2"', 2),
        ("vcpus=010", 8),
        ("vcpus=0x3", 3),
        ("vcpus=2\nmaxvcpus=4", 4),
        ("maxvcpus=4", 4),
        ("vcpus=2\nvcpus=3", 3),
    ],
)
def test_the_vcpus_are_all_that_the_guest_may_have(text, vcpus):
    assert asked(text).vcpus == vcpus


@pytest.mark.parametrize(
    ("text", "target_mib", "most_mib"),
    [
        ("", 64, 64),
        ("maxmem=128", 64, 128),
        ('memory="0x80"', 128, 128),
        ('type="hvm"\nvnuma=[["size=40","vcpus=0"],["size=24","vcpus=1"]]', 64, 64),
    ],
)
def test_memory_is_in_mib(text, target_mib, most_mib):
    made = asked(text)
    assert (made.guest_memory_kib, made.max_memory_kib) == (target_mib * 1024, most_mib * 1024)


@pytest.mark.parametrize("text", ["maxmem=96", 'type="hvm"\nvnuma=[["size=96","vcpus=0"]]'])
def test_memory_that_is_not_set_is_the_most_there_may_be(text):
    made = request(GuestConfig.parse(f'name="g"\n{text}', source="g.cfg"), HOST).request
    assert made.guest_memory_kib == 96 * 1024


def test_what_counts_for_the_overhead_is_read_from_the_config():
    # libxl__domain_need_memory_calculate(), by hand: 64 MiB + 4 * (256 + 64) KiB + 1 MiB, in 2 MiB
    assert asked("").memory_kib == 68 * 1024
    assert asked("shadow_memory=16").memory_kib == 82 * 1024
    assert asked("maxvcpus=9").memory_kib == 76 * 1024
    with_hap = asked('type="hvm"\nmaxmem=4096').memory_kib
    assert asked('type="hvm"\nmaxmem=4096\nhap=0').memory_kib == with_hap + 4 * 4096
    assert asked('type="hvm"\nmaxmem=4096\nhap=1').memory_kib == with_hap


@pytest.mark.parametrize(
    ("text", "type_"),
    [
        ("", "pv"),
        ('type="pvh"', "pvh"),
        ('type="hvm"', "hvm"),
        ('builder="hvm"', "hvm"),
        ('builder="generic"', "pv"),
        ('type="pv"\nbuilder="generic"', "pv"),
    ],
)
def test_type_and_its_obsolete_form(text, type_):
    assert asked(text).type == type_


@pytest.mark.parametrize(
    ("text", "hard"),
    [
        ("vcpus=2", []),
        ("vcpus=2\ncpus=3", ["3", "3"]),
        ('vcpus=2\ncpus="node:1"', ["2-3", "2-3"]),
        ('vcpus=2\nmaxvcpus=3\ncpus="0,5"', ["0,5"] * 3),
        ('vcpus=2\ncpus=["0","1","2"]', ["0", "1"]),
        ("vcpus=2\ncpus=[0,1]", ["0", "1"]),
        ('vcpus=2\ncpus="all"', []),
        ('vcpus=2\ncpus=["all","0-7"]', []),
        ("vcpus=2\ncpus=[]", []),
    ],
)
def test_hard_affinity_has_a_map_for_each_vcpu(text, hard):
    assert written(asked(text).hard) == hard


# --- nodes that the user names ---


@pytest.mark.parametrize(
    ("text", "nodes", "setting"),
    [
        ('nodes="1-2"', "1-2", "nodes"),
        ('nodes="0-3,^2"', "0-1,3", "nodes"),
        ('nodes=["0", "3"]', "0,3", "nodes"),
        ("nodes=[0, 3]", "0,3", "nodes"),
        ('nodes="2"', "2", "nodes"),
        ('cpus_soft="node:1"', "1", "cpus_soft"),
        ('vcpus=2\ncpus_soft=["0","7"]', "0,3", "cpus_soft"),
        ('cpus=["2-3"]', "1", "cpus"),
        ('cpus="0-3"\ncpus_soft="2-5"', "1", "cpus_soft"),
        ('nodes="auto"\ncpus_soft="node:1"', "1", "cpus_soft"),
        ('nodes="1"\ncpus_soft="node:1"', "1", "nodes"),
        ('cpus_soft="0"\ncpus=["0-3"]', "0", "cpus_soft"),
    ],
)
def test_named_nodes_are_explicit_and_the_strongest_setting_names_them(text, nodes, setting):
    assert asked(text).explicit == ExplicitNodes(NodeMap.parse(nodes), setting)


@pytest.mark.parametrize(
    "text",
    ["", 'nodes="auto"', 'cpus="node:1"', 'cpus_soft="all"', 'cpus_soft="0-7"', "cpus_soft=[]"],
)
def test_what_names_no_node_leaves_the_choice_open(text):
    made = asked(text)
    assert (made.explicit, made.node_count, made.soft) == (None, None, ())


def test_a_number_of_nodes_is_no_node():
    made = asked("nodes = 2")
    assert (made.node_count, made.explicit) == (2, None)
    config = GuestConfig.parse(BASE + "nodes = 2\n", source="g.cfg")
    as_node = GuestConfig.parse(config.edited({"nodes": "2"}), source="g.cfg")
    assert request(as_node, HOST).request.explicit == ExplicitNodes(NodeMap([2]), "nodes")


def test_policies_are_passed_on_as_they_are():
    assert asked('nodes_policy="spread"').policy == "spread"
    assert asked('nodes_policy="nodes,distance,-usable~4G"').policy == "nodes,distance,-usable~4G"


# --- contradictions ---


@pytest.mark.parametrize(
    ("text", "warned", "explicit"),
    [
        ('nodes="0"\ncpus_soft="node:1"', ["cpus-soft-overruled"], "0"),
        ('nodes="0"\ncpus="node:1"', ["vcpus-away-from-memory"], "0"),
        ('nodes="0"\ncpus=["node:1"]', ["vcpus-away-from-memory"], "0"),
        ('nodes="0-1"\ncpus="node:1"', ["node-without-cpus"], "1"),
        ('cpus="node:1"\ncpus_soft="node:2"', ["soft-outside-hard"], "1"),
        ('vcpus=2\ncpus=["0"]', ["short-list"], "0-3"),
        ('vcpus=2\ncpus_soft=["0"]', ["short-list"], "0-3"),
    ],
)
def test_contradictions_are_warnings_and_the_stronger_setting_holds(text, warned, explicit):
    assert codes(text) == warned
    assert str(ask(text).request.explicit.nodes) == explicit


def test_a_number_of_nodes_overrules_what_names_nodes():
    answer = ask('nodes=2\ncpus_soft="node:1"')
    assert [code for code, _ in answer.warnings] == ["cpus-soft-overruled"]
    assert (answer.request.explicit, answer.request.node_count) == (None, 2)


def test_the_warning_names_the_vcpus():
    answer = ask('vcpus=3\ncpus=["0","2","4"]\ncpus_soft="node:0"')
    assert "vcpus 1-2 names no cpu" in answer.warnings[0][1]


# --- cpupools ---


def test_a_pool_bounds_what_masks_mean():
    assert asked('pool="other"', POOLS).pool == "other"
    assert str(asked('pool="other"\ncpus_soft="3-4"', POOLS).explicit.nodes) == "2"
    with pytest.raises(ParseError, match="no cpus for the guest on node 0"):
        codes('pool="other"\nnodes="0"', POOLS)
    assert codes('pool="other"\ncpus_soft="0"', POOLS) == ["soft-outside-hard"]


def test_a_pool_that_nobody_knows_of_is_said():
    assert codes('pool="other"') == ["pool-unknown"]
    assert ask('pool="other"').request.pool is None


# --- virtual nodes ---

HVM = 'type="hvm"\n'
TWO = '["pnode={}","size=32","vcpus=0","vdistances=10,20"],["pnode={}","size=32","vcpus=1-2"]'


def test_virtual_nodes_with_a_node_each_are_explicit():
    made = asked(f"{HVM}vnuma=[{TWO.format(3, 1)}]")
    assert made.explicit == ExplicitNodes(NodeMap([1, 3]), "vnuma")
    assert (made.vcpus, made.guest_memory_kib) == (3, 64 * 1024)
    first, second = made.virtual_nodes
    assert (first.node, str(first.vcpus), first.distances) == (3, "0", (10, 20))
    assert (second.node, str(second.vcpus), second.memory_kib) == (1, "1-2", 32 * 1024)


def test_virtual_nodes_without_a_node_are_placed():
    made = asked(f'{HVM}vnuma=[["size=24","vcpus=0"],[" size = 40 "," vcpus = 1,2-3 "]]')
    assert made.explicit is None
    assert [node.node for node in made.virtual_nodes] == [None, None]
    assert made.vcpus == 4


def test_nodes_overrule_the_node_of_a_virtual_node_and_that_overrules_soft_affinity():
    vnuma = f"{HVM}vnuma=[{TWO.format(3, 1)}]\n"
    for text in ("nodes=2", 'nodes="0-1"'):
        assert codes(vnuma + text) == ["vnuma-overruled"]
        assert [node.node for node in ask(vnuma + text).request.virtual_nodes] == [None, None]
    agreed = asked(vnuma + 'nodes="1,3"')
    assert [node.node for node in agreed.virtual_nodes] == [3, 1]
    assert codes(vnuma + 'cpus_soft="node:0"') == ["cpus-soft-overruled"]
    assert ask(vnuma + 'cpus_soft="node:0"').request.explicit.setting == "vnuma"


def test_a_virtual_node_may_have_no_vcpus():
    made = asked(f'{HVM}vnuma=[["size=24","vcpus=0-1"],["size=40"]]')
    assert made.vcpus == 2
    assert [len(node.vcpus) for node in made.virtual_nodes] == [2, 0]


@pytest.mark.parametrize(
    ("vnuma", "said"),
    [
        ('"x"', "single value, but should be a list"),
        ('["pnode=0"]', "virtual node 0: it should be a list"),
        ('[["pnode"]]', "'pnode' is none of"),
        ('[["size=64","vcpus=0","colour=red"]]', "'colour=red' is none of"),
        ('[["size=64","size=64","vcpus=0"]]', "size is there twice"),
        ('[["size=64"]]', "no virtual node has a vcpu"),
        ('[["vcpus=0"]]', "it needs size=MIB"),
        ('[["size=64","vcpus="]]', "'vcpus=' is none of"),
        ('[["size=0","vcpus=0"]]', "it needs size=MIB"),
        ('[["size=64M","vcpus=0"]]', "size=64M is no whole number"),
        ('[["size=99999999999999999999","vcpus=0"]]', "size=9+ is no whole number"),
        ('[["size=999999999999","vcpus=0"]]', "out of range"),
        ('[["pnode=9","size=64","vcpus=0"]]', "there is no node 9 on this host; it has 0-3"),
        ('[["size=64","vcpus=x"]]', "vcpus: not a cpu number"),
        ('[["size=64","vcpus=9999"]]', "more vcpus than Xen has"),
        ('[["size=32","vcpus=0-1"],["size=32","vcpus=1"]]', "vcpu 1 is in more than one"),
        ('[["size=32","vcpus=0"],["size=32","vcpus=2"]]', "vcpu 1 is in no virtual node"),
        ('[["size=64","vcpus=0","vdistances=10,20"]]', "2 vdistances for 1 virtual nodes"),
        ('[["size=32","vcpus=0","vdistances=20,10"],["size=32","vcpus=1"]]', "farther from itself"),
        ('[["size=32","vcpus=0","pnode=0"],["size=32","vcpus=1"]]', "some have none"),
        ('[["size=32","vcpus=0"]]', "the virtual nodes have 32 MiB, but memory = 64"),
        ('[["size=64","vcpus=0-8"]]', "have 9 vcpus, and the host 8 cpus"),
        ('[["size=64","vcpus=0"]]\nmaxvcpus=2', "have 1 vcpus, but maxvcpus = 2"),
        ('[["size=64","vcpus=0"]]\nmaxmem=65', "have 64 MiB, but maxmem = 65"),
        ('[["size=64","vcpus=0"]]\ntype="pv"', "xl cannot make a pv guest with virtual"),
        ('[["size=64","vcpus=0"]]\ntype="pvh"', "xl cannot make a pvh guest with virtual"),
    ],
)
def test_virtual_nodes_that_make_no_sense_are_refused(vnuma, said):
    with pytest.raises(ParseError, match=rf"^g\.cfg:4: .*{said}"):
        ask(f"{HVM}vnuma={vnuma}")


# --- refusals ---


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("memory=0", "3: memory = 0 is out of range: it is at least 1"),
        ("memory=[3]", "3: memory is a list"),
        ('memory="64M"', "3: memory is no whole number: '64M'"),
        ("memory=" + "9" * 26, "3: memory is out of range: '" + "9" * 26 + "' is more than xl"),
        ("memory=" + "9" * 50, "3: memory is out of range"),
        ('memory="-' + "9" * 26 + '"', "3: memory is out of range"),
        ("memory=99999999999999", "3: memory = 99999999999999 is out of range: it is at most"),
        ("maxmem=32", "2: memory = 64 is more than maxmem = 32"),
        ("vcpus=0", "3: vcpus = 0 is out of range"),
        ('vcpus="-1"', "3: vcpus = -1 is out of range"),
        ("vcpus=9999999", "3: vcpus = 9999999 is out of range"),
        ("vcpus=[2]", "3: vcpus is a list"),
        ("maxvcpus=1;vcpus=2", "3: vcpus = 2 is more than the guest may have: 1"),
        ('name=""', "3: the guest has no name"),
        ('name=["a"]', "3: name is a list"),
        ('type="x"', "3: there is no type 'x'"),
        ('builder="x"', "3: there is no builder 'x'"),
        ('type="pvh"\nbuilder="hvm"', "4: builder = 'hvm' contradicts type = 'pvh'"),
        ('uuid="x"', "3: not a uuid: 'x'"),
        ('uuid="00112233445566778899aabbccddeeff"', "3: not a uuid"),
        ('uuid="0011223g-4455-6677-8899-aabbccddeeff"', "3: not a uuid"),
        ('cpus=""', "3: cpus names no cpu at all for vcpu 0"),
        ('vcpus=2\ncpus=["0","^0"]', "4: cpus names no cpu at all for vcpu 1"),
        ('cpus="node:9"', "3: cpus: there is no node 9 on this host: 'node:9' at character 1"),
        ('\n\ncpus="0,99"', "5: cpus: there is no cpu 99 on this host: '99' at character 3"),
        ('cpus=" 0 , 1 "', "3: cpus: a blank where xl reads none"),
        ('cpus=[["0"]]', "3: a list within a list of cpus"),
        ('cpus_soft=""', "3: cpus_soft names no cpu at all"),
        ('cpus_soft="foo"', "3: cpus_soft: not a cpu number"),
        ("nodes=0", "3: nodes = 0 is out of range"),
        ('nodes=""', "3: nodes names no node"),
        ("nodes=[]", "3: nodes names no node"),
        ('nodes="0,^0"', "3: nodes names no node"),
        ('nodes="0-4"', "3: nodes: '0-4' names node 4, which does not exist here"),
        ('nodes=[["0"]]', "3: a list within a list of nodes"),
        ("nodes_policy=[1]", "3: nodes_policy is a list"),
        ("shadow_memory=[1]", "3: shadow_memory is a list"),
        ('hap="x"', "3: hap is no whole number"),
    ],
)
def test_each_mistake_is_one_line_that_says_where(text, said):
    with pytest.raises(ParseError) as caught:
        ask(text)
    assert str(caught.value).startswith(f"g.cfg:{said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [("memory=64", "the guest has no name"), ('name="g"', "no memory is set")],
)
def test_what_must_be_there_is_asked_for(text, said):
    with pytest.raises(ParseError, match=rf"^g\.cfg: {said}.*; add "):
        request(GuestConfig.parse(text, source="g.cfg"), HOST)


def test_a_pool_is_checked_against_the_host():
    with pytest.raises(ParseError, match=r"^g\.cfg:3: there is no cpupool 'nope'.*Pool-0, other"):
        ask('pool="nope"', POOLS)
    with pytest.raises(ParseError, match=r"^g\.cfg:3: vcpu 0 may only use cpus 4, .*Pool-0 \(0-3"):
        ask('cpus="4"', POOLS)


def test_a_uuid_is_in_lower_case():
    assert asked(f'uuid="{UUID}"').uuid == UUID.lower()


# --- properties ---

KNOWN = [
    "name", "type", "builder", "uuid", "memory", "maxmem", "vcpus", "maxvcpus", "pool", "cpus",
    "cpus_soft", "nodes", "nodes_policy", "vnuma", "shadow_memory", "hap",
]  # fmt: skip
likely = st.sampled_from(
    [
        "0", "1", "2", "-1", "", "=", "9" * 30, "all", "auto", "node:1", "^0", "0-3,^1", UUID,
        "pvh", "hvm", "other", "pnode=1", "size=32", "size=", "vcpus=0", "vcpus=0-1",
        "vdistances=10",
    ]
)  # fmt: skip
words = likely | st.sampled_from(["0", "1", "2", "64", "0x10", "08"]).map(Number) | st.text()
values = st.recursive(
    words.filter(lambda text: "\0" not in text),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(KNOWN), values, max_size=5), st.sampled_from([HOST, POOLS]))
def test_any_config_is_a_sound_request_or_one_clear_line(config, host):
    text = BASE + render(config)
    try:
        made = request(GuestConfig.parse(text, source="g.cfg"), host).request
    except ParseError as error:
        line = str(error)
        assert line.startswith("g.cfg:")
        assert "\n" not in line
        return
    assert made.name
    assert 0 < made.guest_memory_kib <= made.max_memory_kib
    assert made.guest_memory_kib < made.memory_kib
    assert made.vcpus > 0
    for maps in (made.hard, made.soft):
        assert len(maps) in (0, made.vcpus)
        assert all(maps)
    if made.explicit:
        assert made.explicit.nodes
        assert made.explicit.nodes <= host.node_map
    assert made.explicit is None or made.node_count is None


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("cpus_sfot", "cpus_soft"),
        ("node", "nodes"),
        ("nodes_polcy", "nodes_policy"),
        ("cpu", "cpus"),
    ],
)
def test_a_setting_that_is_a_slip_away_is_refused_where_xl_would_ignore_it(slip, meant):
    text = f'name = "a"\nmemory = 64\n{slip} = "0"\n'
    with pytest.raises(ParseError) as caught:
        request(GuestConfig.parse(text, source="a.cfg"), HOST)
    assert str(caught.value).startswith("a.cfg:3:")
    assert meant in str(caught.value)


def test_a_tier_is_a_part_of_an_hvm_guest_without_virtual_nodes_of_its_own():
    made = asked(HVM + 'nodes_tier = "cxl:16MiB"\n')
    assert (made.tier, made.split) == (Tier("cxl", 16 << 10), True)
    for text, said in (
        ('nodes_tier = "cxl:16MiB"', "cannot make a pv guest"),
        (HVM + 'nodes_tier = "cxl"', "some memory where it has cpus"),
        (HVM + 'nodes_tier = "tape:1GiB"', "nodes_tier: 'tape:1GiB' is not known"),
        (f'{HVM}vnuma=[{TWO.format(0, 1)}]\nnodes_tier = "cxl:1MiB"', "vnuma says where"),
    ):
        with pytest.raises(ParseError, match=said):
            ask(text)
