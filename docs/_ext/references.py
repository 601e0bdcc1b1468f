"""Docstrings of ours, and references to Python objects that have no entry of their own in these pages.

The build is nitpicky: a reference to something that does not exist is an error. A reference to an object that does
exist, an internal of spikegen or a part of another library, is shown as code without a link.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from docutils import nodes

if TYPE_CHECKING:
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment


def exists(target: str) -> bool:
    """Whether ``target``, qualified or not, is an object of a module that is loaded."""
    parts = target.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = sys.modules.get(".".join(parts[:cut]))
        if module is not None and _has(module, parts[cut:]):
            return True
    ours = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "spikegen"]
    return any(_has(module, parts) for module in [*ours, sys.modules["builtins"]])


def _has(found: object, path: list[str]) -> bool:
    for name in path:
        if name in getattr(found, "__annotations__", {}):  # a field of a dataclass or of a protocol
            return True
        if not hasattr(found, name):
            return False
        found = getattr(found, name)
    return True


def resolve(
    _app: Sphinx, _env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.TextElement | None:
    """Accept a reference without a target if its object exists."""
    if node.get("refdomain") == "py" and exists(node["reftarget"]):
        return content
    return None


def split_names(_app: Sphinx, what: str, _name: str, _object: object, _options: object, lines: list[str]) -> None:
    """Prepare our docstrings for napoleon: ``a, b: text`` becomes two entries; a colon in a property is no type."""
    if what in ("property", "attribute") and lines:
        lines[0] = lines[0].replace(": ", " - ", 1)
    result: list[str] = []
    index = 0
    while index < len(lines):
        entry = [lines[index]]
        names = re.fullmatch(r"( {4})(\w+(?:, \w+)+)(: .*)", lines[index])
        index += 1
        if names is None:
            result += entry
            continue
        while index < len(lines) and lines[index].startswith(" " * 8):
            entry.append(lines[index])
            index += 1
        for name in names[2].split(", "):
            result += [f"{names[1]}{name}{names[3]}", *entry[1:]]
    lines[:] = result


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", split_names, priority=400)  # napoleon has 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
