"""SDDPM's U-Net: the names of `model/SpikingUNet.py` (github.com/AndyCao1125/SDDPM), with and without SDM's gains."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from spikegen.errors import CheckpointError, ConfigError
from spikegen.importing.files import StateFile, read_state
from spikegen.importing.mapping import Place, channels, mapped, needed, shapes
from spikegen.models import Checkpoint, SpikingUNet, UNetConfig
from spikegen.models.denoiser import TimeEmbedding

TIMESTEPS, IMAGE_SIZE, BETA_SCHEDULE = 4, 32, "linear"  # the defaults of `main_SDDPM.py`
# The data sets of the paper with so many image channels, of which the file does not say one, and their own image sizes.
DATASETS = {1: ("mnist", 28), 3: ("cifar10", 32)}
TABLE = "time_embedding.timembedding.0.weight"
# Rounding of the angle, at most 1000 rad in float32 (3e-5), differs between versions of torch; another embedding is
# wrong by about 1.
TABLE_TOLERANCE = 1e-3
GAIN_AXES = 4  # `tsmp` has the shape (T, 1, 1, 1, 1)

# Start of our name -> start of theirs. {c} is "tsmconv." where SDM's TSMConv2d wraps the convolution.
_BLOCK = r"(down|middle|up)\.(\d+)\."
_NAMES = (
    (r"embedding\.mlp\.0\.", "time_embedding.timembedding.1."),
    (r"embedding\.mlp\.2\.", "time_embedding.timembedding.3."),
    (r"stem\.0\.0\.", "conv.{c}"),
    (r"stem\.0\.gain\.gains", "conv.tsmp"),
    (r"stem\.0\.1\.", "bn."),
    (r"stem\.2\.0\.", "conv_identity.{c}"),
    (r"stem\.2\.gain\.gains", "conv_identity.tsmp"),
    (r"stem\.2\.1\.", "bn_identity."),
    (_BLOCK + r"conv([12])\.0\.", r"\1blocks.\2.conv\3.{c}"),
    (_BLOCK + r"conv([12])\.gain\.gains", r"\1blocks.\2.conv\3.tsmp"),
    (_BLOCK + r"conv([12])\.1\.", r"\1blocks.\2.bn\3."),
    (_BLOCK + r"time\.linear\.", r"\1blocks.\2.temb_proj.1."),
    (_BLOCK + r"shortcut\.", r"\1blocks.\2.shortcut.{c}"),
    (_BLOCK + r"shortcut_gain\.gains", r"\1blocks.\2.shortcut.tsmp"),
    (_BLOCK + r"[12]\.0\.", r"\1blocks.\2.conv.{c}"),
    (_BLOCK + r"[12]\.gain\.gains", r"\1blocks.\2.conv.tsmp"),
    (_BLOCK + r"[12]\.1\.", r"\1blocks.\2.bn."),
    (r"readout\.norm\.", "tail_bn."),
    (r"readout\.conv\.", "tail_conv.{c}"),
    (r"readout\.gain\.gains", "tail_conv.tsmp"),
    (r"readout\.mix\.", "T_output_layer."),
    (r"readout\.mix_norm\.", "last_bn."),
)


def import_sddpm(
    path: Path,
    *,
    entry: str | None = None,
    timesteps: int | None = None,
    image_size: int | None = None,
    dataset: str | None = None,
    beta_schedule: str | None = None,
) -> Checkpoint:
    """The checkpoint of an SDDPM (arXiv 2306.17046).

    Width, multipliers, blocks, image channels and diffusion steps are read from the shapes; what a file of the authors
    does not hold is an argument, with their default.

    Args:
        path: file of ``torch.save`` or .safetensors.
        entry: see :func:`spikegen.importing.files.read_state`.
        timesteps: T, default :data:`TIMESTEPS`.
        image_size: height and width [pixels], default :data:`IMAGE_SIZE`.
        dataset: what it was trained on, default by image channels (:data:`DATASETS`), resized to ``image_size``.
        beta_schedule: noise schedule, default :data:`BETA_SCHEDULE`.

    Raises:
        CheckpointError: the file is damaged or of another network.
        ConfigError: an argument does not fit the network.
    """
    state = read_state(path, entry)
    if any(name.endswith(".tsmp") for name in state.tensors):
        raise CheckpointError(f"{path}: has gains per SNN step (tsmp), so it is an SDM: import it with --from sdm")
    return convert(state, "sddpm", timesteps or TIMESTEPS, image_size, dataset, beta_schedule)


def convert(
    state: StateFile,
    source: str,
    timesteps: int,
    image_size: int | None,
    dataset: str | None,
    beta_schedule: str | None,
) -> Checkpoint:
    """The checkpoint whose tensors are those of ``state``; ``source`` is "sddpm", or "sdm" with gains."""
    tsm = source == "sdm"
    config = _sizes(state, timesteps, image_size or IMAGE_SIZE, tsm=tsm)
    expected = shapes(SpikingUNet, config)
    places = {name: _place(name, tsm) for name in expected}
    _check_table(state, config)
    tensors = mapped(state, places, expected, checked=(TABLE,))
    model = SpikingUNet(config)
    model.load_state_dict(tensors)
    model.eval()
    if dataset is None and config.channels not in DATASETS:
        raise ConfigError(f"{state.path}: an image has {config.channels} channels; name its data set with --dataset")
    return Checkpoint(
        model,
        beta_schedule or BETA_SCHEDULE,
        dataset or _dataset(config),
        {"imported": {"format": source, "files": [state.record]}},
        str(state.path),
        state.digest,
    )


def _dataset(config: UNetConfig) -> str:
    name, size = DATASETS[config.channels]
    return name if config.image_size == size else f"{name}@{config.image_size}"


def _place(name: str, tsm: bool) -> Place:
    for ours, theirs in _NAMES:
        if match := re.match(ours, name):
            found = match.expand(theirs).replace("{c}", "tsmconv." if tsm else "") + name[match.end() :]
            if name == "readout.mix.weight":
                return Place(found, 1)  # a Conv3d of 3x3x1, whose last axis is SNN time
            return Place(found, GAIN_AXES if found.endswith(".tsmp") else 0)
    raise CheckpointError(f"{name}: has no name in a file of SDDPM")


def _sizes(state: StateFile, timesteps: int, image_size: int, *, tsm: bool) -> UNetConfig:
    """The configuration that the shapes tell."""
    width = channels(state, r"bn(_identity)?\..*", "bn.weight")
    down = _blocks(state, "downblocks")
    levels: list[list[int]] = [[]]
    for residual, block_width in down:
        if residual:
            levels[-1].append(block_width)
        else:
            levels.append([])
    widths = [level[-1] if level else 0 for level in levels]
    if any(number == 0 or number % width for number in widths):
        raise CheckpointError(f"{state.path}: not an SDDPM: the levels have {widths} channels, the first layer {width}")
    try:
        return UNetConfig(
            image_size=image_size,
            channels=channels(state, r"(last_bn|T_output_layer)\..*", "last_bn.weight"),
            width=width,
            multipliers=tuple(number // width for number in widths),
            blocks=len(levels[0]),
            middle_blocks=len(_blocks(state, "middleblocks")),
            timesteps=timesteps,
            diffusion_steps=len(needed(state, TABLE, 2)),
            neuron="hard-reset",
            tail="swish",
            tsm=tsm,
        )
    except ConfigError as error:
        raise CheckpointError(f"{state.path}: not a network that spikegen has: {error}") from error


def _blocks(state: StateFile, part: str) -> list[tuple[bool, int]]:
    """Of every block in ``part``: is it residual, and how many channels it delivers."""
    pattern = re.compile(rf"{part}\.(\d{{1,3}})\.(conv|bn)?([^.]*)")
    found: dict[int, bool] = {}
    for name in state.tensors:
        if match := pattern.match(name):
            plain = bool(match[2]) and not match[3]  # `conv` and `bn` without a number
            found[int(match[1])] = found.get(int(match[1]), False) or not plain
    return [
        (residual, channels(state, rf"{part}\.{index}\..*", f"vector in {part}.{index}"))
        for index, residual in sorted(found.items())
    ]


def _check_table(state: StateFile, config: UNetConfig) -> None:
    """Refuse a time embedding other than the sinusoids that our network computes."""
    table, shape = needed(state, TABLE, 2), (config.diffusion_steps, config.width)
    if table.shape == shape:
        ours = TimeEmbedding(config.width, 2).sinusoids(torch.arange(config.diffusion_steps))
        if bool(((table.float() - ours).abs() <= TABLE_TOLERANCE).all()):
            return
    raise CheckpointError(
        f"{state.path}: {TABLE} is not the table of sines and cosines, {shape}, that SDDPM and our network use"
    )
