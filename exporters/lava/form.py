"""The forms in which a Program can be built on Lava. No Lava here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from json import dumps, loads

from spikegen.errors import ConfigError

MODELS = ("fused", "unrolled", "chip")
SYNAPSES = ("fast-conv", "sparse", "conv")  # of the unrolled model; the first is the default
CHIP_SYNAPSES = ("conv", "sparse")  # of the chip's model; the first is the default


@dataclass(frozen=True)
class Form:
    """One form.

    Attributes:
        model: process model of the network, one of :data:`MODELS`.
        synapses: how projections are held, "" for the fused model.
        hardware: whether the chip's model runs on Loihi 2, else on the CPU.
        observed: whether the chip's model hands the messages of every node to the host.
        lead: steps that adapters of the chip take to the chip.
        lag: the same to the host.
    """

    model: str
    synapses: str = ""
    hardware: bool = field(default=False, kw_only=True)
    observed: bool = field(default=True, kw_only=True)
    lead: int = field(default=0, kw_only=True)
    lag: int = field(default=0, kw_only=True)

    @staticmethod
    def choose(model: str, synapses: str | None) -> Form:
        """``model`` on the CPU with ``synapses``, None for its default.

        Raises:
            ConfigError: a name is unknown.
        """
        if model not in MODELS:
            raise ConfigError(f"model is {model!r}, it must be one of {', '.join(MODELS)}")
        known = {"fused": (), "unrolled": SYNAPSES, "chip": CHIP_SYNAPSES}[model]
        if synapses is not None and synapses not in known:
            which = f"one of {', '.join(known)}" if known else "none for the fused model"
            raise ConfigError(f"synapses is {synapses!r}, it must be {which}")
        return Form(model, synapses or (known[0] if known else ""))

    def text(self) -> str:
        """This as one argument of a command line."""
        return dumps(asdict(self))

    @staticmethod
    def parse(text: str) -> Form:
        """What :meth:`text` gave."""
        return Form(**loads(text))
