"""The engine on torch: spikes as bytes, convolutions on the machine's integer units, exact float32 around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from spikegen.errors import ConfigError
from spikegen.program import Conv, Input, Lif, Program, Projection, Readout, Relay, overflow_risks
from spikegen.program.ir import Node, Population
from spikegen.program.numerics import STATE_SHIFT
from spikegen.simulator.delays import late
from spikegen.simulator.engine import Messages, Pass
from spikegen.simulator.kernels import EXACT_FLOAT32, KERNELS, Kernel
from spikegen.simulator.neurons import COMPILED, CompiledFire, Fire, Neurons, fire_by_torch
from spikegen.simulator.numpy_engine import population_messages
from spikegen.simulator.parts import Part, parts
from spikegen.simulator.selection import Choice, Selection

_TYPICAL_IMAGES = 16  # of a call when kernels are measured
_CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}  # of currents at a time: what a last-level cache keeps


class _Feed(NamedTuple):
    """One projection into a population: its parts with their kernels, and its gains (T, 1, 1, 1) or None."""

    projection: Projection
    parts: Sequence[tuple[Part, Kernel]]
    gains: Tensor | None


class TorchEngine:
    """Populations whose sums float32 provably holds run on torch, all others as in the numpy engine.

    Messages are kept as (n, T, H, W, C), or (n, 1, H, W, C) where they are the same at every timestep: bytes for
    spikes, float32 for graded messages. A population is computed for a few images at a time, so that its currents stay
    in the cache between the convolution and the neurons.

    Args:
        program: a valid Program.
        device: a torch device.
        kernels: keys of :data:`spikegen.simulator.kernels.KERNELS` to choose among.
        compiled: compute neurons in compiled code where that is possible.

    Raises:
        ConfigError: an unknown kernel or a device that is not there.
        BackendError: no kernel is exact for a projection.
    """

    def __init__(
        self, program: Program, device: str = "cpu", kernels: Sequence[str] = (), *, compiled: bool = COMPILED
    ) -> None:
        self.program = program
        self.device = _device(device)
        unknown = [name for name in kernels if name not in KERNELS]
        if unknown:
            raise ConfigError(f"kernel {unknown[0]!r} is unknown; there are {', '.join(KERNELS)}")
        # A convolution on CUDA may use a transform (cuDNN's Winograd and FFT), which rounds.
        names = kernels or (("int8", "float32") if self.device.type == "cpu" else ("matmul",))
        # Where a horizontal stride leads to a single column, oneDNN (of torch 2.3) is wrong, and found not to be exact.
        self._selection = Selection(names, self.device, () if kernels else ("matmul",))
        self._risky = frozenset(line.split(": ")[0] for line in overflow_risks(program))
        self._fire: Fire = fire_by_torch
        if compiled and self.device.type == "cpu":
            self._fire = CompiledFire(torch.get_num_threads())
        self._last = _last_uses(program)
        self.choices: dict[str, tuple[Choice, ...]] = {}  # projection -> the kernels of its parts
        self._feeds = {p.name: self._prepare(p) for p in program.populations}

    def run(self, frames: Messages, step: int, record: bool) -> Pass:
        """See :meth:`spikegen.simulator.engine.Engine.run`."""
        with torch.inference_mode():
            return self._run(frames, step, record)

    def _run(self, frames: Messages, step: int, record: bool) -> Pass:
        program = self.program
        port = program.input
        streamed = frames if port.streamed else frames[:, None]
        dtype = torch.float32 if program.message_bits(port.name) else torch.uint8
        live = {port.name: torch.from_numpy(streamed.transpose(0, 1, 3, 4, 2).copy()).to(self.device, dtype)}
        events = {port.name: self._events(live[port.name])}
        readouts, messages = {}, {}
        if record:
            messages[port.name] = self._to_numpy(live[port.name])
        for population in program.populations:
            found, fired = self._population(population, live, len(frames), step)
            if fired is None:
                readouts[population.name] = self._to_numpy(found)
            else:
                live[population.name], events[population.name] = found, fired
                if record:
                    messages[population.name] = self._to_numpy(found)
            for name in self._last.get(population.name, ()):
                del live[name]
        counted = {name: value.to(torch.int64).permute(2, 0, 1).cpu().numpy() for name, value in events.items()}
        return Pass(readouts, counted, messages)

    def _population(
        self, population: Population, live: Mapping[str, Tensor], images: int, step: int
    ) -> tuple[Tensor, Tensor | None]:
        """Messages (or currents of a readout) of one population, and its events (H, W, C) unless it is a readout."""
        channels, height, width = population.shape
        feeds = self._feeds[population.name]
        if feeds is None:  # float32 may not hold its sums
            made = population_messages(
                self.program, population, lambda name: self._to_numpy(live[name]), images, step
            ).transpose(0, 1, 3, 4, 2)
            dtype = torch.uint8 if isinstance(population, Lif) else torch.float32
            found = torch.from_numpy(np.ascontiguousarray(made)).to(self.device)
            found = found if isinstance(population, Readout) else found.to(dtype)
            return found, None if isinstance(population, Readout) else self._events(found)
        if isinstance(population, Lif):
            fired = torch.zeros((height, width, channels), dtype=torch.int32, device=self.device)
            bias = -self._tensor((self.program.bias_mant(population, step) << population.bias_exp).astype(np.float32))
            shape = (images, self.program.timesteps, height, width, channels)
            spikes = torch.empty(shape, dtype=torch.uint8, device=self.device)
            for chunk in self._chunks(population, images):
                charge = self._current(population, feeds, live, chunk)
                self._fire(Neurons.of(population), charge, bias, spikes[chunk], fired)
            if population.delays.size:
                spikes = late(spikes, population.delays.transpose(1, 2, 0), time=1)
                return spikes, self._events(spikes)  # what is late for the last timestep is none
            return spikes, fired
        currents = []
        counted = torch.zeros((height, width, channels), dtype=torch.int64, device=self.device)
        for chunk in self._chunks(population, images):
            currents.append(self._current(population, feeds, live, chunk))
            if not isinstance(population, Readout):
                counted += self._events(currents[-1])
        found = torch.cat(currents) if len(currents) > 1 else currents[0]
        return found, None if isinstance(population, Readout) else counted

    def _current(
        self, population: Population, feeds: Sequence[_Feed], live: Mapping[str, Tensor], chunk: slice
    ) -> Tensor:
        """Sum of the currents of a few images in the units of the population: float32 (n, T or 1, H, W, C)."""
        channels, height, width = population.shape
        total: Tensor | None = None
        for feed in feeds:
            sent = live[feed.projection.source][chunk]
            shape = (*sent.shape[:2], height, width, channels)
            if feed.gains is None and total is not None and total.shape == shape:
                self._deliver(population, feed, sent, total)
                continue
            found = self._deliver(population, feed, sent)
            if feed.gains is not None:
                found = found * feed.gains
            if total is None:
                total = found
            elif total.shape[1] < found.shape[1]:  # what came before is the same at every timestep
                total = found.add_(total)
            else:
                total += found
        if total is None:  # a clock hears nothing
            total = torch.zeros((chunk.stop - chunk.start, 1, height, width, channels), device=self.device)
        return total

    def _deliver(self, population: Population, feed: _Feed, sent: Tensor, into: Tensor | None = None) -> Tensor:
        """Currents of one projection without its gains, added to ``into`` if there is one."""
        channels, height, width = population.shape
        r = feed.projection.shuffle if isinstance(feed.projection, Conv) else 1
        depth, *size = feed.parts[0][0].convolution.size
        messages = sent.reshape(-1, *size, depth).permute(0, 3, 1, 2)
        shape = (*sent.shape[:2], height, width, channels)
        if r == 1:
            ((part, kernel),) = feed.parts
            depth, *size = part.convolution.outputs
            flat = None if into is None else into.view(-1, *size, depth).permute(0, 3, 1, 2)
            return kernel(messages, flat).permute(0, 2, 3, 1).reshape(shape)
        result = torch.empty(shape, device=self.device) if into is None else into
        pixels = result.view(-1, height // r, r, width // r, r, channels)
        for part, kernel in feed.parts:
            (a, b), (y, x) = part.phase, part.corner
            found = kernel(messages).permute(0, 2, 3, 1)[:, y : y + height // r, x : x + width // r]
            place = pixels[:, :, a, :, b]
            if into is None:
                place.copy_(found)
            else:
                place += found
        return result

    def _chunks(self, population: Population, images: int) -> Iterator[slice]:
        size = self._images_at_once(population)
        for start in range(0, images, size):
            yield slice(start, min(start + size, images))

    def _images_at_once(self, population: Population) -> int:
        currents = 4 * self.program.timesteps * int(np.prod(population.shape))
        return max(1, _CHUNK_BYTES[self.device.type] // currents)

    def _events(self, messages: Tensor) -> Tensor:
        """Nonzero messages of each neuron, (H, W, C)."""
        repeats = self.program.timesteps // messages.shape[1]
        nonzero = messages.flatten(0, 1).ne(0)
        return nonzero.float().sum(dim=0).to(torch.int64) * repeats  # float32 adds up faster, and counts to 2^24

    def _to_numpy(self, messages: Tensor) -> Messages:
        """int32 [n, T, C, H, W]."""
        found = messages.permute(0, 1, 4, 2, 3).to(torch.int32).cpu().numpy()
        shape = (len(found), self.program.timesteps, *found.shape[2:])
        return np.ascontiguousarray(np.broadcast_to(found, shape))

    def _tensor(self, values: npt.NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).to(self.device)

    def _prepare(self, population: Population) -> list[_Feed] | None:
        """The feeds of ``population``, or None where float32 may not hold its sums."""
        program = self.program
        into = program.into(population.name)
        if population.name in self._risky:
            return None
        smallest = min((p.exponent for p in into), default=0)
        if sum(_reach(program, p) << p.exponent for p in into) >> smallest >= EXACT_FLOAT32:
            return None
        unit = -float(1 << STATE_SHIFT) if isinstance(population, Lif) else 1.0
        feeds = [self._feed(p, population, unit) for p in into]
        return feeds if all(feed.parts for feed in feeds) else None

    def _feed(self, projection: Projection, population: Population, unit: float) -> _Feed:
        source = self.program.nodes[projection.source]
        spikes = self.program.message_bits(source.name) == 0
        frames = self.program.timesteps * min(_TYPICAL_IMAGES, self._images_at_once(population))
        made = []
        choices = []
        for part in parts(projection, source.shape, population.shape):
            conv = part.convolution
            if isinstance(projection, Conv) and projection.is_copy:
                choice = Choice("copy", {}, frames, conv.macs)
            else:
                choice = self._selection.choose(conv, frames, spikes=spikes, reach=_largest(source))
            made.append((part, KERNELS[choice.kernel](conv, unit * float(1 << projection.exponent))))
            choices.append(choice)
        self.choices[projection.name] = tuple(choices)
        gains = self._tensor(projection.gains.astype(np.float32)) if projection.gains.size else None
        return _Feed(projection, made, None if gains is None else gains[:, None, None, None])


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device {name!r} is unknown: cpu, cuda or cuda:0") from error
    if device.type not in _CHUNK_BYTES:
        raise ConfigError(f"device is {name!r}, it must be cpu or cuda")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device is {name!r}, but torch {torch.__version__} sees no CUDA device here")
    return device


def _largest(source: Node) -> int:
    """Largest magnitude of the messages of ``source``."""
    if isinstance(source, Input):
        return max(1, -int(source.low.min()), int(source.high.max()))
    return (1 << source.bits) - 1 if isinstance(source, Relay) else 1


def _reach(program: Program, projection: Projection) -> int:
    """What no partial sum of ``projection`` can exceed, in mantissas, gains included."""
    synapses = np.abs(projection.weight.astype(np.int64)).reshape(len(projection.weight), -1).sum(axis=1).max()
    gain = int(np.abs(projection.gains.astype(np.int64)).max()) if projection.gains.size else 1
    return int(synapses) * _largest(program.nodes[projection.source]) * max(1, gain)


def _last_uses(program: Program) -> dict[str, list[str]]:
    """Population -> nodes that nothing needs after it."""
    last = {p.source: p.target for p in sorted(program.projections, key=lambda p: list(program.nodes).index(p.target))}
    uses: dict[str, list[str]] = {}
    for name, node in program.nodes.items():
        if not isinstance(node, Readout):
            uses.setdefault(last.get(name, name), []).append(name)
    return uses
