"""What a network learns: its batches and its loss. One class per network."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikegen.diffusion.schedule import alphas_cumprod
from spikegen.errors import ConfigError
from spikegen.models import Model
from spikegen.models.denoiser import ImageDenoiser
from spikegen.models.sdid import SDID, denoiser_input
from spikegen.models.vqsvae import PIXEL_SCALE, VQSVAE
from spikegen.training.datasets import ImageSet, load_fitting, split
from spikegen.training.recipes import Recipe, Stage

COMMITMENT = 0.25  # weight of the two commitment terms (van den Oord et al. 2017, arXiv 1711.00937, Eq. 3: beta)
ENCODING_BATCH = 256
PSP_TAU = 2.0  # time constant of the postsynaptic potential, in SNN steps
Network = TypeVar("Network", bound=nn.Module)


class Task(ABC):
    """Batches and loss of one network.

    Args:
        batch_size: examples of a batch.
    """

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size

    @abstractmethod
    def batch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """One batch; all randomness comes from ``generator``."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The scalar loss of ``model`` on a batch."""

    def prepare(self, model: nn.Module, generator: torch.Generator) -> None:  # noqa: B027 (most change nothing)
        """Change a freshly initialised ``model``; called once, before the first iteration."""

    def finish(self, model: nn.Module) -> None:  # noqa: B027 (most change nothing)
        """Change a trained ``model`` without changing what it computes; called on every averaged copy."""

    def _images(self, images: ImageSet, generator: torch.Generator) -> Tensor:
        """A batch of images; each is mirrored with probability 1/2 where the data set says so."""
        chosen = torch.randint(len(images), (self.batch_size,), generator=generator)
        batch = torch.from_numpy(images[chosen.numpy()])
        if not images.flips:
            return batch
        mirrored = torch.rand(self.batch_size, generator=generator) < 0.5
        return torch.where(mirrored[:, None, None, None], batch.flip(-1), batch)

    def _rows(self, data: Tensor, generator: torch.Generator) -> Tensor:
        return data[torch.randint(len(data), (self.batch_size,), generator=generator)]


class NoisePrediction(Task):
    """DDPM (arXiv 2006.11239, Eq. 14): plain mean squared error of the predicted noise.

    Args:
        images: to train on.
        schedule: noise schedule.
        diffusion_steps: K.
        batch_size: images of a batch.
    """

    def __init__(self, images: ImageSet, schedule: str, diffusion_steps: int, batch_size: int) -> None:
        super().__init__(batch_size)
        self.images = images
        self.alphas_cumprod = torch.from_numpy(alphas_cumprod(schedule, diffusion_steps)).float()

    def batch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Noisy images, their diffusion steps and the noise (DDPM Eq. 4)."""
        clean = self._images(self.images, generator)
        t = torch.randint(len(self.alphas_cumprod), (self.batch_size,), generator=generator)
        noise = torch.randn(clean.shape, generator=generator)
        alpha = self.alphas_cumprod[t][:, None, None, None]
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise, t, noise

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """See :meth:`Task.loss`; ``model`` is a :class:`ImageDenoiser`."""
        noisy, t, noise = batch
        predicted: Tensor = _expect(model, ImageDenoiser)(noisy, t)
        return functional.mse_loss(predicted, noise)


class VectorQuantisation(Task):
    """The VQ-SVAE (Spiking-Diffusion, arXiv 2308.10187).

    With latents ``z``, nearest code vectors ``e``, encoder spikes ``s``, generator spikes ``g``, the reconstruction
    ``x'`` and stop-gradient ``sg``::

        mse(e, sg z) + 0.25 mse(z, sg e) + mse(PSP(g), PSP(sg s)) + 0.25 mse(PSP(sg g), PSP(s)) + mse(x', x) / Var(x)

    Args:
        pixels: float32 [N, C, H, W] in [-0.5, 0.5].
        batch_size: images of a batch.
    """

    def __init__(self, pixels: Tensor, batch_size: int) -> None:
        super().__init__(batch_size)
        self.pixels = pixels
        self.variance = float(pixels.var())

    def prepare(self, model: nn.Module, generator: torch.Generator) -> None:
        """Start the code vectors at latents of random sites, so that none begins out of reach."""
        network = _expect(model, VQSVAE)
        network.train()
        with torch.no_grad():
            z = network.encoder(self._rows(self.pixels, generator)).permute(0, 2, 3, 1).flatten(0, 2)
            chosen = torch.randint(len(z), (len(network.codebook),), generator=generator)
            jitter = 0.1 * torch.randn(network.codebook.shape, generator=generator)
            network.codebook.copy_(z[chosen] + jitter)

    def finish(self, model: nn.Module) -> None:
        """Sort the code vectors along their direction of largest variance.

        The denoiser reads a token as a number, so numbers that are close should mean images that are close.
        """
        codebook = _expect(model, VQSVAE).codebook
        with torch.no_grad():
            centred = codebook.double() - codebook.double().mean(0)
            direction = torch.linalg.eigh(centred.T @ centred)[1][:, -1]
            codebook.copy_(codebook[(centred @ direction).argsort()])

    def batch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Pixels."""
        return (self._rows(self.pixels, generator),)

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """See :meth:`Task.loss`; ``model`` is a :class:`VQSVAE`."""
        network, (pixels,) = _expect(model, VQSVAE), batch
        encoder, decoder = network.encoder, network.decoder
        spikes = encoder.spikes(pixels)
        z = encoder.readout(spikes)
        codes = network.code_vectors(network.tokens(z))
        generated = decoder.generator(decoder.coding(z + (codes - z).detach()))  # straight-through
        image = torch.tanh(decoder.image(generated))
        mse, steps = functional.mse_loss, encoder.coding.timesteps
        return (
            mse(codes, z.detach())
            + COMMITMENT * mse(z, codes.detach())
            + mse(postsynaptic(generated, steps), postsynaptic(spikes.detach(), steps))
            + COMMITMENT * mse(postsynaptic(generated.detach(), steps), postsynaptic(spikes, steps))
            + mse(image, pixels) / self.variance
        )


class TokenDenoising(Task):
    """Masked cross-entropy with the reweighted ELBO (Bond-Taylor et al. 2021, arXiv 2111.12701, Eq. 8).

    ``t ~ U{1 .. T_d}``, each token is masked with probability ``t / T_d``; the cross-entropy of the masked tokens,
    summed over sites, has the weight ``(T_d - t + 1) / T_d``.

    Args:
        tokens: int64 [N, h, w].
        codes: K, which is also the mask.
        diffusion_steps: T_d.
        batch_size: grids of a batch.
    """

    def __init__(self, tokens: Tensor, codes: int, diffusion_steps: int, batch_size: int) -> None:
        super().__init__(batch_size)
        self.tokens, self.codes, self.diffusion_steps = tokens, codes, diffusion_steps

    def batch(self, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Tokens, the diffusion step of each grid, and which sites are masked."""
        tokens = self._rows(self.tokens, generator)
        t = torch.randint(1, self.diffusion_steps + 1, (self.batch_size,), generator=generator)
        masked = torch.rand(tokens.shape, generator=generator) < (t / self.diffusion_steps)[:, None, None]
        return tokens, t, masked

    def loss(self, model: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """See :meth:`Task.loss`; ``model`` is a :class:`SDID`. In bits per site."""
        tokens, t, masked = batch
        logits = _expect(model, SDID)(denoiser_input(torch.where(masked, self.codes, tokens), t))
        entropy = (functional.cross_entropy(logits, tokens, reduction="none") * masked).flatten(1).sum(1)
        weight = (self.diffusion_steps - t + 1) / self.diffusion_steps
        loss: Tensor = (weight * entropy).mean() / (tokens[0].numel() * math.log(2))
        return loss


def make_task(recipe: Recipe, stage: Stage, model: Model) -> Task:
    """The task of ``stage``; a denoiser of tokens needs the trained autoencoder of ``model``.

    Raises:
        ConfigError: the model has no such network to train, or the data set is unknown, too small or of another shape.
    """
    known = ("",) if isinstance(model, ImageDenoiser) else ("autoencoder", "denoiser")
    if stage.network not in known:
        raise ConfigError(
            f"Stage.network is {stage.network!r}; what is trained of a {type(model).__name__} is "
            + " or ".join(map(repr, known))
        )
    config = model.config
    shape = (config.channels, config.image_size, config.image_size)
    images, _ = split(load_fitting(recipe.dataset, shape), recipe.held_out)
    if isinstance(model, ImageDenoiser):
        return NoisePrediction(images, recipe.beta_schedule, model.config.diffusion_steps, stage.batch_size)
    pixels = torch.from_numpy(images[:]) * PIXEL_SCALE
    if stage.network == "autoencoder":
        return VectorQuantisation(pixels, stage.batch_size)
    tokens = encode(copy.deepcopy(model.autoencoder).eval(), pixels)
    return TokenDenoising(tokens, model.config.codes, model.config.diffusion_steps, stage.batch_size)


def encode(autoencoder: VQSVAE, pixels: Tensor) -> Tensor:
    """Tokens int64 [N, h, w] of ``pixels``; every neuron starts at zero in every batch."""
    with torch.no_grad():
        return torch.cat([autoencoder.tokens(autoencoder.encoder(part)) for part in pixels.split(ENCODING_BATCH)])


def postsynaptic(spikes: Tensor, timesteps: int) -> Tensor:
    """PSP: ``p[n] = p[n-1] + (s[n] - p[n-1]) / tau`` of spikes (T * N, ...), as (T, N, ...)."""
    potential = torch.zeros(())
    potentials = []
    for step in spikes.unflatten(0, (timesteps, -1)):
        potential = potential + (step - potential) / PSP_TAU
        potentials.append(potential)
    return torch.stack(potentials)


def _expect(model: nn.Module, kind: type[Network]) -> Network:
    if not isinstance(model, kind):
        raise TypeError(f"this task trains a {kind.__name__}, not a {type(model).__name__}")
    return model
