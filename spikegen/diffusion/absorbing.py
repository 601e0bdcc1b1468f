"""Absorbing-state diffusion of tokens (D3PM, Austin et al. 2021, arXiv 2107.03006), as in Spiking-Diffusion.

The forward process masks each site independently; at diffusion step t of T_d a site is masked with probability t / T_d
(the absorbing state with beta_t = 1 / (T_d - t + 1) of arXiv 2107.03006, section 3). Hence a site that is masked at t
is still masked at s < t with probability s / t, and the network predicts what it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from spikegen.diffusion.schedule import FloatArray
from spikegen.diffusion.solver import NoiseSource
from spikegen.errors import ConfigError
from spikegen.program import Pipeline, TokenDiffusion
from spikegen.program.ir import Shape

Tokens = npt.NDArray[np.int64]


class Absorbing:
    """Ancestral sampling from all masks to all tokens.

    Token K is the mask. At timestep t, followed by s (0 after the last), each masked site is revealed with probability
    ``(t - s) / t``; its value is drawn from ``softmax(logits / temperature)``. A site that was revealed stays.

    Args:
        codes: K, number of tokens, at least 1.
        train_steps: T_d, number of diffusion steps the network was trained with, at least 1.
        temperature: > 0; towards 0 the most probable token is taken.

    Attributes:
        timesteps: int64, descending from T_d; all of T_d .. 1 until :meth:`set_timesteps` is called.

    Raises:
        ConfigError: a number is out of range.
    """

    remembers = False
    records_samples = True

    def __init__(self, codes: int, train_steps: int, temperature: float = 1.0) -> None:
        if codes < 1 or train_steps < 1:
            raise ConfigError(f"there are {codes} tokens and {train_steps} diffusion steps, both must be at least 1")
        if not (math.isfinite(temperature) and temperature > 0.0):
            raise ConfigError(f"temperature is {temperature}, it must be positive and finite")
        self.codes = codes
        self.train_steps = train_steps
        self.temperature = float(temperature)
        self.set_timesteps(train_steps)

    def set_timesteps(self, steps: int) -> None:
        """Choose ``steps`` timesteps, evenly spread: ``T_d * (S - i) / S``, i = 0 .. S - 1, rounded half up.

        Raises:
            ConfigError: ``steps`` is not in 1 .. T_d.
        """
        if steps > self.train_steps:
            raise ConfigError(f"{steps} steps are more steps than the {self.train_steps} diffusion steps (T_d)")
        if steps < 1:
            raise ConfigError(f"number of solver steps is {steps}, it must lie in 1..{self.train_steps}")
        left = np.arange(steps, 0, -1, dtype=np.int64)
        self.timesteps: npt.NDArray[np.int64] = (2 * self.train_steps * left + steps) // (2 * steps)

    def check(self, pipeline: Pipeline) -> None:
        """See :meth:`Solver.check <spikegen.diffusion.solver.Solver.check>`: kind, tokens and steps.

        Raises:
            ConfigError: another kind of pipeline, other tokens or diffusion steps, or more steps than sites.
        """
        host = pipeline.host
        if not isinstance(host, TokenDiffusion):
            raise ConfigError(
                f"{type(self).__name__} samples tokens of a TokenDiffusion; {pipeline.name} is {type(host).__name__}"
            )
        if len(host.codebook) != self.codes:
            raise ConfigError(
                f"the solver has {self.codes} tokens, the codebook of {pipeline.name} {len(host.codebook)}"
            )
        if host.steps != self.train_steps:
            raise ConfigError(
                f"the solver has {self.train_steps} diffusion steps, {pipeline.name} was made for {host.steps}"
            )
        self._check_grid(pipeline.network("denoiser").input.shape)

    def _check_grid(self, shape: Shape) -> None:
        if shape[0] != 2:
            raise ConfigError(f"the network's input has shape {shape}, it must have 2 channels (token, timestep)")
        sites, steps = shape[1] * shape[2], len(self.timesteps)
        if steps > sites:
            raise ConfigError(f"{steps} steps are more steps than the {sites} sites of the grid; use at most {sites}")

    def initial_sample(self, images: int, shape: Shape, source: NoiseSource) -> Tokens:  # noqa: ARG002 (the contract)
        """All masks: int64 [N, h, w] full of K.

        Raises:
            ConfigError: the network does not have two input channels, or the grid fewer sites than there are steps.
        """
        self._check_grid(shape)
        return np.full((images, *shape[1:]), self.codes, dtype=np.int64)

    def check_sample(self, sample: Tokens) -> None:
        """ConfigError unless all tokens lie in 0 .. K."""
        outside = np.argwhere((sample < 0) | (sample > self.codes))
        if len(outside):
            image, *site = outside[0].tolist()
            token = sample[tuple(outside[0])]
            raise ConfigError(f"token {token} at image {image}, site {tuple(site)}: allowed are 0..{self.codes}")

    def model_input(self, sample: Tokens, t: int) -> FloatArray:
        """Float64 [N, 2, h, w]: the tokens, and ``t`` at every site."""
        self.check_sample(sample)
        return np.stack([sample, np.full_like(sample, t)], axis=1, dtype=np.float64)

    def condition(self, t: int) -> int:  # noqa: ARG002 (the contract)
        """Always 0: the network sees the timestep in its input."""
        return 0

    def advance(self, output: FloatArray, t: int, sample: Tokens, source: NoiseSource) -> Tokens:
        """See :meth:`Solver.advance <spikegen.diffusion.solver.Solver.advance>`; ``output``: logits [N, K, h, w]."""
        return self.step(output, t, sample, source.uniform((len(sample), 2, *sample.shape[1:])))

    def reveal_probability(self, t: int) -> float:
        """``(t - s) / t`` for the timestep ``s`` that follows ``t``, 1 at the last one.

        With all T_d timesteps this is 1 / t (Spiking-Diffusion, arXiv 2308.10187).
        """
        places = np.flatnonzero(self.timesteps == t)
        if len(places) != 1:
            raise ConfigError(f"timestep {t} is not one of the {len(self.timesteps)} that set_timesteps chose")
        following = int([*self.timesteps, 0][int(places[0]) + 1])
        return (t - following) / t

    def step(self, logits: FloatArray, t: int, sample: Tokens, uniform: FloatArray) -> Tokens:
        """From the tokens at timestep ``t`` to those at the timestep that follows it.

        Args:
            logits: float64 [N, K, h, w].
            t: one of ``timesteps``.
            sample: int64 [N, h, w], 0 .. K.
            uniform: float64 [N, 2, h, w] in [0, 1): what decides whether a site is revealed, and as what.

        Raises:
            ConfigError: ``t`` is not one of the timesteps, a token is out of range, or a logit is not finite.
        """
        self.check_sample(sample)
        if not np.isfinite(logits).all():
            raise ConfigError(f"the logits at timestep {t} hold NaN or infinite values")
        revealed = (sample == self.codes) & (uniform[:, 0] < self.reveal_probability(t))
        return np.where(revealed, categorical(logits, self.temperature, uniform[:, 1]), sample)

    def finish(self, sample: Tokens) -> Tokens:
        """The tokens, int64 [N, h, w], 0 .. K - 1.

        Raises:
            ConfigError: a site is still masked.
        """
        self.check_sample(sample)
        masked = np.argwhere(sample == self.codes)
        if len(masked):
            image, *site = masked[0].tolist()
            raise ConfigError(f"image {image}, site {tuple(site)} is still masked: visit all timesteps")
        return sample

    def identity(self) -> Mapping[str, Any]:
        """See :meth:`Solver.identity <spikegen.diffusion.solver.Solver.identity>`."""
        return {
            "solver": type(self).__name__,
            "codes": self.codes,
            "train_steps": self.train_steps,
            "temperature": self.temperature,
            "timesteps": self.timesteps.tolist(),
        }


def categorical(logits: FloatArray, temperature: float, uniform: FloatArray) -> Tokens:
    """One draw from ``softmax(logits / temperature)`` per site, by the inverse of the cumulative distribution.

    The classes are added one after another at every site by itself, so neither the number of images nor the sites
    beside it change a bit of a result. A class whose probability is 0 in float64 is never drawn.

    Args:
        logits: float64 [N, K, h, w], finite.
        temperature: > 0; the largest logit is subtracted first, so however small it may be, nothing overflows.
        uniform: float64 [N, h, w] in [0, 1).

    Returns:
        int64 [N, h, w], 0 .. K - 1.
    """
    with np.errstate(over="ignore"):  # -inf is right: exp gives the probability 0
        weights = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    cumulated = np.cumsum(weights, axis=1)
    # uniform <= 1 - 2^-53, so the product rounds to less than the total and the last class is never passed
    below = cumulated <= (uniform * cumulated[:, -1])[:, None]
    return np.asarray(np.count_nonzero(below, axis=1), dtype=np.int64)
