import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.diffusion import Absorbing, default_solver, make_solver
from spikegen.errors import BackendError, ConfigError, ProgramError, RecordError
from spikegen.program import Counts, Evaluation, ImageDiffusion, Pipeline, Program
from spikegen.runtime import SampleResult, Session, host_readout
from spikegen.runtime.noise import ImageNoise
from spikegen.simulator import Simulator
from tests.runtime.programs import STEPS, small_readout, tiny, tiny_tokens, with_denoiser

CASES: list[tuple[str, dict[str, Any]]] = [("ddim", {}), ("ddim", {"eta": 0.7}), ("ddpm", {})]


def session(pipeline: Pipeline | None = None, name: str = "ddim", steps: int = 5, **options: Any) -> Session:
    pipeline = tiny() if pipeline is None else pipeline
    chosen = {key: options.pop(key) for key in ("eta", "variance") if key in options}
    solver = default_solver(pipeline, name, **chosen)
    return Session(pipeline, Simulator(pipeline.network("denoiser")), solver, steps=steps, **options)


def assert_same(one: SampleResult, other: SampleResult) -> None:
    np.testing.assert_array_equal(one.sample, other.sample)
    assert one.counts == other.counts


class Broken(Simulator):
    """Fails at its n-th evaluation."""

    def __init__(self, program: Program, failing: int) -> None:
        super().__init__(program)
        self.left = failing

    def evaluate(self, frames: Any, step: int, record: bool = False) -> Evaluation:
        self.left -= 1
        if self.left < 0:
            raise BackendError("a process ended")
        return super().evaluate(frames, step, record)


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_the_loop_is_the_one_written_by_hand(name: str, options: dict[str, Any], schedule: str) -> None:
    pipeline = tiny(schedule=schedule)
    program = pipeline.network("denoiser")
    result = session(pipeline, name, steps=5, seed=3, images=2, **options).run()
    solver = make_solver(name, schedule, STEPS, **options)
    solver.set_timesteps(5)
    x, counts = ImageNoise(3, 0).normal((2, 1, 4, 4)), []
    for index, t in enumerate(solver.timesteps):
        evaluation = Simulator(program).evaluate(program.input.quantize(x), step=int(t))
        noise = host_readout(next(program.readouts()), evaluation.readouts["noise"])
        x = solver.step(noise, int(t), x, ImageNoise(3, 1 + index).normal(x.shape)).prev_sample
        counts.append((int(t), evaluation.counts))
    assert_same(result, SampleResult(np.clip(x, -1, 1), tuple(counts)))
    assert result.sample.dtype == np.float64
    assert np.abs(result.sample).max() <= 1.0
    assert len(np.unique(result.sample)) > 10


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_batch_size_changes_nothing(name: str, options: dict[str, Any]) -> None:
    whole = session(name=name, images=7, seed=1, **options).run()
    for batch in (1, 3, 7, 100):
        assert_same(session(name=name, images=7, seed=1, batch=batch, **options).run(), whole)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_an_image_does_not_depend_on_how_many_there_are(name: str, options: dict[str, Any]) -> None:
    many = session(name=name, images=6, seed=9, **options).run().sample
    np.testing.assert_array_equal(session(name=name, images=2, seed=9, **options).run().sample, many[:2])


@pytest.mark.parametrize(("name", "options"), CASES)
def test_parts_of_a_run_are_its_images(name: str, options: dict[str, Any]) -> None:
    whole = session(name=name, images=5, seed=9, **options).run()
    parts = [session(name=name, images=n, first=f, seed=9, **options).run() for f, n in ((0, 2), (2, 1), (3, 2))]
    np.testing.assert_array_equal(np.concatenate([part.sample for part in parts]), whole.sample)
    sums = [first[1] + second[1] + third[1] for first, second, third in zip(*(p.counts for p in parts), strict=True)]
    assert sums == [counts for _, counts in whole.counts]


def test_a_part_goes_on_from_its_own_state_only(tmp_path: Path) -> None:
    whole = session(name="ddpm", images=5).run().sample
    path = tmp_path / "run.state"
    session(name="ddpm", images=2, first=3, state_file=path).step()
    part = session(name="ddpm", images=2, first=3, state_file=path)
    assert part.completed == 1
    np.testing.assert_array_equal(part.run().sample, whole[3:])
    for first in (0, 2):
        with pytest.raises(RecordError, match=r"the state of another run \(different: (first|fields)\)"):
            session(name="ddpm", images=2, first=first, state_file=path)
    with pytest.raises(ConfigError, match="the number of the first image is -1"):
        session(first=-1)


def test_seeds_give_other_images() -> None:
    results = {session(seed=seed).run().sample.tobytes() for seed in range(5)}
    assert len(results) == 5


def test_counts_are_kept_per_diffusion_step() -> None:
    run = session(images=3, steps=4)
    result = run.run()
    assert [step for step, _ in result.counts] == run.timesteps.tolist() == [30, 20, 10, 0]
    assert all(counts.images == 3 for _, counts in result.counts)
    total: Counts = result.counts[0][1] + result.counts[1][1]
    assert total.images == 6
    assert total.events["hidden"] > 0


def test_progress_counts_network_evaluations() -> None:
    seen: list[tuple[int, int]] = []
    session(images=5, steps=2, batch=2).run(lambda done, total: seen.append((done, total)))
    assert seen == [(2, 10), (4, 10), (5, 10), (7, 10), (9, 10), (10, 10)]


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("stop", [1, 3, 4])
def test_a_run_that_was_interrupted_goes_on_with_the_same_result(
    name: str, options: dict[str, Any], stop: int, tmp_path: Path
) -> None:
    whole = session(name=name, images=3, **options).run()
    path = tmp_path / "run.state"
    first = session(name=name, images=3, state_file=path, **options)
    for _ in range(stop):
        first.step()
    second = session(name=name, images=3, batch=2, state_file=path, **options)
    assert second.completed == stop
    assert_same(second.run(), whole)
    assert list(tmp_path.iterdir()) == [path]
    third = session(name=name, images=3, state_file=path, **options)
    assert third.done
    assert_same(third.result(), whole)


def test_a_target_that_fails_leaves_the_last_completed_step(tmp_path: Path) -> None:
    pipeline, path = tiny(), tmp_path / "run.state"
    solver = make_solver("ddpm", train_steps=STEPS)
    broken = Session(
        pipeline, Broken(pipeline.network("denoiser"), 5), solver, steps=4, images=4, batch=2, state_file=path
    )
    with pytest.raises(BackendError, match="a process ended"):
        broken.run()
    assert broken.completed == 2
    resumed = session(pipeline, "ddpm", 4, images=4, state_file=path)
    assert resumed.completed == 2
    assert_same(resumed.run(), session(pipeline, "ddpm", 4, images=4).run())


def test_the_given_solver_is_not_changed() -> None:
    pipeline = tiny()
    solver = make_solver("ddim", train_steps=STEPS)
    Session(pipeline, Simulator(pipeline.network("denoiser")), solver, steps=3).run()
    assert len(solver.timesteps) == STEPS


def test_resume_takes_a_state_in_memory() -> None:
    first = session(images=2)
    first.step()
    second = session(images=2)
    second.resume(first.state())
    assert_same(second.run(), session(images=2).run())
    with pytest.raises(ConfigError, match="already begun"):
        second.resume(first.state())


def test_resume_refuses_a_state_that_cannot_be_of_this_run() -> None:
    first = session(images=2, steps=5)
    first.step()
    state = first.state()
    with pytest.raises(RecordError, match="another run"):
        session(images=2, steps=4).resume(state)
    with pytest.raises(RecordError, match="another run, or of more steps"):
        session(images=2, steps=5).resume(dataclasses.replace(state, completed=6))
    with pytest.raises(RecordError, match="other diffusion steps"):
        session(images=2, steps=5).resume(dataclasses.replace(state, counts=((3, state.counts[0][1]),)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": 0}, "images is 0"),
        ({"batch": 0}, "batch 0"),
        ({"seed": -1}, "seed is -1"),
        ({"steps": 0}, "number of solver steps is 0"),
        ({"steps": STEPS + 1}, rf"allows 1\.\.{STEPS}"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        session(**options)


def test_a_session_that_is_not_done_has_no_result_and_one_that_is_has_no_step() -> None:
    run = session(steps=1)
    with pytest.raises(ConfigError, match="0 of 1 steps are completed"):
        run.result()
    run.run()
    with pytest.raises(ConfigError, match="no further step"):
        run.step()


def test_pipeline_and_solver_must_fit() -> None:
    pipeline = tiny()
    target = Simulator(pipeline.network("denoiser"))
    with pytest.raises(ConfigError, match="has 50 diffusion steps, tiny was made for 40"):
        Session(pipeline, target, make_solver("ddim", train_steps=50), steps=5)
    with pytest.raises(ConfigError, match="another noise schedule than 'linear'"):
        Session(pipeline, target, make_solver("ddim", "squaredcos_cap_v2", STEPS), steps=5)
    with pytest.raises(ConfigError, match="int is no solver"):
        Session(pipeline, target, 3, steps=5)
    unknown = dataclasses.replace(pipeline, host=ImageDiffusion("cosine"))
    with pytest.raises(ConfigError, match="noise schedule 'cosine' is unknown"):
        Session(unknown, target, make_solver("ddim", train_steps=STEPS), steps=5)
    with pytest.raises(ConfigError, match="Absorbing samples tokens of a TokenDiffusion; tiny is ImageDiffusion"):
        Session(pipeline, target, Absorbing(5, 6), steps=5)
    tokens = tiny_tokens()
    with pytest.raises(ConfigError, match="DDIM samples images of an ImageDiffusion; tokens is TokenDiffusion"):
        Session(tokens, target, make_solver("ddim", train_steps=STEPS), steps=5)


def test_a_pipeline_that_breaks_a_rule_is_refused() -> None:
    with pytest.raises(ProgramError, match=r"noise is \(1, 2, 2\), it must be \(1, 4, 4\)"):
        session(small_readout())


def test_two_readouts_are_refused() -> None:
    program = tiny().network("denoiser")
    again = dataclasses.replace(program.populations[1], name="again")
    projection = dataclasses.replace(program.projections[1], name="hidden>again", target="again")
    both = with_denoiser(
        tiny(), populations=(*program.populations, again), projections=(*program.projections, projection)
    )
    with pytest.raises(ProgramError, match="it has 2 readouts, it must have one"):
        session(both)
