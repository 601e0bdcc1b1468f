"""Model files: energy and time models as TOML, to be read, edited and given to ``spikegen report --energy-model``.

::

    format = "spikegen-model"
    version = 1
    name = "my_model"               # a-z, 0-9 and _
    title = "one line for tables"

    [energy]                        # [energy], [time] or both
    not_billed = "what the prices leave out"

    [[energy.price]]
    operation = "binary_synops"     # a key of OPERATIONS or MAPPED, or ann_macs
    value = 0.9                     # or [least, greatest]
    unit = "pJ"
    meaning = "what the figure stands for"
    source = "where it was published"
    certainty = "how it was obtained"

    [time]
    left_out = "what the durations leave out"
    checked = "comparison with a measurement"  # may be absent

    [[time.duration]]               # the same keys, unit = "ns"
    operation = "conv_synops"       # a key of TIMED

Every key is demanded but ``checked``, and no other is allowed. All prices of synaptic operations in one model are for
one way of counting them: by kind of message or by form of storage, with or without zero weights.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from spikegen.energy.mapped import MAPPED, TIMED
from spikegen.energy.models import Constant, EnergyModel, TimeModel
from spikegen.energy.operations import OPERATIONS
from spikegen.errors import ConfigError

FORMAT, VERSION = "spikegen-model", 1
FILE_BYTES_MAX = 1 << 16
VALUE_MAX = 1e12  # [pJ] or [ns]: a joule, a quarter of an hour
ANN = "ann_macs"  # the multiply-accumulates of the dense ANN, priced apart
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_WAYS = (
    ("binary_synops", "graded_synops", "analog_macs"),
    ("binary_synops_effective", "graded_synops_effective", "analog_macs_effective"),
    ("conv_synops", "dense_synops"),
)


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds; at least one of the two models.

    Attributes:
        name: of the models.
        energy: prices.
        time: durations.
    """

    name: str
    energy: EnergyModel | None
    time: TimeModel | None


def read_model(path: str | os.PathLike[str]) -> ModelFile:
    """Read and check a model file.

    Raises:
        ConfigError: missing, too large, no TOML, or not as the format demands; names the file and the key.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ConfigError(f"{path}: a model file is an ordinary file")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ConfigError(f"{path}: {path.stat().st_size} bytes, a model file has at most {FILE_BYTES_MAX}")
        document = tomli.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror or error}; `spikegen report --write-model` makes a model file"
        ) from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or nested too deep
        raise ConfigError(f"{path}: not a TOML file: {error}") from error
    try:
        return _model(document)
    except _BadKeyError as error:
        raise ConfigError(f"{path}: {error}") from None


class _BadKeyError(Exception):
    """A key that is not as the format demands: "key: what is wrong"."""


def _model(document: dict[str, Any]) -> ModelFile:
    if document.get("format") != FORMAT:
        raise _BadKeyError(f"format: this is no model file, which has format = {FORMAT!r}")
    if document.get("version") != VERSION or isinstance(document["version"], bool):
        raise _BadKeyError(f"version: it is {document.get('version')!r}, this spikegen reads version {VERSION}")
    _check_keys(document, "", ("format", "version", "name", "title"), ("energy", "time"))
    name, title = (_text(document, "", key) for key in ("name", "title"))
    if not _NAME.fullmatch(name):
        raise _BadKeyError(f"name: {name!r} must be at most 64 of a-z, 0-9 and _, and begin with a letter")
    if not document.keys() & {"energy", "time"}:
        raise _BadKeyError("energy: the file has neither [energy] nor [time]")
    energy = _energy(name, title, document["energy"]) if "energy" in document else None
    time = _time(name, title, document["time"]) if "time" in document else None
    return ModelFile(name, energy, time)


def _energy(name: str, title: str, section: Any) -> EnergyModel:
    _check_keys(section, "energy", ("not_billed", "price"))
    found = _constants(section["price"], "energy.price", "pJ", (*OPERATIONS, *MAPPED, ANN))
    ann = next((price for price in found if price.operation == ANN), None)
    if ann is not None and ann.low != ann.high:
        raise _BadKeyError(f"energy.price: {ANN} has a range; the network is compared with one figure of the ANN")
    prices = tuple(price for price in found if price is not ann)
    return EnergyModel(name, title, prices, _text(section, "energy", "not_billed"), ann)


def _time(name: str, title: str, section: Any) -> TimeModel:
    _check_keys(section, "time", ("left_out", "duration"), ("checked",))
    durations = _constants(section["duration"], "time.duration", "ns", TIMED)
    checked = _text(section, "time", "checked") if "checked" in section else ""
    return TimeModel(name, title, durations, _text(section, "time", "left_out"), checked)


def _constants(items: Any, where: str, unit: str, allowed: Collection[str]) -> tuple[Constant, ...]:
    if not isinstance(items, list) or not items:
        raise _BadKeyError(f"{where}: at least one [[{where}]] is needed")
    found = tuple(_constant(item, f"{where}[{index}]", unit, allowed) for index, item in enumerate(items))
    names = [constant.operation for constant in found]
    for name in names:
        if names.count(name) > 1:
            raise _BadKeyError(f"{where}: {name} is there {names.count(name)} times")
    ways = [[name for name in way if name in names] for way in _WAYS]
    if sum(map(bool, ways)) > 1:
        seen = " beside ".join(names[0] for names in ways if names)
        raise _BadKeyError(f"{where}: {seen} would count synaptic operations twice; use one way of counting them")
    return found


def _constant(item: Any, where: str, unit: str, allowed: Collection[str]) -> Constant:
    texts = ("operation", "unit", "meaning", "source", "certainty")
    _check_keys(item, where, (*texts, "value"))
    operation, given, meaning, source, certainty = (_text(item, where, key) for key in texts)
    if operation not in allowed:
        raise _BadKeyError(f"{where}.operation: {operation!r} is none of {', '.join(allowed)}")
    if given != unit:
        raise _BadKeyError(f"{where}.unit: it is {given!r}, it must be {unit!r}")
    low, high = _range(item["value"], f"{where}.value")
    return Constant(operation, low, high, unit, meaning, source, certainty)


def _range(value: Any, where: str) -> tuple[float, float]:
    ends = value if isinstance(value, list) and len(value) == 2 else [value, value]
    for end in ends:
        if isinstance(end, bool) or not isinstance(end, int | float):
            raise _BadKeyError(f"{where}: it must be a number or two, [least, greatest]")
        if not 0 <= end <= VALUE_MAX:  # false for nan
            raise _BadKeyError(f"{where}: it must be from 0 to {VALUE_MAX:g}")
    if ends[0] > ends[1]:
        raise _BadKeyError(f"{where}: the least, {ends[0]}, is above the greatest, {ends[1]}")
    return float(ends[0]), float(ends[1])


def _text(table: dict[str, Any], where: str, key: str) -> str:
    text = table[key]
    if not isinstance(text, str) or not text.strip() or not text.isprintable():  # it will be shown in a terminal
        raise _BadKeyError(f"{_at(where, key)}: it must be one line of printable text that is not empty")
    return text


def _check_keys(table: Any, where: str, needed: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    if not isinstance(table, dict):
        raise _BadKeyError(f"{where}: it must be a table")
    for key in table:
        if key not in (*needed, *optional):
            raise _BadKeyError(f"{_at(where, key)}: unknown key; known are {', '.join((*needed, *optional))}")
    for key in needed:
        if key not in table:
            raise _BadKeyError(f"{_at(where, key)}: missing")


def _at(where: str, key: str) -> str:
    return ascii(f"{where}.{key}" if where else key)[1:-1]
