"""What the documents show, run: ``make docs``; ``tests/book.py`` tells how they are written."""

import pytest

import book


@pytest.mark.parametrize("page", book.parts("here"), ids=lambda page: page.path.stem)
def test_commands_print_what_the_page_shows(page, tmp_path):
    came = book.run_here(page, tmp_path)
    assert not (found := book.differences(page, came)), "\n\n".join(found)
