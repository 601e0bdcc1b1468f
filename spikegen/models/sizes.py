"""The rule that every size in a configuration follows, so that a hostile one is refused before anything is built."""

from __future__ import annotations


def is_size(value: object, limit: int) -> bool:
    """Whether ``value`` is a whole number in 1 .. ``limit``."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= limit
