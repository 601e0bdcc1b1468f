"""What the tests of pipeline files share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikegen.errors import ProgramFileError
from spikegen.program import load, storage


def assert_same(a: Any, b: Any, where: str = "pipeline") -> None:
    """Equality of every field, with types."""
    assert type(a) is type(b), where
    if dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_same(getattr(a, field.name), getattr(b, field.name), f"{where}.{field.name}")
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype, where
        np.testing.assert_array_equal(a, b, err_msg=where)
    elif isinstance(a, dict):
        assert set(a) == set(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}[{key}]")
    elif isinstance(a, tuple | list):
        assert len(a) == len(b), where
        for index, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}[{index}]")
    else:
        assert a == b, where


def refused(path: Path, *words: str) -> str:
    """The message of ``load``, which names the file and holds ``words``."""
    with pytest.raises(ProgramFileError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message
    return message


def rewritten(path: Path, change: Callable[[h5py.File], None], *, sign: bool) -> None:
    """Change the file; ``sign`` makes its digest right again, as an attacker would."""
    with h5py.File(path, "r+") as file:
        change(file)
        if sign:
            arrays = {name: data[()] for name, data in file["arrays"].items()}
            file.attrs["digest"] = np.bytes_(storage._digest(file["document"][()].tobytes(), arrays))


def edit_document(path: Path, change: Callable[[Any], Any]) -> None:
    """Replace the JSON by what ``change`` returns or leaves, signed."""

    def edit(file: h5py.File) -> None:
        document = json.loads(file["document"][()].tobytes())
        found = change(document)
        text = found if isinstance(found, bytes) else json.dumps(document if found is None else found).encode()
        del file["document"]
        file["document"] = np.frombuffer(text, dtype=np.uint8)

    rewritten(path, edit, sign=True)


def replace_dataset(name: str, **arguments: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file.create_dataset(name, **arguments)

    return change
