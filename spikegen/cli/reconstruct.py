"""`spikegen reconstruct`: real images through the encoder, the codebook and the decoder of a pipeline of tokens."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from spikegen.cli._decode import check_generator, choose_place, decode, decoder_counts
from spikegen.cli._images import dataset_images, read_images
from spikegen.cli._options import backend_options, check_backend, generator_option
from spikegen.cli._output import check_outputs, counted, error_console, print_summary, working, write_array
from spikegen.cli._pipeline import read_pipeline

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    FloatArray = npt.NDArray[np.float64]

_COLUMNS = 8  # pairs of rows: originals above their reconstructions


@click.command()
@click.argument("source", metavar="PIPELINE")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="PNG file: originals, and below.")
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    help="Images: .npy float [N, C, H, W] in [-1, 1], or one picture. Default: images of the model's data set.",
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
    device: str | None,
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

    from spikegen.program import TokenDiffusion
    from spikegen.runtime import encode_images, write_counts, write_png
    from spikegen.runtime.images import check_channels

    check_backend(backend, synapses, device)
    files = {"--output": output, "--npy": npy, "--tokens": tokens, "--counts": counts}
    check_outputs(source, files, {"--input": input_file})
    errors = error_console()
    pipeline = read_pipeline(source, errors.print)
    if not isinstance(pipeline.host, TokenDiffusion):
        raise click.UsageError(f"{pipeline.name} has no encoder: reconstruct needs a pipeline of tokens (digits-vq)")
    encoder = pipeline.network("encoder")
    check_channels(encoder.input.shape[0])
    generator = check_generator(pipeline, generator)
    if input_file is None:
        originals = dataset_images(pipeline, images)
    else:
        originals = read_images(input_file, encoder.input.shape, images)
    place = choose_place(backend, synapses, device, batch, len(originals))
    started = time.perf_counter()
    with working(errors, f"encoding {len(originals)} images"):
        opened = place.open(encoder)
        with contextlib.closing(opened) as target:
            encoded = encode_images(pipeline, target, originals, place.batch)
    with working(errors, f"decoding {len(originals)} images"):
        decoded = decode(pipeline, encoded.tokens, place, generator)
    seconds = time.perf_counter() - started
    write_png(output, _interleaved(originals, decoded.images), min(_COLUMNS, len(originals)))
    write_array(npy, decoded.images)
    write_array(tokens, encoded.tokens)
    networks = {"encoder": ((0, encoded.counts),), "decoder": decoder_counts(decoded)}
    if counts is not None:
        write_counts(counts, pipeline, networks, generator)
    error = float(np.square(decoded.images - originals).mean())
    if as_json:
        summary = {
            "pipeline": pipeline.name,
            "backend": backend,
            "generator": generator,
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
