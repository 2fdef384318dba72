"""Every command of the documents that are about a real Xen does what they show."""

import pytest

import book


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.xen(page.place[1]), id=page.path.stem)
        for page in book.parts("xen")
    ],
)
def test_commands_print_what_the_page_shows(page, lab):
    came = book.run_in_lab(page, lab)
    assert not (found := book.differences(page, came)), "\n\n".join(found)
