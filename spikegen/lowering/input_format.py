"""How the host quantises what a network reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from spikegen.errors import LoweringError
from spikegen.lowering.graph import Shape
from spikegen.program import Input


@dataclass(frozen=True)
class InputFormat:
    """Quantisation of the input.

    Attributes:
        bits: magnitude bits of a message (0: binary).
        largest: the largest real value they hold.
        low, high: range of the messages of each channel; empty: all that ``bits`` can hold. The narrower it is, the
            finer the weights behind the port may be without any risk of overflow.
        streamed: whether every timestep has a frame of its own.
    """

    bits: int = 7
    largest: float = 4.0
    low: tuple[int, ...] = ()
    high: tuple[int, ...] = ()
    streamed: bool = False

    @classmethod
    def integers(cls, low: Sequence[int], high: Sequence[int]) -> InputFormat:
        """Integers, sent as they are: channel c holds ``low[c]`` .. ``high[c]``, both included."""
        bits = max(1, max(abs(int(bound)) for bound in (*low, *high)).bit_length())
        return cls(bits, float((1 << bits) - 1), tuple(map(int, low)), tuple(map(int, high)))

    @property
    def scale(self) -> float:
        """Real value of one unit of message."""
        return self.largest / max(1, (1 << self.bits) - 1)

    def port(self, shape: Shape) -> Input:
        """The input port, for inputs of ``shape``.

        Raises:
            LoweringError: there are ranges, but not one for each channel.
        """
        for title, bounds in (("low", self.low), ("high", self.high)):
            if bounds and len(bounds) != shape[0]:
                raise LoweringError(
                    f"input: InputFormat.{title} has {len(bounds)} values, the input {shape[0]} channels; give one each"
                )
        return Input("input", shape, self.bits, self.scale, self.low, self.high, self.streamed)  # type: ignore[arg-type]
