"""Every command of the documents that are about a real Xen does what they show."""

import pytest

import book

OPTIONS = {
    "hvm": {"cpu": "max,-smap,-la57,-pku"},  # its Xen has pvh and hvm guests
    "full-dom0": {"dom0_mem": 3600},  # of the 4096 MiB of n4
}
"""What a word after the topology wants of the lab: ``runs on: xen n4 hvm``."""


def marked(page):
    """Return a page with the mark that names its lab."""
    topology, *words = page.place[1].split()
    options = {name: value for word in words for name, value in OPTIONS[word].items()}
    return pytest.param(page, marks=pytest.mark.xen(topology, **options), id=page.path.stem)


@pytest.mark.parametrize("page", [marked(page) for page in book.parts("xen")])
def test_commands_print_what_the_page_shows(page, lab):
    came = book.run_in_lab(page, lab)
    assert not (found := book.differences(page, came)), "\n\n".join(found)
