"""Edits in XML that leave the rest byte for byte: quotes, blanks, line ends, comments."""

import pytest

from homenode.formats.xml_edit import New, XmlEdits
from homenode.formats.xml_tree import document

TEXT = """<?xml version='1.0' encoding="utf-8"?>
<!-- ü -->
<a   b='1'   c = "2 > 1" >
   <d/><!-- stays -->
   <e  x='&lt;' />  <!-- with e -->
   <f>
   </f>
</a>
<!-- end -->
"""


def edits(text):
    found = document(text, source="a.xml")
    return XmlEdits(text, found), found.root


def test_the_places_of_elements_are_found_whatever_stands_between_them():
    text = "<a b='>/>'><!-- ü <x> -->\n<c/>é<d></d><e>/></e><f \n y = \"1\" /><g><h/></g></a >"
    found, written = document(text, source="a.xml"), text.encode()
    parts = {
        element.tag: [
            written[start:end].decode() for start, end in (place[1:3], place[2:4], place[3:5])
        ]
        for element, place in found.places.items()
    }
    assert parts.pop("a")[::2] == ["<a b='>/>'>", "</a >"]
    assert parts == {
        "c": ["<c/>", "", ""],
        "d": ["<d>", "", "</d>"],
        "e": ["<e>", "/>", "</e>"],
        "f": ['<f \n y = "1" />', "", ""],
        "g": ["<g>", "<h/>", "</g>"],
        "h": ["<h/>", "", ""],
    }
    assert [place.line for place in found.places.values()] == [2, 2, 2, 2, 3, 3, 1]


def test_nothing_changed_is_the_same_text():
    made, root = edits(TEXT)
    made.set_attributes(root, {"b": "1", "z": None})
    assert made.edited() == TEXT


def test_attributes_are_changed_added_and_removed_in_their_places():
    made, root = edits(TEXT)
    made.set_attributes(root, {"b": None, "c": "3", "g": "4"})
    assert made.edited() == TEXT.replace(
        """<a   b='1'   c = "2 > 1" >""", """<a   c = "3" g='4' >"""
    )


@pytest.mark.parametrize(
    ("tag", "after"),
    [("<x/>", "<x y='1'/>"), ("<x />", "<x y='1' />"), ("<x></x>", "<x y='1'></x>")],
)
def test_an_attribute_is_added_to_a_tag_without_any(tag, after):
    made, root = edits(f"<a b='1'>{tag}</a>")
    made.set_attributes(root[0], {"y": "1"})
    assert made.edited() == f"<a b='1'>{after}</a>"


def test_an_element_is_put_after_another_and_after_its_comment():
    made, root = edits(TEXT)
    made.add(root, [New("n", {"k": "v"}, (New("o", {}, text="7"),))], after=root[1])
    new = "   <n k='v'>\n      <o>7</o>\n   </n>\n"
    assert made.edited() == TEXT.replace("<!-- with e -->\n", f"<!-- with e -->\n{new}")


def test_an_element_is_put_before_another_or_at_the_end():
    made, root = edits(TEXT)
    made.add(root, [New("n", {})], before=root[0])
    made.add(root, [New("m", {}), New("o", {})])
    assert made.edited() == TEXT.replace("   <d/>", "   <n/>\n   <d/>").replace(
        "   </f>\n", "   </f>\n   <m/>\n   <o/>\n"
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<f/>", "<f>\n    <n/>\n  </f>"),
        ("<f />", "<f>\n    <n/>\n  </f>"),
        ("<f g='1'/>", "<f g='1'>\n    <n/>\n  </f>"),
        ("<f></f>", "<f>\n    <n/>\n  </f>"),
        ("<f>\n  </f>", "<f>\n    <n/>\n  </f>"),
        ("<f>\n    <!-- c -->\n  </f>", "<f>\n    <!-- c -->\n    <n/>\n  </f>"),
    ],
)
def test_an_element_is_put_into_one_that_has_none(before, after):
    made, root = edits(f"<a>\n  {before}\n</a>\n")
    made.add(root[0], [New("n", {})])
    assert made.edited() == f"<a>\n  {after}\n</a>\n"


def test_an_element_goes_with_its_line_and_from_a_line_of_others_alone():
    made, root = edits("<a>\n  <b/>\n  <c/><d/>\n  <e/>\n</a>")
    made.remove(root[0])
    made.remove(root[2])
    assert made.edited() == "<a>\n  <c/>\n  <e/>\n</a>"


def test_line_ends_are_those_of_the_text():
    made, root = edits("<a>\r\n\t<b/>\r\n\t<c/>\r\n</a>\r\n")
    made.remove(root[1])
    made.add(root, [New("n", {}, (New("o", {}),))], after=root[0])
    assert made.edited() == "<a>\r\n\t<b/>\r\n\t<n>\r\n\t\t<o/>\r\n\t</n>\r\n</a>\r\n"


def test_what_stands_in_one_line_stays_in_one_line():
    made, root = edits("<a><b/></a>")
    made.add(root, [New("n", {"x": "1"}, (New("o", {}),))])
    assert made.edited() == '<a><b/><n x="1"><o/></n></a>'


def test_text_after_an_empty_element_is_no_attribute_of_it():
    made, root = edits("<a><b />c='1'/></a>")
    made.set_attributes(root[0], {"d": "2"})
    assert made.edited() == "<a><b d=\"2\" />c='1'/></a>"


def test_a_long_line_of_many_elements_is_looked_at_once():
    # To look back to its beginning from each of them took minutes.
    line = "<b/>" * 100_000
    made, root = edits(f"<a>{line}</a>")
    made.add(root, [New("n", {})])
    assert made.edited() == f"<a>{line}<n/></a>"


def test_what_would_need_an_escape_is_a_mistake_of_ours():
    made, root = edits("<a/>")
    with pytest.raises(ValueError, match="escape"):
        made.set_attributes(root, {"b": "<"})
