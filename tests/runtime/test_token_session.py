"""Sessions whose sample is a grid of tokens."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from spikegen.diffusion import Absorbing, default_solver
from spikegen.errors import ConfigError, RecordError
from spikegen.program import Evaluation, Pipeline, TokenDiffusion
from spikegen.runtime import SampleResult, Session, host_readout
from spikegen.runtime.noise import ImageNoise
from spikegen.simulator import Simulator
from tests.runtime.programs import CODES, GRID, tiny_tokens

PIPELINE = tiny_tokens()


def session(pipeline: Pipeline = PIPELINE, steps: int = 6, temperature: float = 1.0, **options: Any) -> Session:
    solver = default_solver(pipeline, temperature=temperature)
    return Session(pipeline, Simulator(pipeline.network("denoiser")), solver, steps=steps, **options)


def assert_same(one: SampleResult, other: SampleResult) -> None:
    np.testing.assert_array_equal(one.sample, other.sample)
    assert one.trajectory is not None
    assert other.trajectory is not None
    np.testing.assert_array_equal(one.trajectory, other.trajectory)
    assert one.counts == other.counts


@pytest.mark.parametrize("steps", [1, 4, 6])
def test_the_loop_is_the_one_written_by_hand(steps: int) -> None:
    result = session(steps=steps, images=3, seed=5, temperature=0.65).run()
    program = PIPELINE.network("denoiser")
    solver = Absorbing(5, 6, 0.65)
    solver.set_timesteps(steps)
    tokens, counts, trajectory = np.full((3, *GRID), CODES), [], []
    for index, t in enumerate(solver.timesteps.tolist()):
        frames = np.stack([tokens, np.full_like(tokens, t)], axis=1).astype(np.int32)
        evaluation = Simulator(program).evaluate(frames, step=0)
        logits = host_readout(next(program.readouts()), evaluation.readouts["logits"])
        tokens = solver.step(logits, t, tokens, ImageNoise(5, 1 + index).uniform((3, 2, *GRID)))
        counts.append((t, evaluation.counts))
        trajectory.append(tokens)
    assert_same(result, SampleResult(tokens, tuple(counts), np.stack(trajectory)))
    assert result.sample.dtype == np.int64
    assert result.sample.max() < CODES


def test_the_trajectory_reveals_more_and_more_and_changes_nothing() -> None:
    result = session(images=50).run()
    assert result.trajectory is not None
    assert result.trajectory.shape == (6, 50, *GRID)
    assert result.trajectory.dtype == np.int64
    before = np.full((50, *GRID), CODES)
    for after in result.trajectory:
        np.testing.assert_array_equal(after[before != CODES], before[before != CODES])
        before = after
    np.testing.assert_array_equal(before, result.sample)
    assert len(np.unique(result.sample)) > 2


def test_the_batch_size_changes_nothing() -> None:
    whole = session(images=7, seed=1).run()
    for batch in (1, 3, 100):
        assert_same(session(images=7, seed=1, batch=batch).run(), whole)


def test_an_image_depends_on_its_seed_and_number_only() -> None:
    many = session(images=6, seed=9).run().sample
    np.testing.assert_array_equal(session(images=2, seed=9).run().sample, many[:2])
    assert len({session(images=4, seed=seed).run().sample.tobytes() for seed in range(5)}) == 5
    assert len({tokens.tobytes() for tokens in many}) > 1


def test_the_network_is_always_at_its_only_conditioning_step() -> None:
    seen: list[int] = []

    class Watch(Simulator):
        def evaluate(self, frames: Any, step: int, record: bool = False) -> Evaluation:
            seen.append(step)
            return super().evaluate(frames, step, record)

    target = Watch(PIPELINE.network("denoiser"))
    result = Session(PIPELINE, target, default_solver(PIPELINE), steps=3).run()
    assert seen == [0, 0, 0]
    assert [t for t, _ in result.counts] == [6, 4, 2]


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_run_that_was_interrupted_goes_on_with_the_same_result(stop: int, tmp_path: Path) -> None:
    whole, path = session(images=5).run(), tmp_path / "run.state"
    first = session(images=5, state_file=path)
    for _ in range(stop):
        first.step()
    second = session(images=5, batch=2, state_file=path)
    assert second.completed == stop
    assert_same(second.run(), whole)
    third = session(images=5, state_file=path)
    assert third.done
    assert_same(third.result(), whole)


def test_resume_takes_a_state_in_memory() -> None:
    first, second = session(images=2), session(images=2)
    first.step()
    first.step()
    second.resume(first.state())
    assert_same(second.run(), session(images=2).run())


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "run.state"
    run = session(images=2, seed=4, state_file=path)
    run.step()
    run.step()
    return path


def change(path: Path, **edits: Callable[[npt.NDArray[Any]], object]) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    for name, edit in edits.items():
        arrays[name] = np.asarray(edit(arrays[name]))
    with path.open("wb") as file:
        np.savez(file, **arrays)


def placed(value: int) -> Callable[[npt.NDArray[Any]], object]:
    """Put ``value`` at the end of an array."""

    def edit(array: npt.NDArray[Any]) -> object:
        array[(-1,) * array.ndim] = value
        return array

    return edit


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ({"sample": lambda a: a.astype(np.float64)}, r"sample is float64 \(2, 2, 3\), expected int64"),
        ({"sample": lambda a: a.astype(np.int32)}, "sample is int32"),
        ({"sample": lambda a: a[:1]}, r"sample is int64 \(1, 2, 3\)"),
        ({"samples": lambda a: a[:1]}, r"samples is int64 \(1, 2, 2, 3\), expected int64 \(2, 2, 2, 3\)"),
        ({"samples": lambda a: a.astype(np.float64)}, "samples is float64"),
        ({"sample": placed(6)}, r"no sample of this run: token 6 at image 1, site \(1, 2\): allowed are 0\.\.5"),
        ({"sample": placed(-1)}, r"no sample of this run: token -1 at image 1"),
        ({"samples": placed(1 << 62)}, "no sample of this run: token 4611686018427387904"),
        ({"samples": placed(0), "sample": placed(1)}, "do not end in the recorded sample"),
        ({"outputs": lambda a: np.zeros((2, *a.shape[1:]))}, "outputs is float64"),
    ],
)
def test_a_damaged_state_is_refused(
    saved: Path, edits: dict[str, Callable[[npt.NDArray[Any]], object]], message: str
) -> None:
    change(saved, **edits)
    with pytest.raises(RecordError, match=message):
        session(images=2, seed=4, state_file=saved)


@pytest.mark.parametrize(
    ("options", "different"),
    [
        ({"temperature": 0.5}, "solver"),
        ({"steps": 5}, "solver"),
        ({"pipeline": tiny_tokens(steps=7)}, "pipeline, solver"),
        ({"seed": 5}, "seed"),
    ],
)
def test_the_state_of_another_run(saved: Path, options: dict[str, Any], different: str) -> None:
    with pytest.raises(RecordError, match=rf"the state of another run \(different: {different}\)"):
        session(**{"images": 2, "seed": 4, **options}, state_file=saved)


def test_the_state_holds_tokens_as_whole_numbers(saved: Path) -> None:
    with np.load(saved, allow_pickle=False) as archive:
        kinds = {name: (archive[name].dtype.name, archive[name].shape) for name in archive if name != "document"}
        document = json.loads(archive["document"].tobytes())
    assert kinds == {
        "sample": ("int64", (2, *GRID)),
        "outputs": ("float64", (0, 2, CODES, *GRID)),
        "samples": ("int64", (2, 2, *GRID)),
    }
    assert document["version"] == 2
    assert [item["step"] for item in document["counts"]] == [6, 5]


def test_more_steps_than_sites_or_diffusion_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="7 steps are more steps than the 6 diffusion steps"):
        session(steps=7)
    with pytest.raises(ConfigError, match="7 steps are more steps than the 6 sites of the grid; use at most 6"):
        session(tiny_tokens(steps=20), steps=7)


def test_a_pipeline_with_another_codebook_is_another_run(saved: Path) -> None:
    assert isinstance(PIPELINE.host, TokenDiffusion)
    host = dataclasses.replace(PIPELINE.host, codebook=PIPELINE.host.codebook + 1)
    with pytest.raises(RecordError, match="different: pipeline"):
        session(dataclasses.replace(PIPELINE, host=host), images=2, seed=4, state_file=saved)
