"""`spikegen reconstruct`: real images through the encoder, the codebook and the decoder of a pipeline of tokens."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from spikegen.cli._decode import choose_place, decode, decoder_counts
from spikegen.cli._options import backend_options, check_backend, generator_option
from spikegen.cli._output import check_outputs, counted, print_summary, write_array
from spikegen.cli._pipeline import read_pipeline
from spikegen.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from spikegen.program import Pipeline

    FloatArray = npt.NDArray[np.float64]

_COLUMNS = 8  # pairs of rows: originals above their reconstructions


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="PNG file: originals, and below.")
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    help="Images: .npy float [N, C, H, W] in [-1, 1], or one picture file. Default: images of the model's data set.",
)
@click.option("-n", "--images", type=click.IntRange(min=1), default=16, show_default=True, help="At most this many.")
@generator_option
@backend_options
@click.option("--npy", type=click.Path(path_type=Path), help="Write the reconstructions as float64 [N, C, H, W].")
@click.option("--tokens", type=click.Path(path_type=Path), help="Write the tokens, int64 [N, h, w].")
@click.option("--counts", type=click.Path(path_type=Path), help="Write the counts for `spikegen report`, JSON.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
def reconstruct(
    source: str,
    output: Path,
    input_file: Path | None,
    images: int,
    generator: str | None,
    backend: str,
    synapses: str | None,
    batch: int | None,
    npy: Path | None,
    tokens: Path | None,
    counts: Path | None,
    as_json: bool,
) -> None:
    """Encode real images with PIPELINE (digits-vq, or a file of such a model) and decode them again.

    The images are those that training held out, where it did. The picture shows originals above reconstructions.
    """
    import numpy as np
    from rich.console import Console

    from spikegen.program import TokenDiffusion
    from spikegen.runtime import encode_images, open_target, write_counts, write_png

    check_backend(backend, synapses)
    files = {"--output": output, "--npy": npy, "--tokens": tokens, "--counts": counts}
    check_outputs(source, files)
    errors = Console(stderr=True, highlight=False)
    pipeline = read_pipeline(source, errors.print)
    if not isinstance(pipeline.host, TokenDiffusion):
        raise click.UsageError(f"{pipeline.name} has no encoder: reconstruct needs a pipeline of tokens (digits-vq)")
    originals = _dataset_images(pipeline) if input_file is None else _read_images(input_file)
    originals = originals[:images]
    place = choose_place(backend, synapses, batch, len(originals))
    started = time.perf_counter()
    with errors.status(f"encoding {len(originals)} images"):
        encoder = pipeline.network("encoder")
        opened = open_target(backend, encoder, images=place.batch, synapses=place.synapses)
        with contextlib.closing(opened) as target:
            encoded = encode_images(pipeline, target, originals, place.batch)
    with errors.status(f"decoding {len(originals)} images"):
        decoded = decode(pipeline, encoded.tokens, place, generator or "chip")
    seconds = time.perf_counter() - started
    write_png(output, _interleaved(originals, decoded.images), min(_COLUMNS, len(originals)))
    write_array(npy, decoded.images)
    write_array(tokens, encoded.tokens)
    networks = {"encoder": ((0, encoded.counts),), "decoder": decoder_counts(decoded)}
    if counts is not None:
        write_counts(counts, pipeline, networks, generator or "chip")
    error = float(np.square(decoded.images - originals).mean())
    if as_json:
        summary = {
            "pipeline": pipeline.name,
            "backend": backend,
            "generator": generator or "chip",
            "images": len(originals),
            "mean_squared_error": error,
            "codes_used": len(np.unique(encoded.tokens)),
            "seconds": seconds,
            "networks": counted(networks),
            **{option[2:]: None if path is None else str(path) for option, path in files.items()},
        }
        click.echo(json.dumps(summary, indent=1, allow_nan=False))
        return
    rows = {
        "images": str(len(originals)),
        "mean squared error, images in [-1, 1]": f"{error:.4f}",
        "different tokens": f"{len(np.unique(encoded.tokens))} of {len(pipeline.host.codebook)}",
        "seconds": f"{seconds:.2f}",
    }
    print_summary(f"{pipeline.name} on {backend}", rows, counted(networks), list(files.values()))


def _interleaved(originals: FloatArray, others: FloatArray) -> FloatArray:
    """Row by row originals and others; a short last row is filled with black."""
    import numpy as np

    columns = min(_COLUMNS, len(originals))
    rows = []
    for start in range(0, len(originals), columns):
        for side in (originals, others):
            row = side[start : start + columns]
            blank = np.full((columns - len(row), *row.shape[1:]), -1.0)
            rows.append(np.concatenate([row, blank]))
    return np.concatenate(rows)


def _dataset_images(pipeline: Pipeline) -> FloatArray:
    """Images of the data set the model was trained on, those held out from training if there are any."""
    import numpy as np

    name = pipeline.provenance.get("dataset")
    held_out = pipeline.provenance.get("held_out", "0")
    if name is None or not held_out.isdecimal():
        raise ConfigError(f"{pipeline.name} does not say which data set it was made from; give images with --input")
    try:
        from spikegen.training.datasets import load_images, split
    except ImportError as error:
        raise ConfigError(
            f"the data set {name} needs PyTorch and scikit-learn ({error}); give images with --input, or "
            "pip install 'spikegen[torch]'"
        ) from error
    trained, others = split(load_images(name), int(held_out))
    return np.asarray(others if len(others) else trained, dtype=np.float64)


def _read_images(path: Path) -> FloatArray:
    """Images of a file, float64 [N, C, H, W]."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file")
    try:
        if path.suffix == ".npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if array.dtype.kind != "f" or array.ndim != 4:
                raise ConfigError(f"{path}: it holds {array.dtype} {array.shape}, expected floats (N, C, H, W)")
            return np.asarray(array, dtype=np.float64)
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB" if picture.mode in ("RGB", "RGBA", "P") else "L"))
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ConfigError(f"{path}: not a readable image: {error}") from error
    channels_last = pixels if pixels.ndim == 3 else pixels[..., None]
    return np.asarray(channels_last.transpose(2, 0, 1)[None] / 127.5 - 1.0)
