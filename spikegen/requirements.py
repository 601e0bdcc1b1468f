"""Which Python has Lava, in the words of the errors that say so."""

from __future__ import annotations

import sys

LAVA_PYTHON = (3, 10)  # lava-nc 0.10.0 and lava-dl 0.6.0 declare >=3.10,<3.11


def how_to_get_lava(extra: str) -> str:
    """What to do where lava-nc or lava-dl is missing: one sentence, for this Python.

    Args:
        extra: the extra of spikegen that brings it, where there is one to bring.
    """
    if sys.version_info[:2] == LAVA_PYTHON:
        return f"pip install 'spikegen[{extra}]'"
    return (
        f"it exists for Python 3.10 only, and this is {sys.version_info[0]}.{sys.version_info[1]}: Lava is archived, "
        f"and needs numpy < 2 and torch 2.3. Install 'spikegen[{extra}]' with Python 3.10 for this; pipeline files "
        "made there are read, simulated and reported here"
    )
