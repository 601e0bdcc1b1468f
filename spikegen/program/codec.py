"""A pipeline as one JSON document and the arrays it refers to, and back.

Both directions follow the annotated types of the dataclasses' fields, so a key of a free-form mapping can never be
taken for a type, and a new primitive needs nothing here. An array field with ``metadata=LATER`` is left out where it
is empty, so that files from before it stay as they are.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping
from operator import itemgetter
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from spikegen.program.ir import Program
from spikegen.program.pipeline import Pipeline

Array: TypeAlias = npt.NDArray[Any]


def encode(root: Pipeline | Program) -> tuple[bytes, dict[str, Array]]:
    """The document (UTF-8 JSON) of a pipeline or of one Program, and its arrays by name.

    Raises:
        TypeError, ValueError: a field does not have its annotated type, or ``report`` holds what JSON cannot.
    """
    encoder = _Encoder()
    document = encoder.walk(root, type(root), type(root).__name__.lower())
    return json.dumps(document, sort_keys=True, allow_nan=False).encode(), encoder.arrays


def decode(document: bytes, arrays: Mapping[str, Array]) -> Pipeline:
    """The pipeline of ``document``: every field must be there, have its annotated type, and nothing else may be.

    Raises:
        TypeError, ValueError, OverflowError, RecursionError: it is not such a document.
    """
    decoder = _Decoder(arrays)
    pipeline: Pipeline = decoder.walk(json.loads(document, parse_constant=_refuse_constant), Pipeline, "document")
    if decoder.unused:
        raise ValueError(f"nothing refers to the arrays {sorted(decoder.unused)}")
    return pipeline


class _Walker(ABC):
    """Follows annotated types; the directions differ only in what becomes of arrays, dataclasses and sequences."""

    def __init__(self) -> None:
        self._fields: dict[type, Mapping[str, Any]] = {}

    @abstractmethod
    def array(self, value: Any, dtype: np.dtype[Any], where: str) -> Any:
        """An array field."""

    @abstractmethod
    def record(self, value: Any, classes: tuple[type, ...], where: str) -> Any:
        """A dataclass field; ``classes`` are those it may have."""

    def walk(self, value: Any, hint: Any, where: str) -> Any:
        """One value of annotated type ``hint``; ``where`` names it in errors."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if hasattr(origin, "__value__"):  # a `type` statement of Python 3.12: that is what NDArray is in numpy 2.5
            hint = origin.__value__[arguments]
            origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in {types.UnionType, typing.Union}:
            return self._one_of(value, arguments, where)
        if origin is tuple:
            return self._tuple(value, arguments, where)
        if origin is np.ndarray:
            return self.array(value, np.dtype(typing.get_args(arguments[1])[0]), where)
        if origin is not None:  # Mapping[str, X]
            # in one order, because arrays are named in the order in which they are met
            items = sorted(_items(value, where), key=itemgetter(0))
            return {key: self.walk(item, arguments[1], f"{where}[{key}]") for key, item in items}
        if dataclasses.is_dataclass(hint):
            return self.record(value, (typing.cast(type, hint),), where)
        return _plain(value, where) if hint is Any else _leaf(value, hint, where)

    def fields(self, cls: type) -> Mapping[str, Any]:
        """Name and annotated type of every field of a dataclass."""
        if cls not in self._fields:  # evaluating the annotations takes longer than all the rest
            hints = typing.get_type_hints(cls)
            self._fields[cls] = {field.name: hints[field.name] for field in dataclasses.fields(cls)}
        return self._fields[cls]

    def _one_of(self, value: Any, classes: tuple[type, ...], where: str) -> Any:
        """A record of one of ``classes``, or None where that is among them."""
        if value is None and types.NoneType in classes:
            return None
        return self.record(value, tuple(kind for kind in classes if kind is not types.NoneType), where)

    def _tuple(self, value: Any, hints: tuple[Any, ...], where: str) -> Any:
        if not isinstance(value, tuple | list):
            raise TypeError(f"{where} is {value!r}, expected a list")
        inner = [hints[0]] * len(value) if hints[-1] is Ellipsis else list(hints)
        if len(inner) != len(value):
            raise ValueError(f"{where} has {len(value)} items, expected {len(inner)}")
        return tuple(self.walk(item, kind, where) for item, kind in zip(value, inner, strict=True))


class _Encoder(_Walker):
    def __init__(self) -> None:
        super().__init__()
        self.arrays: dict[str, Array] = {}

    def array(self, value: Any, dtype: np.dtype[Any], where: str) -> dict[str, str]:
        name = f"{len(self.arrays):06d}"
        self.arrays[name] = _array_of(value, dtype, where)
        return {"array": name}

    def record(self, value: Any, classes: tuple[type, ...], where: str) -> dict[str, Any]:
        if type(value) not in classes:
            raise TypeError(f"{where} is a {type(value).__name__}, expected {_names(classes)}")
        kind = type(value).__name__
        found = {"type": kind}
        for name, hint in self.fields(type(value)).items():
            item = getattr(value, name)
            if name not in _optional(type(value)) or np.size(item):
                found[name] = self.walk(item, hint, f"{kind}.{name}")
        return found


class _Decoder(_Walker):
    def __init__(self, arrays: Mapping[str, Array]) -> None:
        super().__init__()
        self.arrays, self.unused = arrays, set(arrays)

    def array(self, value: Any, dtype: np.dtype[Any], where: str) -> Array:
        name = value["array"] if isinstance(value, dict) and set(value) == {"array"} else None
        if not isinstance(name, str) or name not in self.arrays:
            raise ValueError(f"{where} must refer to an array of the file")
        self.unused.discard(name)
        return _array_of(self.arrays[name], dtype, where)

    def record(self, value: Any, classes: tuple[type, ...], where: str) -> Any:
        kinds: dict[Any, type] = {cls.__name__: cls for cls in classes}
        kind = value.get("type") if isinstance(value, dict) else value
        if not isinstance(value, dict) or not isinstance(kind, str) or kind not in kinds:
            raise ValueError(f"{where} has type {kind!r}, expected {_names(classes)}")
        fields, given = self.fields(kinds[kind]), set(value) - {"type"}
        if not set(fields) - _optional(kinds[kind]) <= given <= set(fields):
            raise ValueError(f"{kind} has fields {sorted(given)}, expected {sorted(fields)}")
        return kinds[kind](
            **{name: self.walk(value[name], fields[name], f"{kind}.{name}") for name in fields if name in given}
        )


def _optional(cls: type) -> frozenset[str]:
    """The fields of a dataclass that a document has only where they are not empty."""
    return frozenset(field.name for field in dataclasses.fields(cls) if field.metadata.get("omitted_if_empty"))


def _names(classes: tuple[type, ...]) -> str:
    return " or ".join(cls.__name__ for cls in classes)


def _array_of(value: Any, dtype: np.dtype[Any], where: str) -> Array:
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        raise TypeError(f"{where} must be an array of {dtype.name}")
    return value


def _items(value: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise TypeError(f"{where} must be a mapping with text keys")
    return list(value.items())


def _leaf(value: Any, hint: type, where: str) -> Any:
    value = value.item() if isinstance(value, np.generic) else value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"{where} is {value!r}, expected {hint.__name__}")
    return value


def _plain(value: Any, where: str) -> Any:
    """A value of a free-form field, as JSON has it."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{where}[{key}]") for key, item in _items(value, where)}
    if isinstance(value, tuple | list):
        return [_plain(item, where) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise TypeError(f"{where} holds a {type(value).__name__}, which JSON cannot")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"the document holds {name}, which is not a number")
