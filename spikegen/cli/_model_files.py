"""Model files of open formats, compared by `spikegen verify`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from rich.console import Console

    from spikegen.exporters.onnx import ModelFile
    from spikegen.program import Pipeline
    from spikegen.verification.model_file import FileResult

_KINDS = {
    "network": "network",
    "input": "host's part before the network",
    "readout": "host's part behind the network",
}


def open_models(paths: Sequence[Path], pipeline: Pipeline) -> list[ModelFile]:
    """The ONNX files, checked, each with its network of ``pipeline``."""
    if not paths:
        return []
    from spikegen.exporters.onnx import open_model

    return [open_model(path, pipeline) for path in paths]


def verify_models(
    models: Sequence[ModelFile],
    cases: Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]],
    say: Callable[[str], None],
) -> list[FileResult]:
    """The files on the inputs and conditioning steps of their networks (role -> both)."""
    if not models:
        return []
    from spikegen.verification.model_file import verify_model

    results = []
    for model in models:
        say(f"running {model.path.name}")
        results.append(verify_model(model, *cases[model.role]))
    return results


def print_file(console: Console, result: FileResult) -> None:
    """A table of the outputs of a file, and whether they are equal."""
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{Path(result.file).name}: values that differ from the simulator's")
    table = Table(title=title, title_justify="left")
    table.add_column("output", overflow="fold", min_width=19)
    for heading in ("values", "not 0", "differing"):
        table.add_column(heading, justify="right")
    for row in result.outputs:
        table.add_row(Text(row.output), f"{row.values:,}", f"{row.nonzero:,}", f"{row.differing:,}")
    console.print(table)
    console.print(
        Text(
            f"{result.file}, the {_KINDS[result.kind]} ({result.network}): in ONNX Runtime it is "
            f"{'equal to' if result.equal else 'NOT EQUAL to'} the simulator"
        ),
        soft_wrap=True,
    )
