"""Checkpoints of published models under their authors' names and shapes, as checkpoints of spikegen."""

from spikegen.importing.sddpm import import_sddpm
from spikegen.importing.sdm import import_sdm
from spikegen.importing.spiking_diffusion import import_spiking_diffusion

__all__ = ["import_sddpm", "import_sdm", "import_spiking_diffusion"]
