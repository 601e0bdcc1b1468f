"""The measurement of the predicted noise against one written by hand, and everything that must not change it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.diffusion import DDPM
from spikegen.errors import BackendError, ConfigError, OutputError, ProgramError, RecordError
from spikegen.program import digest, load, save
from spikegen.runtime import NoisePower, host_readout, with_noise_power
from spikegen.runtime.noise import ImageNoise
from spikegen.runtime.statistics import measured_steps
from spikegen.simulator import Simulator
from tests.runtime.programs import STEPS, tiny, tiny_tokens
from tests.runtime.test_session import Broken

PIPELINE = tiny()
IMAGES = np.clip(np.random.default_rng(5).standard_normal((3, 1, 4, 4)), -1, 1)


def measurement(images: npt.NDArray[np.float64] = IMAGES, **options: Any) -> NoisePower:
    options = {"every": 13, "seed": 4, **options}
    return NoisePower(PIPELINE, Simulator(PIPELINE.network("denoiser")), images, **options)


def by_hand(t: int) -> float:
    """The mean over images and pixels, with the forward process of the solvers."""
    program = PIPELINE.network("denoiser")
    noised = DDPM(train_steps=STEPS).add_noise(IMAGES, ImageNoise(4, 1 + t).normal(IMAGES.shape), t)
    currents = Simulator(program).evaluate(program.input.quantize(noised), step=t).readouts["noise"]
    predicted = host_readout(next(program.readouts()), currents)
    return sum(float(value) ** 2 for value in predicted.ravel()) / predicted.size


def test_it_measures_the_grid_and_interpolates_between() -> None:
    found = measurement().run()
    assert found.shape == (STEPS,)
    assert found.dtype == np.float64
    for t in (0, 13, 26, 39):
        np.testing.assert_allclose(found[t], by_hand(t), rtol=1e-12)  # another order of summation
    np.testing.assert_allclose(found[14], (found[13] * 12 + found[26]) / 13)
    np.testing.assert_allclose(found[38], (found[26] + found[39] * 12) / 13)
    assert len({*found.tolist()}) > 4


@pytest.mark.parametrize(
    ("steps", "every", "grid"),
    [(40, 13, [0, 13, 26, 39]), (40, 10, [0, 10, 20, 30, 39]), (3, 1, [0, 1, 2]), (3, 9, [0, 2]), (1, 1, [0])],
)
def test_the_grid_holds_the_first_and_the_last_step(steps: int, every: int, grid: list[int]) -> None:
    assert measured_steps(steps, every).tolist() == grid


def test_every_step_measured_is_nothing_interpolated() -> None:
    each = measurement(every=1)
    np.testing.assert_array_equal(each.grid, np.arange(STEPS))
    power = each.run()
    np.testing.assert_array_equal(power[each.grid], power)
    np.testing.assert_array_equal(power[[0, 13, 26, 39]], measurement().run()[[0, 13, 26, 39]])


def test_batches_change_nothing_and_the_seed_does() -> None:
    whole = measurement().run()
    np.testing.assert_array_equal(measurement(batch=2).run(), whole)
    assert (measurement(seed=5).run() != whole).all()


def test_progress_counts_evaluations() -> None:
    seen: list[tuple[int, int]] = []
    measurement(batch=2).run(lambda done, total: seen.append((done, total)))
    assert seen == [(done, 12) for done in (2, 3, 5, 6, 8, 9, 11, 12)]


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_an_interrupted_measurement_goes_on(stop: int, tmp_path: Path) -> None:
    state = tmp_path / "state"
    failing = NoisePower(
        PIPELINE, Broken(PIPELINE.network("denoiser"), stop), IMAGES, every=13, seed=4, state_file=state
    )
    if stop < 4:
        with pytest.raises(BackendError):
            failing.run()
    else:
        failing.run()
    assert failing.completed == stop
    second = measurement(state_file=state)
    assert second.completed == stop
    np.testing.assert_array_equal(second.run(), measurement().run())


@pytest.mark.parametrize(
    ("options", "different"),
    [({"seed": 5}, "seed"), ({"every": 12}, "every"), ({"images": IMAGES[:2]}, "images, count"),
     ({"images": -IMAGES}, "images")],
)  # fmt: skip
def test_the_state_of_another_measurement_is_refused(options: dict[str, Any], different: str, tmp_path: Path) -> None:
    measurement(state_file=tmp_path / "state").step()
    with pytest.raises(RecordError, match=rf"state of another measurement \(different: {different}\)"):
        measurement(**options, state_file=tmp_path / "state")


@pytest.mark.parametrize(
    "change",
    [
        {"power": [0.5] * 5},
        {"power": [True]},
        {"power": [1]},
        {"power": [-0.5]},
        {"power": {"0": 0.5}},
        {"power": None},
        {"format": "spikegen-state"},
        {"version": 2},
        {"identity": 3},
        None,
        '{"power": [NaN]',
        "[" * 100_000,
        '{"format": "spikegen-statistics", "version": 1, "identity": {}, "power": [Infinity]}',
    ],
)
def test_a_damaged_state_is_refused(change: Any, tmp_path: Path) -> None:
    state = tmp_path / "state"
    measurement(state_file=state).step()
    if isinstance(change, dict):
        state.write_text(json.dumps({**json.loads(state.read_text()), **change}))
    else:
        state.write_bytes(b"\xff\0" if change is None else change.encode())
    with pytest.raises(RecordError, match="not a readable state file"):
        measurement(state_file=state)


def test_a_state_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spikegen.runtime.statistics.STATE_BYTES_MAX", 10)
    (tmp_path / "state").write_text(" " * 11)
    with pytest.raises(RecordError, match="larger than 10 bytes"):
        measurement(state_file=tmp_path / "state")
    with pytest.raises(OutputError, match="does not exist"):
        measurement(state_file=tmp_path / "no" / "state")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": IMAGES[:, :, :3]}, "the denoiser takes"),
        ({"images": IMAGES[:0]}, "with N >= 1"),
        ({"images": IMAGES * 2}, "outside of -1..1"),
        ({"images": IMAGES * np.nan}, "outside of -1..1"),
        ({"every": 0}, "every is 0"),
        ({"batch": 0}, "batch 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_what_cannot_be_measured_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        measurement(**options)


def test_only_an_image_diffusion_is_measured() -> None:
    tokens = tiny_tokens()
    with pytest.raises(ConfigError, match="is a TokenDiffusion: only an ImageDiffusion predicts noise"):
        NoisePower(tokens, Simulator(tokens.network("denoiser")), IMAGES)
    with pytest.raises(ConfigError, match="is a TokenDiffusion"):
        with_noise_power(tokens, np.zeros(STEPS), "")


def test_the_pipeline_holds_what_was_measured(tmp_path: Path) -> None:
    power = measurement().run()
    made = with_noise_power(PIPELINE, power, "by hand")
    save(made, tmp_path / "made.h5")
    loaded = load(tmp_path / "made.h5")
    np.testing.assert_array_equal(getattr(loaded.host, "noise_power"), power)  # noqa: B009 (of one kind of host)
    assert loaded.provenance["noise_power"] == "by hand"
    assert digest(loaded) == digest(made) != digest(PIPELINE)
    assert digest(loaded.network("denoiser")) == digest(PIPELINE.network("denoiser"))
    with pytest.raises(ProgramError, match="noise_power has shape"):
        save(with_noise_power(PIPELINE, power[1:], ""), tmp_path / "bad.h5")
    with pytest.raises(ProgramError, match="noise_power must be finite"):
        save(with_noise_power(PIPELINE, -power, ""), tmp_path / "bad.h5")
