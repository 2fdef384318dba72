"""How Sphinx makes the book and the manual pages (``make docs``, ``make man``)."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))
sys.path.insert(0, str(HERE.parent / "src"))

from homenode import __version__  # noqa: E402 - from this tree
from homenode.cli.main import VERBS  # noqa: E402 - the same

project = "homenode"
author = "the authors of homenode"
copyright = "the authors of homenode; Apache-2.0"  # noqa: A001 - Sphinx's name
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.apidoc", "manual"]
exclude_patterns = ["extensions", "api/modules.rst"]
highlight_language = "none"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"homenode {__version__}"
html_static_path = ["static"]
html_css_files = ["book.css"]
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f6f54", "color-brand-content": "#1f6f54"},
    "dark_css_variables": {"color-brand-primary": "#7fd1b0", "color-brand-content": "#7fd1b0"},
}

# Types of the same name in two rooms are told apart by their modules, which signatures leave out.
suppress_warnings = ["ref.python"]

# The reference of the library: one page for each module, but for those of the command line, which
# has manual pages. In docstrings a word in single backticks is code.
default_role = "literal"
apidoc_modules = [
    {
        "path": HERE.parent / "src" / "homenode",
        "destination": "api",
        "exclude_patterns": ["**/cli/**"],
        "separate_modules": True,
        "max_depth": 1,
        "automodule_options": {"members", "show-inheritance"},
    }
]
autodoc_mock_imports = ["libvirt"]
autodoc_member_order = "bysource"

man_pages = [
    ("manual/homenode", "homenode", "place virtual machines on NUMA nodes", "", 1),
    *(
        (f"manual/homenode-{verb}", f"homenode-{verb}", purpose.replace(";", ","), "", 1)
        for verb, purpose in VERBS.items()
    ),
    ("manual/homenode.toml", "homenode.toml", "settings of homenode", "", 5),
    ("manual/homenode-numa", "homenode-numa", "the words and ideas of NUMA placement", "", 7),
]
man_show_urls = True

if tags.has("manual"):  # noqa: F821 - Sphinx's: the manual pages alone
    include_patterns = ["manual/*"]
    root_doc = "manual/README"
    apidoc_modules = []
