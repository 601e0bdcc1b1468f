"""The argument PIPELINE: a pipeline file, or a checkpoint that is exported on the fly."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from spikegen.errors import LoweringError

if TYPE_CHECKING:
    from spikegen.program import Pipeline


def shipped_models() -> list[str]:
    """Names of the checkpoints inside the package."""
    folder = resources.files("spikegen") / "models" / "checkpoints"
    return sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []


def is_checkpoint(source: str) -> bool:
    """Whether ``source`` names a shipped model or a checkpoint folder; anything else is taken for a pipeline file."""
    return source in shipped_models() or Path(source).is_dir()


def read_pipeline(source: str, say: Callable[[str], None] | None = None) -> Pipeline:
    """The pipeline of ``source``. Only a checkpoint needs torch.

    Args:
        source: path of a pipeline file, name of a shipped model, or a checkpoint folder.
        say: told, in a sentence, of work that takes a while.

    Raises:
        ProgramFileError: missing or damaged pipeline file.
        CheckpointError: damaged checkpoint.
        LoweringError: the model cannot be lowered, or the packages for it are missing.
    """
    if not is_checkpoint(source):
        from spikegen.program import load

        return load(source)
    if say is not None:
        say(f"{source} is a checkpoint: exporting it first (`spikegen export` makes a file that starts at once)")
    try:
        from spikegen.lowering import export_checkpoint
    except ImportError as error:
        raise LoweringError(f"{source}: exporting needs PyTorch ({error}); pip install 'spikegen[torch]'") from error
    pipeline: Pipeline = export_checkpoint(source)
    return pipeline
