from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homenode.errors import ParseError
from homenode.formats import xml_tree


def refused(text):
    with pytest.raises(ParseError) as caught:
        xml_tree.parse(text, source="a.xml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_document_becomes_elements_with_their_attributes_and_texts():
    root = xml_tree.parse("<?xml version='1.0'?><a b='1'>&lt;x&#228;<c/>y</a>", source="a.xml")
    assert (root.tag, root.get("b"), root.text) == ("a", "1", "<xä")
    assert [(child.tag, child.tail) for child in root] == [("c", "y")]


def test_a_named_document_type_is_not_looked_at():
    text = '<!DOCTYPE topology SYSTEM "file:///etc/passwd"><topology/>'
    assert xml_tree.parse(text, source="a.xml").tag == "topology"


@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY laugh "ha">',
        '<!ENTITY file SYSTEM "file:///etc/passwd">',
        '<!ENTITY % more SYSTEM "http://127.0.0.1/more.dtd"> %more;',
    ],
)
def test_entities_are_refused(declared):
    assert "entities" in refused(f"<!DOCTYPE a [{declared}]><a>&laugh;</a>")


def test_laughter_does_not_multiply():
    nested = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    assert "entities" in refused(f'<!DOCTYPE a [<!ENTITY l0 "ha">{nested}]><a>&l9;</a>')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no element found"),
        ("<a>", "no element found"),
        ("<a></b>", "mismatched tag"),
        ("<a/>x", "junk after document element"),
        ("<a>\n&nothing;</a>", "a.xml:2: is not XML: undefined entity"),
        ("<a>\ud800</a>", "half a character"),
        ("<a>" * 300 + "</a>" * 300, "deep"),
        ("<a " + " ".join(f"b{n}='1'" for n in range(300)) + "/>", "attributes"),
    ],
)
def test_what_is_malformed_or_too_much_is_one_line(text, said):
    assert said in refused(text)


def test_too_many_elements_are_refused_before_they_fill_the_memory(monkeypatch):
    monkeypatch.setattr(xml_tree, "MOST_ELEMENTS", 1000)
    assert "elements" in refused(f"<a>{'<b/>' * 1000}</a>")


def test_a_declared_encoding_changes_nothing():
    root = xml_tree.parse("<?xml version='1.0' encoding='ISO-8859-1'?><a>ä€</a>", source="a.xml")
    assert root.text == "ä€"


@given(st.text(alphabet="<>/&;!?a='\"[]-x \n", max_size=60))
def test_no_text_ends_in_a_traceback(text):
    with suppress(ParseError):
        xml_tree.parse(text, source="a.xml")
