"""Configuration of Sphinx. Pages under _generated/ are written from the code before each build."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import tables  # noqa: E402 - its folder is put on the path above

import spikegen  # noqa: E402 - as above

project = "spikegen"
author = "spikegen contributors"
copyright = "2026, spikegen contributors"
release = version = spikegen.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "references"]
exclude_patterns = ["_build", "_generated/*_table.md", "_generated/*_tables.md", "_generated/support_matrix.md"]
html_theme = "furo"
html_title = f"spikegen {version}"
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # the docstrings give types with shapes and units
autodoc_inherit_docstrings = False  # torch's texts refer to torch's pages
napoleon_use_ivar = True

generated = HERE / "_generated"
generated.mkdir(exist_ok=True)
for name, page in tables.PAGES.items():
    (generated / name).write_text(page(), encoding="utf-8")
