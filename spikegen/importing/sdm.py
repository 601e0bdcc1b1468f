"""SDM's U-Net: the names of `SDM/TSM.py` (github.com/AndyCao1125/SDM), SDDPM's with a gain per SNN step."""

from __future__ import annotations

import statistics
from pathlib import Path

from spikegen.errors import CheckpointError, ConfigError
from spikegen.importing.files import read_state
from spikegen.importing.sddpm import GAIN_AXES, convert
from spikegen.models import Checkpoint


def import_sdm(
    path: Path,
    *,
    entry: str | None = None,
    timesteps: int | None = None,
    image_size: int | None = None,
    dataset: str | None = None,
    beta_schedule: str | None = None,
) -> Checkpoint:
    """The checkpoint of an SDM (arXiv 2408.16467).

    T is the number of gains. Arguments and errors: as :func:`spikegen.importing.sddpm.import_sddpm`.
    """
    state = read_state(path, entry)
    gains = [len(t) for n, t in state.tensors.items() if n.endswith(".tsmp") and t.ndim == GAIN_AXES + 1]
    if not gains:
        raise CheckpointError(
            f"{path}: has no gains per SNN step (tsmp); if it is an SDDPM, import it with --from sddpm"
        )
    found = statistics.mode(gains)
    if timesteps not in {None, found}:
        raise ConfigError(f"{path}: has gains for {found} SNN steps, not for the {timesteps} asked for")
    return convert(state, "sdm", found, image_size, dataset, beta_schedule)
