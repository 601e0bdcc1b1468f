"""Fine-tuning on the integer grid: it learns, what it writes is what learnt, and it goes on where it stopped."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikegen.errors import CheckpointError, ConfigError, OutputError, SpikegenError
from spikegen.lowering.export import export_model
from spikegen.models import Checkpoint, UNetConfig
from spikegen.program import (
    ImageDiffusion,
    Lif,
    Pipeline,
    Readout,
    TokenDiffusion,
    digest,
    load,
    overflow_risks,
    save,
    validate_pipeline,
)
from spikegen.runtime.readout import host_readout
from spikegen.simulator import Simulator
from spikegen.training import Progress, Recipe, untrained
from spikegen.training import tuning as module
from spikegen.training.program_network import ProgramNetwork
from spikegen.training.tuning import GROUPS, Tuner, Tuning, noise_loss, systematic_error
from tests.training.recipes import TINY_TOKENS
from tests.training.states import assert_same_state, saved, state

SIZES = UNetConfig(image_size=8, width=4, multipliers=(1,), timesteps=2, diffusion_steps=10)
RECIPE = Recipe(model=SIZES)
SHORT = Tuning(iterations=4, batch_size=8, learning_rate=0.1, warmup=1)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return dataclasses.replace(untrained(RECIPE), source="small", digest="0" * 64)


@pytest.fixture(scope="module")
def pipeline(checkpoint: Checkpoint) -> Pipeline:
    return export_model(checkpoint, "small")


def test_the_loss_falls_and_the_simulator_agrees(pipeline: Pipeline, tmp_path: Path) -> None:
    seen: list[Progress] = []
    tuner = Tuner(pipeline, tmp_path, Tuning(iterations=25, batch_size=16, learning_rate=1e-2, warmup=3))
    tuned = tuner.run(on_progress=seen.append)
    assert [progress.iteration for progress in seen] == list(range(1, 26))
    assert all(progress.iterations == 25 and math.isfinite(progress.loss) for progress in seen)
    assert tuned.loss_after < 0.95 * tuned.loss_before
    denoiser = tuned.pipeline.network("denoiser")
    assert noise_loss(ProgramNetwork(denoiser), tuner.task, 0) == tuned.loss_after
    assert _simulated_loss(tuned.pipeline, tuner) == pytest.approx(tuned.loss_after, rel=1e-6)
    assert _simulated_loss(pipeline, tuner) == pytest.approx(tuned.loss_before, rel=1e-6)


def _simulated_loss(pipeline: Pipeline, tuner: Tuner) -> float:
    """What :func:`noise_loss` measures, on the simulator."""
    program, generator = pipeline.network("denoiser"), torch.Generator().manual_seed(1)
    readout, losses = next(program.readouts()), []
    for _ in range(module.EVALUATION_BATCHES):
        noisy, t, noise = tuner.task.batch(generator)
        for step in t.unique().tolist():
            frames = program.input.quantize(noisy[t == step].double().numpy())
            currents = Simulator(program).evaluate(frames, step).readouts[readout.name]
            losses += list((host_readout(readout, currents) - noise[t == step].numpy()) ** 2)
    return float(np.mean(losses))


def test_what_is_written(pipeline: Pipeline, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Only weights, biases and the host's readout differ; the measured power of the old network is gone; the run is on
    record."""
    measured = dataclasses.replace(pipeline, host=ImageDiffusion("squaredcos_cap_v2", noise_power=np.ones(10)))
    tuned = Tuner(measured, tmp_path / "state", SHORT, checkpoint).run()
    validate_pipeline(tuned.pipeline)
    save(tuned.pipeline, tmp_path / "tuned.h5")
    assert digest(load(tmp_path / "tuned.h5")) == digest(tuned.pipeline)
    assert isinstance(tuned.pipeline.host, ImageDiffusion)
    assert tuned.pipeline.host.noise_power.size == 0
    assert tuned.pipeline.host.beta_schedule == "squaredcos_cap_v2"
    old, new = pipeline.network("denoiser"), tuned.pipeline.network("denoiser")
    for before, after in zip((*old.populations, *old.projections), (*new.populations, *new.projections), strict=True):
        for field in dataclasses.fields(before):
            if field.name not in ("weight", "bias_mant") and (type(before), field.name) != (Readout, "bias"):
                np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))
    assert any((a.weight != b.weight).any() for a, b in zip(old.projections, new.projections, strict=True))
    assert any(
        (a.bias_mant != b.bias_mant).any()
        for a, b in zip(old.populations, new.populations, strict=True)
        if isinstance(a, Lif) and isinstance(b, Lif)
    )
    assert (next(old.readouts()).bias != next(new.readouts()).bias).any()
    assert new.report["overflow_risks"] == overflow_risks(new) == []
    notes = json.loads(tuned.pipeline.provenance["tuning"])
    assert notes == new.report["tuning"]
    assert notes["tuning"] == dataclasses.asdict(SHORT)
    assert (notes["iterations"], notes["teacher"]) == (4, "0" * 64)
    assert (notes["loss_before"], notes["loss_after"]) == (tuned.loss_before, tuned.loss_after)
    assert tuned.pipeline.provenance["tuned_from"] == notes["pipeline"] == digest(measured)
    assert tuned.pipeline.provenance["dataset"] == "digits"


def test_a_resumed_run_equals_an_unbroken_one(pipeline: Pipeline, checkpoint: Checkpoint, tmp_path: Path) -> None:
    whole = Tuner(pipeline, tmp_path / "whole", SHORT, checkpoint).run()
    Tuner(pipeline, tmp_path / "parts", SHORT, checkpoint).run(until=2)
    resumed = Tuner(pipeline, tmp_path / "parts", SHORT, checkpoint)
    assert resumed.iteration == 2
    torch.manual_seed(99)  # what the rest of the process does to torch's generator does not matter
    parts = resumed.run()
    assert_same_state(state(tmp_path / "parts"), state(tmp_path / "whole"))
    assert digest(parts.pipeline) == digest(whole.pipeline)
    again = Tuner(pipeline, tmp_path / "parts", SHORT, checkpoint).run()
    assert digest(again.pipeline) == digest(whole.pipeline)


def test_the_teacher_counts(pipeline: Pipeline, checkpoint: Checkpoint, tmp_path: Path) -> None:
    losses = []
    for weight in (0.0, 0.5, 1.0):
        settings = dataclasses.replace(SHORT, teacher_weight=weight)
        tuner = Tuner(pipeline, tmp_path / str(weight), settings, checkpoint)
        tuner.run(until=1)
        losses.append(tuner.loss)
    alone = Tuner(pipeline, tmp_path / "alone", SHORT)
    alone.run(until=1)
    assert alone.loss == losses[0] < losses[1] < losses[2]
    assert losses[2] - losses[0] == pytest.approx(2 * (losses[1] - losses[0]), rel=1e-4)


def test_bounds_are_held_in_training_and_in_the_average(
    pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[ProgramNetwork] = []
    monkeypatch.setattr(module, "hold_bounds", held.append)
    tuner = Tuner(pipeline, tmp_path, SHORT)
    tuner.run(until=2)
    assert len(held) == 3
    assert held[:2] == [tuner.network] * 2
    assert_same_state(held[2].state_dict(), tuner.average.state_dict())


def test_the_average_follows_the_weights(pipeline: Pipeline, tmp_path: Path) -> None:
    tuner = Tuner(pipeline, tmp_path, dataclasses.replace(SHORT, ema_decay=0.15))
    average = [values.detach().clone() for values in tuner.network.parameters()]
    for iteration in (1, 2, 3):
        tuner._iterate()
        decay = min(0.15, iteration / (iteration + 10))
        average = [
            old * decay + new.detach() * (1 - decay)
            for old, new in zip(average, tuner.network.parameters(), strict=True)
        ]
    for found, wanted in zip(tuner.average.parameters(), average, strict=True):
        torch.testing.assert_close(found.detach(), wanted)


def test_a_loss_that_is_not_finite_stops_the_run(pipeline: Pipeline, checkpoint: Checkpoint, tmp_path: Path) -> None:
    broken = copy.deepcopy(checkpoint)
    with torch.no_grad():
        for parameter in broken.model.parameters():
            parameter.fill_(math.nan)
    with pytest.raises(SpikegenError, match=r"iteration 1: the loss is nan; lower the learning rate"):
        Tuner(pipeline, tmp_path, SHORT, broken).run()
    assert not (tmp_path / "state.pt").exists()


def test_the_state_of_another_run_is_refused(pipeline: Pipeline, checkpoint: Checkpoint, tmp_path: Path) -> None:
    Tuner(pipeline, tmp_path, SHORT).run(until=1)
    for settings, teacher in ((dataclasses.replace(SHORT, seed=1), None), (SHORT, checkpoint)):
        with pytest.raises(CheckpointError, match=r"state\.pt: the state of another run .* delete it to begin again"):
            Tuner(pipeline, tmp_path, settings, teacher)
    whole = state(tmp_path)
    for data in {
        "text": b"not a state",
        "half": saved(whole)[:1000],
        "list": saved([1]),
        "done": saved({**whole, "iteration": 5}),
        "network": saved({**whole, "network": {}}),
        "no optimizer": saved({**whole, "optimizer": {}}),
    }.values():
        (tmp_path / "state.pt").write_bytes(data)
        with pytest.raises(CheckpointError, match="not a readable tuning state"):
            Tuner(pipeline, tmp_path, SHORT)


def test_pipelines_that_cannot_be_tuned(pipeline: Pipeline, tmp_path: Path) -> None:
    tokens = dataclasses.replace(pipeline, host=TokenDiffusion(np.zeros((4, 2)), 16))
    with pytest.raises(ConfigError, match=r"^small is a TokenDiffusion pipeline; only the denoiser of an ImageDiffus"):
        Tuner(tokens, tmp_path)
    for provenance, message in (
        ({}, "its provenance names no data set to tune on"),
        ({"dataset": "dragons"}, "unknown data set 'dragons'"),
        ({"dataset": "digits@16"}, "the images of digits@16 are 1 x 16 x 16"),
        ({"dataset": "digits", "held_out": "many"}, "its provenance says that 'many' images were held out"),
    ):
        with pytest.raises(ConfigError, match=message):
            Tuner(dataclasses.replace(pipeline, provenance=provenance), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/below: the output folder cannot be written"):
        Tuner(pipeline, tmp_path / "file" / "below")


def test_teachers_that_do_not_fit(pipeline: Pipeline, tmp_path: Path) -> None:
    other = untrained(dataclasses.replace(RECIPE, model=dataclasses.replace(SIZES, diffusion_steps=20)), 1)
    with pytest.raises(ConfigError, match=r"diffusion steps \(1, 8, 8, 20\), small takes \(1, 8, 8, 10\)"):
        Tuner(pipeline, tmp_path, SHORT, other)
    with pytest.raises(ConfigError, match="the teacher must predict the noise of images"):
        Tuner(pipeline, tmp_path, SHORT, untrained(TINY_TOKENS, 1))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iterations", 0),
        ("batch_size", 1),
        ("warmup", -1),
        ("seed", -1),
        ("learning_rate", 0.0),
        ("learning_rate", math.inf),
        ("gradient_clip", -1.0),
        ("ema_decay", 1.0),
        ("teacher_weight", -0.5),
        ("bias_weight", -1.0),
        ("bias_weight", math.nan),
    ],
)
def test_settings_out_of_range(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"^Tuning.{field} is {value}; it must be"):
        dataclasses.replace(Tuning(), **{field: value})


def test_the_systematic_error_is_offset_noise_and_image_of_neighbouring_noise_levels() -> None:
    """By hand: every group has its own offset and shares, beside what is orthogonal to all three."""
    rng = np.random.default_rng(0)
    alphas = np.linspace(0.05, 0.95, GROUPS * 6)
    taught, noisy, rest = rng.standard_normal((3, GROUPS, 6 * 16))
    sigma = np.sqrt(1 - alphas).repeat(16).reshape(GROUPS, -1)
    image = noisy / sigma - taught
    shares = rng.uniform(-0.2, 0.2, (GROUPS, 3))
    directions = np.stack([np.ones_like(taught), taught, image], 2)
    expected, distance = [], []
    for group in range(GROUPS):
        part = directions[group] @ shares[group]
        fitted, *_ = np.linalg.lstsq(directions[group], rest[group], rcond=None)
        distance.append(part + rest[group] - directions[group] @ fitted)
        expected.append(np.mean(part**2))
    shuffled = torch.from_numpy(rng.permutation(len(alphas)))

    def images(values: object) -> torch.Tensor:
        return torch.from_numpy(np.asarray(values).reshape(-1, 1, 4, 4))[shuffled]

    levels = torch.from_numpy(alphas)[shuffled]
    predicted = images(taught + np.stack(distance))
    found = systematic_error(predicted, images(taught), images(noisy), levels)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-9)
    assert float(systematic_error(images(taught), images(taught), images(noisy), levels)) == 0.0
    # errors of opposite sign at low and at high noise do not make up for each other
    halves = images(taught * np.where(np.arange(GROUPS) < GROUPS // 2, 0.9, 1.1)[:, None])
    expected_halves = 0.01 * float(np.mean(taught**2))
    assert float(systematic_error(halves, images(taught), images(noisy), levels)) == pytest.approx(expected_halves)


def test_the_systematic_error_takes_back_what_tuning_by_the_mean_square_loses(
    pipeline: Pipeline, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    """With its weight, the tuned network predicts neither too little nor too much noise."""
    slopes = {}
    for weight in (0.0, 100.0):
        tuning = Tuning(iterations=40, batch_size=32, learning_rate=1e-2, warmup=3, bias_weight=weight)
        tuner = Tuner(pipeline, tmp_path / str(weight), tuning, checkpoint)
        network = ProgramNetwork(tuner.run().pipeline.network("denoiser"))
        generator = torch.Generator().manual_seed(3)
        noisy, t = (
            torch.cat(parts) for parts in zip(*[tuner.task.batch(generator)[:2] for _ in range(16)], strict=True)
        )
        with torch.no_grad():
            predicted, taught = network(noisy, t), checkpoint.model.eval()(noisy, t).double()
        slopes[weight] = float((predicted * taught).mean() / taught.square().mean())
    assert abs(slopes[100.0] - 1) < 0.5 * abs(slopes[0.0] - 1)
