"""SLAYER as a target: the neuron dynamics of lava-dl's own CUBA neuron on the Program's integer weights and biases."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikegen.models.neuron import import_cuba
from spikegen.program import Conv, Counts, Evaluation, Lif, Program, Projection, Readout, validate
from spikegen.program.counting import tap_rows
from spikegen.program.numerics import DECAY_UNITY, STATE_SHIFT
from spikegen.program.target import check_frames, streamed_frames


class SlayerTarget:
    """Evaluates a Program with torch convolutions and ``lava.lib.dl.slayer.neuron.cuba.Neuron`` at scale 1.

    At scale 1 SLAYER's state unit is Loihi's: it holds ``64 * v`` as an integer, with the same decays and truncation.
    It has neither the wrap of the current nor the saturation of the membrane, so it equals the other targets where
    :func:`~spikegen.program.overflow_risks` is empty. Nothing here is shared with the simulator's kernels.

    Raises:
        MissingPackageError: lava-dl is not installed.
    """

    def __init__(self, program: Program) -> None:
        validate(program)
        self.program = program
        self._cuba = import_cuba()
        from lava.lib.dl.slayer.utils.time import shift

        self._shift = shift

    def __enter__(self) -> SlayerTarget:
        return self

    def __exit__(self, *exception: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Nothing to free."""

    def evaluate(self, frames: npt.NDArray[np.int32], step: int, record: bool = False) -> Evaluation:
        """See :meth:`spikegen.program.Target.evaluate`."""
        program = self.program
        check_frames(program, frames, step)
        images = len(frames)
        sent: dict[str, Tensor] = {
            program.input.name: torch.from_numpy(streamed_frames(program, frames)).double().flatten(0, 1)
        }
        readouts = {}
        with torch.no_grad(), _float64():
            for population in program.populations:
                current = torch.zeros(images * program.timesteps, *population.shape, dtype=torch.float64)
                for projection in program.into(population.name):
                    current += _currents(projection, sent[projection.source]).reshape(current.shape)
                if isinstance(population, Lif):
                    sent[population.name] = self._spikes(population, current, step)
                elif isinstance(population, Readout):
                    readouts[population.name] = _integers(current, images)
                else:
                    sent[population.name] = current
        messages = {name: _integers(value, images) for name, value in sent.items()}
        taps = {
            name: tap_rows(program, name) @ np.count_nonzero(value, axis=(0, 1)).ravel()
            for name, value in messages.items()
        }
        return Evaluation(readouts, Counts.from_taps(program, images, taps), messages if record else {})

    def _spikes(self, population: Lif, current: Tensor, step: int) -> Tensor:
        """Spikes [N * T, C, H, W] of SLAYER's neuron for the summed current of the same shape."""
        bias = torch.from_numpy(self.program.bias_mant(population, step) << population.bias_exp).double()
        neuron = self._cuba.Neuron(
            threshold=population.vth,
            current_decay=(population.du + 1) / DECAY_UNITY,
            voltage_decay=population.dv / DECAY_UNITY,
            scale=1,
            # SLAYER adds what `norm` returns to the membrane after the current's decay, where Loihi adds its bias.
            norm=lambda: _Bias(bias / (1 << STATE_SHIFT)),
        ).double()
        time_last = current.unflatten(0, (-1, self.program.timesteps)).permute(0, 2, 3, 4, 1)
        spikes: Tensor = neuron(time_last)
        if population.delays.size:
            spikes = self._shift(spikes, torch.from_numpy(population.delays.astype(np.float64)))
        return spikes.permute(0, 4, 1, 2, 3).flatten(0, 1)


class _Bias(nn.Module):
    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, current: Tensor) -> Tensor:
        return current + self.bias[:, None, None, None]


@contextlib.contextmanager
def _float64() -> Iterator[None]:
    """SLAYER compares integers with a Python float, which torch does in the default dtype: 24 bits are too few."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _currents(projection: Projection, messages: Tensor) -> Tensor:
    """Currents of ``messages`` [N * T, C, H, W]; each is sent with its gain as the payload, which float64 holds."""
    weight = torch.from_numpy(projection.weight.astype(np.float64)) * (1 << projection.exponent)
    if projection.gains.size:
        gains = torch.from_numpy(projection.gains.astype(np.float64)).repeat(len(messages) // len(projection.gains))
        messages = messages * gains[:, None, None, None]
    if not isinstance(projection, Conv):
        return messages.flatten(1) @ weight.T
    currents = functional.conv2d(
        messages, weight, None, projection.stride, projection.padding, projection.dilation, projection.groups
    )
    return functional.pixel_shuffle(currents, projection.shuffle)


def _integers(value: Tensor, images: int) -> npt.NDArray[np.int32]:
    integers: npt.NDArray[np.int32] = value.numpy().astype(np.int32).reshape(images, -1, *value.shape[1:])
    return integers
