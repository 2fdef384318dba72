"""xl.cfg: the grammar against what xl 4.17 itself said, and edits that touch nothing else."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homenode.errors import HomenodeError, ParseError
from homenode.formats.xl_cfg import DEEPEST_LIST, LARGEST_TEXT, GuestConfig, Number, render

CAPTURES = Path(__file__).parent / "data" / "xen-captures"

# Each text was given to libxlutil 4.17 (xlu_cfg_readdata); this is what it read.
READ_BY_XL = [
    ("", {}),
    (" ", {}),
    ("\n\n", {}),
    ("a=1", {"a": "1"}),
    ("a='x'", {"a": "x"}),
    ("a='x\"y'", {"a": 'x"y'}),
    ('a=""\n', {"a": ""}),
    ('a="x" # c\n', {"a": "x"}),
    ("a=1#c\n", {"a": "1"}),
    ("a=1;b=2", {"a": "1", "b": "2"}),
    ("a=1;;\n;", {"a": "1"}),
    ("a = [ 1, 2 ] ; b = 3 # c\n", {"a": ("1", "2"), "b": "3"}),
    ("\ta\t=\t1\n", {"a": "1"}),
    ("a.b_c9=1", {"a.b_c9": "1"}),
    ("a=0x10", {"a": "0x10"}),
    ("a=1x", {"a": "1x"}),
    ("a=[]", {"a": ()}),
    ("a=[1,]", {"a": ("1",)}),
    ("a=[\n1\n,\n2\n,\n]\n", {"a": ("1", "2")}),
    ("a=[ # c\n1, # d\n]\n", {"a": ("1",)}),
    ('a=[[1,2],["x",[]]]', {"a": (("1", "2"), ("x", ()))}),
    ("a=[\n\n]\nb=1\n", {"a": (), "b": "1"}),
    ("a=1\na=2", {"a": "2"}),
    ("a=[1]\na=2", {"a": "2"}),
    ('a="x"\na+="y"', {"a": "xy"}),
    ('a=1\na += "2"\n', {"a": "12"}),
    ("a+=1", {"a": "1"}),
    ("a=[1]\na+=[2,3]", {"a": ("1", "2", "3")}),
    ("a=[]\na+=[]", {"a": ()}),
    ('a="\\a\\b\\f\\n\\r\\t\\v\\\\\\"\\\'"', {"a": "\a\b\f\n\r\t\v\\\"'"}),
    ('a="tab\there"', {"a": "tab\there"}),
    ('a="\r"', {"a": "\r"}),
    ('a="é"', {"a": "é"}),
    ("# é\na=1\n", {"a": "1"}),
    ("# c\r\na=1\n", {"a": "1"}),
]

# Each of these libxlutil 4.17 refused; the line is that of the mistake.
REFUSED_BY_XL = [
    ("# c", 1),
    ('a="x"# c', 1),
    ("a=1\r\n", 1),
    ("a=1\n\nb=2\r\n", 3),
    ("a=1 b=2", 1),
    ("A=1", 1),
    ("aB=1", 1),
    ("_a=1", 1),
    ("1a=1", 1),
    ("\N{LATIN SMALL LETTER E WITH ACUTE}=1", 1),
    ("\ufeffa=1", 1),
    ("a=x", 1),
    ("a=None", 1),
    ("a=True", 1),
    ("import os\n", 1),
    ("a=(1,2)", 1),
    ("a={}", 1),
    ("a=1.5", 1),
    ("a=-1", 1),
    ("a=+1", 1),
    ("a=0X10", 1),
    ("a=0xg", 1),
    ("a=1,2", 1),
    ("a=1:2", 1),
    ("a==1", 1),
    ("a=", 1),
    ("=1", 1),
    ("a", 1),
    ("a\n=1", 1),
    ("a=\n1", 1),
    ("a=]", 1),
    ("a=1]", 1),
    ("a=[1", 1),
    ("a=[1\n\n", 3),
    ("a=[,]", 1),
    ("a=[1,,2]", 1),
    ("a=[1 2]", 1),
    ("a=[1;2]", 1),
    ("a=[1]\n[2]", 2),
    ('a="x', 1),
    ('a="x\ny"', 1),
    ('a="x\\\ny"', 1),
    ("a=1\\\nb=2", 1),
    ('a="x" "y"', 1),
    ('a="x"+"y"', 1),
    ('b=1\na=["""x"""]', 2),
    ('a="\\q"', 1),
    ('a="\\9"', 1),
    ('a="\\x41"', 1),
    ('a="\\0"', 1),
    ('a="x"\na+=[1]', 2),
]

# xlu_cfg_get_long of libxlutil 4.17; None where it warned and the setting was ignored.
NUMBERS_OF_XL = [
    ("a=1", 1),
    ('a="2"', 2),
    ("a=0x10", 16),
    ('a="0X1F"', 31),
    ("a=010", 8),
    ("a=00", 0),
    ('a=" 7"', 7),
    ('a="-7"', -7),
    ('a="9223372036854775807"', 2**63 - 1),
    ("a=9223372036854775808", None),
    ("a=99999999999999999999", None),
    ("a=08", None),
    ("a=0x", None),
    ("a=1x", None),
    ("a=1f", None),
    ("a=0x1x2", None),
    ('a="7 "', None),
    ('a=""', None),
    ('a="1_0"', None),
    ('a="\N{ARABIC-INDIC DIGIT THREE}"', None),
    ("a=[1]", None),
    ("a+=1", None),
    ("a=1\na+=2", None),
]


def read(text):
    return GuestConfig.parse(text, source="f.cfg")


@pytest.mark.parametrize(("text", "values"), READ_BY_XL)
def test_reads_what_xl_reads(text, values):
    assert read(text).values == values


@pytest.mark.parametrize(("text", "line"), REFUSED_BY_XL)
def test_refuses_what_xl_refuses_and_names_the_line(text, line):
    with pytest.raises(ParseError) as caught:
        read(text)
    assert str(caught.value).startswith(f"f.cfg:{line}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "number"), NUMBERS_OF_XL)
def test_numbers_are_those_of_xl_and_what_xl_ignores_is_refused(text, number):
    config = read(text)
    if number is None:
        with pytest.raises(ParseError, match=r"^f\.cfg:\d: a "):
            config.integer("a", smallest=-(2**63))
    else:
        assert config.integer("a", smallest=-(2**63)) == number


@pytest.mark.parametrize(
    "text", ['a="\\101"', "a=1\r", "a=1\0", 'a="x\0y"', "a=1 -", 'a=1"', "a=1\\"]
)
def test_refuses_what_xl_quietly_spoils(text):
    with pytest.raises(ParseError, match=r"^f\.cfg:1: "):
        read(text)


def test_an_unfinished_list_names_the_line_where_it_starts():
    with pytest.raises(ParseError, match="the list that starts in line 2"):
        read('a=1\nb=[ "x",\n "y"\n\nc=1\n')


def test_depth_and_length_are_bounded():
    assert read(f"a={'[' * DEEPEST_LIST}{']' * DEEPEST_LIST}").strings is not None
    for text in (f"a={'[' * (DEEPEST_LIST + 1)}", "a=" + "[" * 50_000, "a=1\n" * LARGEST_TEXT):
        with pytest.raises(ParseError):
            read(text)


def test_getters_tell_the_line_of_a_wrong_type():
    config = read('a=1\nl=[1,"2"]\nll=[["x"]]\n')
    assert config.strings("l") == ("1", "2")
    assert config.string("none") is config.integer("none") is config.strings("none") is None
    for wrong, line in (
        (lambda: config.string("l"), 2),
        (lambda: config.flag("l"), 2),
        (lambda: config.strings("a"), 1),
        (lambda: config.strings("ll"), 3),
        (lambda: config.integer("a", smallest=2), 1),
        (lambda: config.integer("a", largest=0), 1),
    ):
        with pytest.raises(ParseError, match=rf"^f\.cfg:{line}: "):
            wrong()


def test_the_line_of_a_setting_is_that_of_the_one_that_holds():
    config = read("a=1\n# c\n\na=2; b=[\n1]\nc=3\n")
    assert [config.line(name) for name in "abcd"] == [4, 4, 6, None]


# --- properties ---

names = st.from_regex(r"[a-z][._0-9a-z]{0,6}", fullmatch=True)
strings = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
numbers = st.from_regex(r"[0-9][0-9a-fx]{0,4}", fullmatch=True).map(Number)
values = st.recursive(strings | numbers, lambda inner: st.lists(inner, max_size=4).map(tuple))
configs = st.dictionaries(names, values, max_size=5)
gaps = st.sampled_from(["\n", "\n\n", ";", " ; ", "  # note = 1; x\n", "\t\n", "\n# a = [\r\n  "])
equals = st.sampled_from(["=", " = ", "\t=  "])
many_lines = st.just("[ # in a list\n'x',\n\t]")
written = values.map(lambda value: render({"v": value})[4:-1]) | many_lines


@st.composite
def texts(draw):
    """Config files with comments, odd blanks, names set again, and any end."""
    text = draw(st.sampled_from(["", "\n", "# first\n  ", ";"]))
    known = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    for _ in range(draw(st.integers(0, 6))):
        text += draw(st.sampled_from(known)) + draw(equals) + draw(written) + draw(gaps)
    bare_end = draw(st.booleans()) and "#" not in text
    return text.rstrip(" \t\n;") if bare_end else text


@given(configs)
def test_render_and_parse_are_inverse(config):
    back = read(render(config)).values
    assert back == config
    assert render(back) == render(config)  # numbers and strings are told apart


@given(texts() | st.text(max_size=40))
def test_no_change_is_the_same_text(text):
    try:
        config = read(text)
    except ParseError:
        return
    assert config.edited({}) == text
    assert config.edited(dict(config.values)) == text or "+=" in text


@given(texts(), st.data())
def test_an_edit_changes_exactly_what_it_says(text, data):
    config = read(text)
    known = st.sampled_from(sorted(config.values)) if config.values else names
    changes = data.draw(st.dictionaries(names | known, st.none() | values, max_size=4))
    wanted = {name: value for name, value in config.values.items() if name not in changes}
    wanted |= {name: value for name, value in changes.items() if value is not None}
    edited = config.edited(changes)
    again = read(edited)
    assert again.values == wanted
    assert again.edited(changes) == edited


@given(texts(), names, values)
def test_what_is_added_goes_to_the_end_and_comes_out_again(text, name, value):
    config = read(text)
    if name in config:
        return
    added = config.edited({name: value})
    assert added.startswith(text)
    assert read(added).edited({name: None}).removesuffix("\n") == text.removesuffix("\n")


@given(texts(), st.data())
def test_the_other_statements_and_comments_stay_byte_for_byte(text, data):
    config = read(text)
    if not config.values:
        return
    name = data.draw(st.sampled_from(sorted(config.values)))
    last = config._last(name)
    edited = config.edited({name: "\N{SNOWMAN}"})
    assert edited.startswith(text[: last.start])
    assert edited.endswith(text[last.end :])
    removed = config.edited({name: None})
    for comment in ("# first", "# note = 1; x\n", "# a = [\r\n"):
        assert removed.count(comment) == text.count(comment)


# --- edits, seen ---


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        (
            '# web\nname = "w"   # the name\ncpus = "0-3"  # socket 0\n\nvcpus=2\n',
            {"cpus": None, "cpus_soft": "node:1"},
            '# web\nname = "w"   # the name\n# socket 0\n\nvcpus=2\ncpus_soft = "node:1"\n',
        ),
        ("a = 1\ncpus = '0'\nb = 2\n", {"cpus": None}, "a = 1\nb = 2\n"),
        ("a = 1; cpus = '0'; b = 2\n", {"cpus": None}, "a = 1; b = 2\n"),
        ("cpus = '0'; b = 2\n", {"cpus": None}, "b = 2\n"),
        ("a = 1\n  cpus = [\n '0', # c\n '1' ] ;\nb = 2", {"cpus": None}, "a = 1\nb = 2"),
        ("a = 1\ncpus = '0'", {"cpus": None}, "a = 1\n"),
        ("cpus='0'\ncpus='1'\ncpus+=',2'\na=1\n", {"cpus": None}, "a=1\n"),
        ("cpus='0'\ncpus += ',1' # x\n", {"cpus": "3"}, "cpus='0'\ncpus = \"3\" # x\n"),
        ("cpus  =  '0'\n", {"cpus": "0"}, "cpus  =  '0'\n"),
        ("cpus  =  '0'\n", {"cpus": ("1", "2")}, 'cpus  =  ["1", "2"]\n'),
        ("nodes = 2\n", {"nodes": "2"}, 'nodes = "2"\n'),
        ("a = 1", {"uuid": "u", "n": Number("3")}, 'a = 1\nuuid = "u"\nn = 3\n'),
        ("", {"uuid": 'q"\\\n\t'}, 'uuid = "q\\"\\\\\\n\\t"\n'),
    ],
)
def test_edits_look_as_if_made_by_hand(before, changes, after):
    assert read(before).edited(changes) == after


@pytest.mark.parametrize("changes", [{"A": "1"}, {"": "1"}, {"a b": "1"}, {"a": "x\0"}])
def test_what_no_config_can_hold_is_refused(changes):
    with pytest.raises(HomenodeError):
        read("").edited(changes)


@settings(max_examples=50)
@given(st.data())
def test_captured_configs_survive_any_truncation_and_corruption(data):
    paths = sorted(CAPTURES.glob("*/guests/*.cfg"))
    if not paths:
        pytest.skip("no captured configs in tests/data")
    text = data.draw(st.sampled_from(paths)).read_text(encoding="utf-8")
    assert read(text).edited({}) == text
    at = data.draw(st.integers(0, len(text)))
    for broken in (text[:at], text[:at] + data.draw(st.text(max_size=3)) + text[at + 1 :]):
        try:
            read(broken)
        except ParseError as error:
            assert str(error).startswith("f.cfg:")  # noqa: PT017 - both outcomes are right


def test_every_captured_config_is_read():
    data = os.environ.get("HOMENODE_DATA")
    if not data:
        pytest.skip("HOMENODE_DATA does not name a folder of captures")
    paths = sorted(Path(data).glob("xen-captures/*/guests/*.cfg"))
    assert paths
    for path in paths:
        config = GuestConfig.parse(path.read_text(encoding="utf-8"), source=str(path))
        assert config.string("name") == path.stem


@pytest.mark.parametrize(
    "text", ["{}", "{} = 1 1", "a = {}", "{} = b", 'a = "{}" 1', "{}+", "a = [{}"]
)
def test_a_complaint_is_short_however_long_the_names_are(text):
    with pytest.raises(ParseError) as caught:
        read(text.format("n" * 50_000))
    assert len(str(caught.value)) < 300
