"""What the documents show can be run, and is whole; `tests/pages` runs it."""

import pytest

import book
from homenode.cli.main import VERBS


@pytest.mark.parametrize("path", book.PAGES, ids=lambda path: path.stem)
def test_no_command_is_shown_where_it_is_not_run(path):
    assert book.read(path).astray == (), "write these lines as a fence of console"


def test_reasons_for_not_running_are_stated():
    reasons = [reason for path in book.PAGES for _, reason in book.read(path).skipped]
    assert all(len(reason.split()) > 2 for reason in reasons)


def test_the_page_on_the_architecture_names_every_room():
    page = (book.ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    source = book.ROOT / "src" / "homenode"
    rooms = {f"`{path.name}`" for path in source.glob("[a-z]*.py")}
    rooms |= {f"`{path.parent.name}/`" for path in source.glob("*/__init__.py")}
    assert {room for room in rooms if room not in page} == set()


def test_every_verb_has_a_manual_page():
    pages = (book.ROOT / "docs" / "manual").glob("homenode-*.md")
    assert {page.stem.removeprefix("homenode-") for page in pages} == {*VERBS, "numa"}


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        (("a", "..."), ["a", "b", "c"], True),
        (("a",), ["a", "b"], False),
        (("a ... c",), ["a b c"], True),
        (("a.c",), ["abc"], False),
        (("...", "b"), ["b"], True),
        ((), ["a"], False),
    ],
)
def test_an_output_is_compared(shown, output, same):
    assert book.matches(shown, output) is same
