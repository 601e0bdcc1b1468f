"""What one file deploys: the networks of one generative model, and the host's part around them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, TypeAlias

import numpy as np
import numpy.typing as npt

from spikegen.errors import ConfigError
from spikegen.program.arrays import frozen
from spikegen.program.ir import Program


@dataclass(frozen=True, eq=False)
class Standalone:
    """No loop around the network: one evaluation is all there is."""

    ROLES: ClassVar[tuple[str, ...]] = ("network",)


@dataclass(frozen=True, eq=False)
class ImageDiffusion:
    """Diffusion of images with Gaussian noise; the denoiser predicts the noise (DDPM, arXiv 2006.11239).

    The conditioning steps of the denoiser are the diffusion steps.

    Attributes:
        beta_schedule: name of the noise schedule in :mod:`spikegen.diffusion.schedule`.
        clip_sample: the range [-1, 1] of images is enforced on the predicted image.
        noise_power: float64 [K], mean square of the predicted noise at every diffusion step, ``E[|eps|^2 / d]``,
            measured on the network itself (Analytic-DPM, arXiv 2201.06503); empty if it was not measured.
    """

    ROLES: ClassVar[tuple[str, ...]] = ("denoiser",)

    beta_schedule: str = "linear"
    clip_sample: bool = True
    noise_power: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty(0, np.float64))

    def __post_init__(self) -> None:
        object.__setattr__(self, "noise_power", frozen(self.noise_power, np.float64))


@dataclass(frozen=True, eq=False)
class TokenDiffusion:
    """Absorbing-state diffusion of a grid of tokens (Spiking-Diffusion, arXiv 2308.10187; D3PM, arXiv 2107.03006).

    A token is the index of a code vector; index K is the mask. With an image ``x`` in [-1, 1]:

    * encoder: input ``pixel_scale * x``, readout ``z`` (D, h, w); the token of a site is the code vector nearest to
      ``z`` there (L2);
    * denoiser: input (2, h, w), the index and the diffusion step ``t`` in 1 .. steps; readout: K logits per site;
    * decoder: input the code vectors (D, h, w), readout ``y``; the image is ``tanh(y) / pixel_scale``, clipped to
      [-1, 1].

    Attributes:
        codebook: float64 [K, D], the code vectors.
        steps: T_d, diffusion steps, at least 1; a site is masked at step ``t`` with probability ``t / T_d``.
        pixel_scale: the encoder's pixel at image value 1, > 0.
    """

    ROLES: ClassVar[tuple[str, ...]] = ("encoder", "denoiser", "decoder")

    codebook: npt.NDArray[np.float64]
    steps: int
    pixel_scale: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "codebook", frozen(self.codebook, np.float64))


HostPart: TypeAlias = Standalone | ImageDiffusion | TokenDiffusion


@dataclass(frozen=True, eq=False)
class Pipeline:
    """One deployable model.

    Attributes:
        name: short name.
        host: the host's part; its ``ROLES`` are the keys of ``networks``.
        networks: role -> Program, in the order of the roles.
        provenance: str -> str, where the pipeline comes from (never needed to run it).
    """

    name: str
    host: HostPart
    networks: Mapping[str, Program]
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        roles: tuple[str, ...] = getattr(self.host, "ROLES", ())
        if isinstance(self.networks, Mapping):  # whoever stores or checks the pipeline names what has a wrong type
            ranked = sorted(self.networks, key=lambda role: roles.index(role) if role in roles else len(roles))
            object.__setattr__(self, "networks", {role: self.networks[role] for role in ranked})

    def network(self, role: str) -> Program:
        """The Program that plays ``role``.

        Raises:
            ConfigError: the pipeline has none.
        """
        if role not in self.networks:
            has = ", ".join(self.networks) or "no networks at all"
            raise ConfigError(f"the pipeline {self.name!r} has no {role}; it has {has}")
        return self.networks[role]
