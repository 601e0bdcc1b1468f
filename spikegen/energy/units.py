"""Numbers as people read them."""

from __future__ import annotations

import math

_SMALL = ("p", "n", "µ", "m", "")  # prefixes of joules, from picojoules up
_LARGE = ("", " k", " M", " G", " T", " P")


def joules(picojoules: float) -> str:
    """An energy with a readable prefix: 1234.5 pJ is ``1.23 nJ``."""
    index = 0 if picojoules <= 0 else min(max(int(math.log10(picojoules) // 3), 0), len(_SMALL) - 1)
    return f"{picojoules / 1000**index:.3g} {_SMALL[index]}J"


def joules_range(low: float, high: float) -> str:
    """Both ends of a range of energies [pJ], or one if they read the same: ``5.36 to 5.43 mJ``."""
    return _both(joules(low), joules(high))


def count(number: float) -> str:
    """A count in full; means below 100 with three digits."""
    return f"{number:,.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


def compact(number: float) -> str:
    """A count with three digits and a prefix: 11080526 is ``11.1 M``."""
    index = 0
    while abs(number) >= 999.5 and index < len(_LARGE) - 1:
        number /= 1000
        index += 1
    return f"{number:.3g}{_LARGE[index]}"


def seconds(nanoseconds: float) -> str:
    """A time with a readable prefix: 120300 ns is ``120 µs``."""
    index = 0 if nanoseconds <= 0 else min(max(int(math.log10(nanoseconds) // 3), 0), len(_SMALL) - 2)
    return f"{nanoseconds / 1000**index:.3g} {_SMALL[1 + index]}s"


def seconds_range(low: float, high: float) -> str:
    """Both ends of a range of times [ns], or one if they read the same: ``5.36 to 5.43 ms``."""
    return _both(seconds(low), seconds(high))


def _both(low: str, high: str) -> str:
    (first, unit), (last, other) = low.split(), high.split()
    if unit != other:
        return f"{first} {unit} to {last} {other}"
    return f"{last} {unit}" if first == last else f"{first} to {last} {unit}"
