"""Measurements: their files, and what a report makes of them."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from spikegen.energy import (
    Measured,
    MeasuredNetwork,
    Measurement,
    collect,
    encode_measurement,
    read_measurement,
    read_measurements,
)
from spikegen.energy.measured import FILE_BYTES_MAX
from spikegen.errors import RecordError
from tests.runtime.programs import tiny, tiny_tokens

PIPELINE = tiny_tokens()
TIME = Measurement("denoiser", "time", 3, 4, 100, 4800, {"execution_s": 0.8, "host_s": 0.5}, {"BOARD": "ncl-ext-og-01"})
POWER = Measurement(
    "denoiser", "power", 3, 4, 100, 4800, {"total_w": 0.275709, "static_w": 0.281775, "dynamic_w": -0.006066}, {}
)


def test_a_file_comes_back_as_it_was(tmp_path: Path) -> None:
    for measurement in (TIME, POWER):
        path = tmp_path / f"{measurement.kind}.json"
        path.write_bytes(encode_measurement(PIPELINE, measurement))
        assert read_measurement(path, PIPELINE) == measurement
    measured = read_measurements([tmp_path], PIPELINE)
    assert measured == Measured({"denoiser": MeasuredNetwork(TIME, POWER)})
    assert read_measurements([tmp_path / "power.json", tmp_path / "time.json"], PIPELINE) == measured


def test_energy_is_power_times_time_and_keeps_its_sign() -> None:
    network = MeasuredNetwork(TIME, POWER)
    seconds = 0.8 / (4 * 100)  # images x repeats
    assert network.per_evaluation() == pytest.approx(
        {
            "seconds": seconds,
            "total_j": 0.275709 * seconds,
            "static_j": 0.281775 * seconds,
            "dynamic_j": -0.006066 * seconds,
        }
    )
    assert MeasuredNetwork(TIME).per_evaluation() == {"seconds": seconds}
    assert MeasuredNetwork(None, POWER).per_evaluation() == {}  # power without time is no energy


def test_a_sample_is_the_sum_over_what_was_measured_of_every_network() -> None:
    decoder = dataclasses.replace(TIME, network="decoder", values={"execution_s": 0.4})
    measured = collect([TIME, POWER, decoder])
    assert measured.per_sample({"denoiser": 7, "decoder": 1}) == pytest.approx({"seconds": (7 * 0.8 + 0.4) / 400})
    assert set(measured.per_sample({"denoiser": 7})) == {"seconds", "total_j", "static_j", "dynamic_j"}
    assert measured.per_sample({"denoiser": 7, "encoder": 1}) == {}  # nothing is known of the encoder
    document = json.loads(json.dumps(measured.to_dict({"denoiser": 7, "decoder": 1}), allow_nan=False))
    assert document["networks"]["denoiser"]["power"]["values"]["dynamic_w"] == -0.006066
    assert document["networks"]["decoder"]["power"] is None


def test_two_measurements_of_one_thing_are_refused() -> None:
    with pytest.raises(RecordError, match="two measurements of the time of the denoiser"):
        collect([TIME, POWER, TIME])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "other"}, "its format is not 'spikegen-measurement'"),
        ({"version": 2}, "version is 2"),
        ({"pipeline": {"name": "tokens", "digest": "0"}}, "measured with another pipeline"),
        ({"pipeline": None}, "damaged"),
        ({"network": "coder"}, "the pipeline has no 'coder'"),
        ({"network": ["denoiser"]}, "the pipeline has no"),
        ({"kind": "heat"}, "kind is 'heat'"),
        ({"step": -1}, "step is -1"),
        ({"images": 0}, "images is 0"),
        ({"repeats": True}, "repeats is True"),
        ({"timesteps": 1.5}, r"timesteps is 1\.5"),
        ({"values": {}}, "the values of time are"),
        ({"values": {"execution_s": 1, "total_w": 1}}, "the values of time are execution_s, total_w"),
        ({"values": {"execution_s": "1"}}, "execution_s is '1'"),
        ({"values": {"execution_s": True}}, "execution_s is True"),
        ({"values": {"execution_s": float("inf")}}, "execution_s is inf"),
        ({"values": {"execution_s": 10**400}}, "damaged"),
        ({"values": [1]}, "damaged"),
        ({"machine": {"BOARD": "\x1b[31m"}}, "machine holds something else"),
        ({"machine": {"BOARD": 3}}, "machine holds something else"),
        ({"machine": None}, "damaged"),
    ],
)
def test_a_bad_file_is_one_error(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    document = {**json.loads(encode_measurement(PIPELINE, TIME)), **changes}
    path = tmp_path / "m.json"
    path.write_text(json.dumps(document))
    with pytest.raises(RecordError, match=message) as caught:
        read_measurement(path, PIPELINE)
    assert str(caught.value).startswith(f"{path}: ")


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="no such measurement"):
        read_measurement(tmp_path / "absent.json", PIPELINE)
    with pytest.raises(RecordError, match="no measurement"):
        read_measurements([tmp_path], PIPELINE)
    path = tmp_path / "m.json"
    path.write_text("[" * 100_000)
    with pytest.raises(RecordError, match="not a readable measurement"):
        read_measurement(path, PIPELINE)
    path.write_bytes(b" " * (FILE_BYTES_MAX + 1))
    with pytest.raises(RecordError, match=f"at most {FILE_BYTES_MAX}"):
        read_measurement(path, PIPELINE)
    path.write_bytes(encode_measurement(PIPELINE, TIME))
    with pytest.raises(RecordError, match="another pipeline"):
        read_measurement(path, tiny())
