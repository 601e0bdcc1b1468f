"""What `spikegen report --html` needs besides the report: the check of a board and the picture of the samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from spikegen.cli._images import read_images, read_pixels
from spikegen.cli.check import describe as describe_check
from spikegen.errors import ConfigError, ProgramError

if TYPE_CHECKING:
    from spikegen.program import Pipeline
    from spikegen.report import Picture

_IMAGES = 64  # of an array, in the picture of the samples


def open_page(html: Path | None, samples: Path | None, pipeline: Pipeline) -> Picture | None:
    """Refuse what cannot become a page, before the work starts; the picture of the samples, if there is one.

    Raises:
        ConfigError: what makes the page is not installed, or as :func:`sample_picture`.
    """
    if html is None:
        if samples is not None:
            raise click.UsageError("--samples is a picture on the page that --html writes")
        return None
    try:
        import spikegen.report  # noqa: F401 - looked up before the work starts
    except ImportError as error:
        raise ConfigError(f"--html needs Jinja2 and matplotlib ({error}): pip install 'spikegen[report]'") from error
    return None if samples is None else sample_picture(samples, pipeline)


def describe_board(pipeline: Pipeline, board: str) -> dict[str, Any]:
    """What ``spikegen check --json`` says, or ``{"error": message}`` if a network cannot be placed at all.

    Raises:
        ConfigError: there is no such board.
    """
    from spikegen.hardware.loihi2 import check_pipeline, find_board

    wanted = find_board(board)
    try:
        return describe_check(check_pipeline(pipeline, wanted), fix=False)
    except ProgramError as error:
        return {"error": str(error)}


def sample_picture(path: Path, pipeline: Pipeline) -> Picture:
    """The picture of the samples, from a .npy file or a PNG file that `spikegen sample` wrote.

    Raises:
        ConfigError: missing, damaged, too large, or no images of this pipeline.
    """
    from spikegen.report import Picture
    from spikegen.runtime.images import check_channels, grid, png_bytes

    if path.suffix != ".npy":
        return Picture(png_bytes(read_pixels(path)), f"Generated images of {pipeline.name}")
    last = list(pipeline.networks.values())[-1]  # the network whose readout is the image
    shape = next(last.readouts()).output_shape
    check_channels(shape[0])
    images = read_images(path, shape, _IMAGES, "the images of this pipeline are")
    return Picture(png_bytes(grid(images)), f"{len(images)} generated images of {pipeline.name}")


def write_page(path: Path, document: Mapping[str, Any], samples: Picture | None) -> None:
    """Write the page, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    from spikegen.report import html_page
    from spikegen.runtime.files import write_output

    write_output(path, html_page(document, samples).encode("utf-8", "replace"))
