import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.errors import OutputError, RecordError
from tests.runtime.programs import tiny
from tests.runtime.test_session import session


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.state"
    run = session(images=2, seed=4, state_file=path)
    run.step()
    run.step()
    return path


def resume(path: Path) -> None:
    session(images=2, seed=4, state_file=path)


def change(path: Path, name: str, edit: Callable[[npt.NDArray[np.float64]], object]) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays[name] = np.asarray(edit(arrays[name]))
    with path.open("wb") as file:
        np.savez(file, **arrays)


def test_nothing_in_it_is_a_pickle(saved: Path) -> None:
    with np.load(saved, allow_pickle=False) as archive:
        assert {name: archive[name].dtype.name for name in archive} == {
            "document": "uint8",
            "sample": "float64",
            "outputs": "float64",
            "samples": "float64",
        }


@pytest.mark.parametrize("kept", [0, 1, 100, 400, -1])
def test_truncated(saved: Path, kept: int) -> None:
    saved.write_bytes(saved.read_bytes()[:kept])
    with pytest.raises(RecordError, match="not a readable state file"):
        resume(saved)


def test_any_altered_byte_is_noticed_or_harmless(saved: Path) -> None:
    """The archive has a checksum per array; a byte that is not covered (a date, say) may change without effect."""
    data, whole = saved.read_bytes(), session(images=2, seed=4).run().sample
    noticed = 0
    for place in range(0, len(data), 7):
        saved.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            images = session(images=2, seed=4, state_file=saved).run().sample
        except RecordError:
            noticed += 1
        else:
            np.testing.assert_array_equal(images, whole)
    assert noticed > len(data) // 7 * 0.8


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"PK\x03\x04", b"PK\x05\x06" + bytes(18)],
    ids=["empty", "text", "zip start", "empty zip"],
)
def test_no_state_file_at_all(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.state"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="not a readable state file"):
        resume(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("options", "different"),
    [({"seed": 5}, "seed"), ({"images": 3}, "images"), ({"steps": 4}, "solver"), ({"eta": 0.5}, "solver"),
     ({"name": "ddpm"}, "solver")],
)  # fmt: skip
def test_the_state_of_another_run(saved: Path, options: dict[str, int | str], different: str) -> None:
    before = saved.read_bytes()
    with pytest.raises(RecordError, match=rf"the state of another run \(different: {different}\)"):
        session(**{"images": 2, "seed": 4, **options}, state_file=saved)  # type: ignore[arg-type]
    assert saved.read_bytes() == before


def test_the_state_of_another_pipeline(saved: Path) -> None:
    with pytest.raises(RecordError, match="different: pipeline"):
        session(tiny(size=5), images=2, seed=4, state_file=saved)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        ("sample", lambda a: a[:1], r"sample is float64 \(1, 1, 4, 4\), expected float64 \(2, 1, 4, 4\)"),
        ("sample", lambda a: a.astype(np.float32), "sample is float32"),
        ("sample", np.asfortranarray, "sample is float64"),
        ("sample", lambda a: a * np.nan, "NaN"),
        ("outputs", lambda a: np.zeros((2, *a.shape[1:])), "outputs is float64"),
        ("samples", lambda a: np.zeros((2, *a.shape[1:])), "samples is float64"),
        ("document", lambda a: a.reshape(1, -1), "document is uint8"),
        ("document", lambda a: a[:-1], "not a readable state file"),
    ],
)
def test_arrays_of_another_kind(
    saved: Path, name: str, edit: Callable[[npt.NDArray[np.float64]], object], message: str
) -> None:
    change(saved, name, edit)
    with pytest.raises(RecordError, match=message):
        resume(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", "other"), ("version", 1), ("completed", 1), ("completed", -2), ("counts", []), ("counts", 3),
     ("identity", None), ("identity", {})],
)  # fmt: skip
def test_documents_of_another_kind(saved: Path, key: str, value: object) -> None:
    def edit(document: npt.NDArray[np.float64]) -> object:
        content = json.loads(document.tobytes())
        content[key] = value
        return np.frombuffer(json.dumps(content).encode(), dtype=np.uint8)

    change(saved, "document", edit)
    with pytest.raises(RecordError):
        resume(saved)


def test_a_pickle_is_not_read(saved: Path) -> None:
    change(saved, "sample", lambda a: np.array([[{"evil": a}]], dtype=object))
    with pytest.raises(RecordError, match="sample is object"):
        resume(saved)


def test_a_header_that_declares_terabytes_allocates_nothing(saved: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (1 << 42,)})  # type: ignore[no-untyped-call]
    with zipfile.ZipFile(saved, "w") as archive:
        archive.writestr("document.npy", header.getvalue())
    with pytest.raises(RecordError, match=r"document is uint8 \(4398046511104,\)"):
        resume(saved)


def test_the_folder_is_checked_before_the_first_step(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="does not exist"):
        session(state_file=tmp_path / "nowhere" / "run.state")
