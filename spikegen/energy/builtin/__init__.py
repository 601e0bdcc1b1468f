"""The models that come with spikegen: model files beside this module, read once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from spikegen.energy.model_file import ModelFile, read_model
from spikegen.energy.models import EnergyModel, TimeModel

FOLDER = Path(__file__).parent
FILES: Mapping[str, ModelFile] = MappingProxyType(
    {path.stem: read_model(path) for path in sorted(FOLDER.glob("*.toml"))}
)
MODELS: Mapping[str, EnergyModel] = MappingProxyType(
    {name: file.energy for name, file in FILES.items() if file.energy is not None}
)
TIME_MODELS: Mapping[str, TimeModel] = MappingProxyType(
    {name: file.time for name, file in FILES.items() if file.time is not None}
)
OWN = "my_"  # in front of the name of a copy, so that no edited figure goes under a published name


def template(name: str) -> str:
    """The file of the built-in model ``name``, to be edited: its name in the file begins with ``my_``.

    Raises:
        KeyError: there is none of this name.
    """
    text = (FOLDER / f"{FILES[name].name}.toml").read_text(encoding="utf-8")
    return text.replace(f'name = "{name}"', f'name = "{OWN}{name}"', 1)
