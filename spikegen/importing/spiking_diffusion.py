"""Spiking-Diffusion: the names of `snn_model/vae_model.py` and `vq_diffusion.py` (github.com/Arktis2022)."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from spikegen.errors import CheckpointError, ConfigError
from spikegen.importing.files import StateFile, read_state
from spikegen.importing.mapping import Place, channels, mapped, needed, shapes
from spikegen.models import Checkpoint, SpikingDiffusion, SpikingDiffusionConfig

IMAGE_SIZE, TIMESTEPS, STRIDE, DATASET = 28, 16, 2, "mnist"  # as in `main.py` and `vae_model.py`
BETA_SCHEDULE = "absorbing"
# Where `main.py` saves the two networks in a folder of results.
AUTOENCODER_FILE, DENOISER_FILE = "model.pth", Path("diff_result") / "diff_model.pth"
WEIGHTS = ("vq_layer.memout.coef", "memout.coef")  # of the sums over SNN time
WEIGHTS_TOLERANCE = 1e-6  # float32
DECAY = 0.8


def import_spiking_diffusion(
    path: Path,
    denoiser: Path | None = None,
    *,
    entry: str | None = None,
    timesteps: int | None = None,
    image_size: int | None = None,
    dataset: str | None = None,
) -> Checkpoint:
    """The checkpoint of a Spiking-Diffusion (arXiv 2308.10187): VQ-SVAE and SDID, which the authors save apart.

    Widths, layers, codes and image channels are read from the shapes, T from the weights of the sums over time; every
    3x3 convolution of the encoder has stride 2, as the authors'.

    Args:
        path: file of the VQ-SVAE, or the folder that has both as `main.py` saves them.
        denoiser: file of the SDID.
        entry: see :func:`spikegen.importing.files.read_state`, of both files.
        timesteps: T, default :data:`TIMESTEPS` if the file does not say.
        image_size: height and width [pixels], default :data:`IMAGE_SIZE`.
        dataset: what it was trained on, default :data:`DATASET`.

    Raises:
        CheckpointError: a file is missing, damaged or of another network.
        ConfigError: an argument does not fit the network.
    """
    if path.is_dir():
        path, denoiser = path / AUTOENCODER_FILE, denoiser or path / DENOISER_FILE
    if denoiser is None:
        raise ConfigError(
            f"{path}: is the VQ-SVAE alone; name the file of the SDID with --denoiser, or give the folder with both"
        )
    vq, sdid = read_state(path, entry), read_state(denoiser, entry)
    config = _sizes(vq, sdid, _timesteps(vq, timesteps), image_size or IMAGE_SIZE)
    expected = shapes(SpikingDiffusion, config)
    layers, chain = len(config.widths), len(config.denoiser_widths)
    autoencoder = {name: t for name, t in expected.items() if name.startswith("autoencoder.")}
    modules = _autoencoder_modules(layers)
    tensors = mapped(vq, {name: _place(name, modules) for name in autoencoder}, autoencoder, checked=WEIGHTS)
    rest = {name: t for name, t in expected.items() if name not in autoencoder}
    modules = _denoiser_modules(chain)
    tensors |= mapped(sdid, {name: _place(name, modules) for name in rest}, rest)
    model = SpikingDiffusion(config)
    model.load_state_dict(tensors)
    model.eval()
    return Checkpoint(
        model,
        BETA_SCHEDULE,
        dataset or DATASET,
        {"imported": {"format": "spiking-diffusion", "files": [vq.record, sdid.record]}},
        str(path),
        vq.digest,
    )


def _autoencoder_modules(layers: int) -> dict[str, str]:
    """Our module -> theirs. Each of their layers is three in a row: convolution, BatchNorm, neuron."""
    convolutions = {
        "encoder.latent": f"encoder.snn_convs.{3 * layers}",
        "decoder.generator": "vq_layer.poisson.0",
    }
    for index in range(layers):
        for coder in ("encoder", "decoder"):
            convolutions[f"{coder}.layers.{index}"] = f"{coder}.snn_convs.{3 * index}"
    modules = {f"autoencoder.{ours}.conv": theirs for ours, theirs in convolutions.items()}
    for ours, theirs in convolutions.items():
        sequence, _, place = theirs.rpartition(".")
        modules[f"autoencoder.{ours}.norm"] = f"{sequence}.{int(place) + 1}"
    modules["autoencoder.decoder.head"] = f"decoder.snn_convs.{3 * layers}"
    modules["autoencoder.encoder.readout"] = "vq_layer"
    return modules


def _denoiser_modules(chain: int) -> dict[str, str]:
    modules = {}
    for index in range(chain):
        modules[f"denoiser.layers.{index}.conv"] = f"conv{index + 1}.0"
        modules[f"denoiser.layers.{index}.norm"] = f"conv{index + 1}.1"
    modules["denoiser.head"] = f"conv{chain + 1}.0"
    return modules


def _place(name: str, modules: dict[str, str]) -> Place:
    if name == "autoencoder.codebook":
        return Place("vq_layer.embeddings.weight")
    module, _, parameter = name.rpartition(".")
    return Place(f"{modules[module]}.{parameter}")


def _timesteps(vq: StateFile, asked: int | None) -> int:
    """T, of the sums over time, which must be those of our readouts."""
    found = [needed(vq, name, 5) for name in WEIGHTS if name in vq.tensors]
    if not found:
        return asked or TIMESTEPS
    timesteps = len(found[0])
    ours = torch.tensor([DECAY ** (timesteps - 1 - t) for t in range(timesteps)])
    for weights in found:
        if weights.numel() != timesteps or not torch.allclose(
            weights.float().flatten(), ours, rtol=0.0, atol=WEIGHTS_TOLERANCE
        ):
            raise CheckpointError(f"{vq.path}: memout.coef are not the weights {DECAY}^(T-1-t) of the published model")
    if asked not in {None, timesteps}:
        raise ConfigError(f"{vq.path}: has weights for {timesteps} SNN steps, not for the {asked} asked for")
    return timesteps


def _sizes(vq: StateFile, sdid: StateFile, timesteps: int, image_size: int) -> SpikingDiffusionConfig:
    """The configuration that the shapes tell."""
    layers = _last(vq, r"encoder\.snn_convs\.(\d{1,3})\..*", "encoder.snn_convs.0.weight") // 3
    chain = _last(sdid, r"conv(\d{1,3})\..*", "conv1.0.weight") - 1
    widths = tuple(
        channels(vq, rf"encoder\.snn_convs\.({3 * i}|{3 * i + 1})\..*", f"encoder.snn_convs.{3 * i}")
        for i in range(layers)
    )
    codes, latent = needed(vq, "vq_layer.embeddings.weight", 2).shape
    try:
        return SpikingDiffusionConfig(
            image_size=image_size,
            channels=channels(vq, rf"decoder\.snn_convs\.{3 * layers}\.bias", f"decoder.snn_convs.{3 * layers}"),
            widths=widths,
            strides=(STRIDE,) * layers,
            latent=latent,
            codes=codes,
            denoiser_widths=tuple(channels(sdid, rf"conv{i + 1}\..*", f"conv{i + 1}") for i in range(chain)),
            timesteps=timesteps,
            neuron="hard-reset",
        )
    except ConfigError as error:
        raise CheckpointError(f"{vq.path}: not a network that spikegen has: {error}") from error


def _last(state: StateFile, pattern: str, what: str) -> int:
    """The largest number in the names that match ``pattern``."""
    numbers = [int(match[1]) for name in state.tensors if (match := re.fullmatch(pattern, name))]
    if not numbers:
        raise CheckpointError(f"{state.path}: not a network of this format: it has no {what}")
    return max(numbers)
