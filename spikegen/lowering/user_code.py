"""Errors inside code that is not of this package, with their place."""

from __future__ import annotations

import os
import sysconfig
import traceback

_INSTALLED = tuple(os.path.realpath(sysconfig.get_path(name)) for name in ("stdlib", "platlib", "purelib"))
_OWN = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))


def describe_error(error: BaseException) -> str:
    """``ValueError: text (net.py, line 12, in build)``: the innermost place in code that is not installed."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_users(frame.filename)]
    text = f"{type(error).__name__}: {error}".strip().rstrip(":")
    if isinstance(error, SyntaxError) and error.filename:
        return f"{type(error).__name__}: {error.msg} ({os.path.basename(error.filename)}, line {error.lineno})"
    if not frames:
        return text
    last = frames[-1]
    return f"{text} ({os.path.basename(last.filename)}, line {last.lineno}, in {last.name})"


def _is_users(filename: str) -> bool:
    path = os.path.realpath(filename)
    return not filename.startswith("<") and not path.startswith((*_INSTALLED, _OWN))
