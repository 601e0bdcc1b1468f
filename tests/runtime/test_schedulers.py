"""diffusers' schedulers in a session: the images are those of diffusers' own loop around the same network."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikegen.errors import ConfigError, RecordError
from spikegen.program import Pipeline
from spikegen.runtime import Session, host_readout
from spikegen.runtime.noise import ImageNoise
from spikegen.simulator import Simulator
from tests.runtime.programs import STEPS, tiny

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed; it comes with the extra 'test'")
torch = pytest.importorskip("torch", reason="torch is not installed; it comes with the extra 'torch'")

NAMES = [
    "DDPMScheduler",
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "UniPCMultistepScheduler",
]


def scheduler(name: str) -> Any:
    return getattr(diffusers, name)(num_train_timesteps=STEPS, timestep_spacing="leading")


def session(name: str, images: int = 3, **options: Any) -> Session:
    pipeline = tiny()
    return Session(
        pipeline, Simulator(pipeline.network("denoiser")), scheduler(name), steps=8, seed=2, images=images, **options
    )


def by_hand(pipeline: Pipeline, name: str) -> Any:
    """The loop of diffusers' pipelines, with the network in place of the U-Net."""
    chosen = scheduler(name)
    chosen.set_timesteps(8)
    program = pipeline.network("denoiser")
    readout = next(program.readouts())
    x = torch.from_numpy(ImageNoise(2, 0).normal((3, 1, 4, 4)) * float(chosen.init_noise_sigma)).float()
    for index, t in enumerate(chosen.timesteps):
        seen = chosen.scale_model_input(x, t).double().numpy()
        frames = program.input.quantize(seen)
        currents = Simulator(program).evaluate(frames, step=int(t)).readouts[readout.name]
        noise = torch.from_numpy(host_readout(readout, currents)).float()
        generators = [torch.Generator().manual_seed(seed) for seed in ImageNoise(2, 1 + index).seeds(3)]
        drawn = {} if name == "UniPCMultistepScheduler" else {"generator": generators}
        x = chosen.step(noise, t, x, **drawn).prev_sample
    return x.double().numpy()


@pytest.mark.parametrize("name", NAMES)
def test_images_are_those_of_diffusers_own_loop(name: str) -> None:
    np.testing.assert_array_equal(session(name).run().sample, np.clip(by_hand(tiny(), name), -1, 1))


@pytest.mark.parametrize("name", NAMES)
def test_results_are_reproducible_and_independent_of_batches(name: str) -> None:
    whole = session(name).run()
    batched = session(name, batch=2).run()
    np.testing.assert_array_equal(batched.sample, whole.sample)
    assert batched.counts == whole.counts
    np.testing.assert_array_equal(session(name, images=2).run().sample, whole.sample[:2])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stop", [1, 5])
def test_resumption_rebuilds_the_memory_of_the_scheduler(name: str, stop: int, tmp_path: Path) -> None:
    whole = session(name).run()
    first = session(name, state_file=tmp_path / "run.state")
    for _ in range(stop):
        first.step()
    second = session(name, state_file=tmp_path / "run.state")
    assert second.completed == stop
    resumed = second.run()
    np.testing.assert_array_equal(resumed.sample, whole.sample)
    assert resumed.counts == whole.counts


def test_a_state_whose_predictions_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.state"
    session("DDIMScheduler", state_file=path).step()
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["outputs"] = arrays["outputs"] + 1
    with path.open("wb") as file:
        np.savez(file, **arrays)
    with pytest.raises(RecordError, match="do not lead to the recorded sample"):
        session("DDIMScheduler", state_file=path)


def test_a_scheduler_of_another_configuration_is_another_run(tmp_path: Path) -> None:
    path, pipeline = tmp_path / "run.state", tiny()
    session("DDIMScheduler", state_file=path).step()
    other = diffusers.DDIMScheduler(num_train_timesteps=STEPS, clip_sample=False)
    with pytest.raises(RecordError, match="different: solver"):
        Session(pipeline, Simulator(pipeline.network("denoiser")), other, steps=8, seed=2, images=3, state_file=path)


def test_another_noise_schedule_is_refused() -> None:
    pipeline = tiny()
    for options, message in (
        ({"beta_schedule": "squaredcos_cap_v2"}, "another noise schedule"),
        ({"num_train_timesteps": 1000}, "the solver has 1000 diffusion steps"),
    ):
        other = diffusers.DDIMScheduler(**{"num_train_timesteps": STEPS, **options})
        with pytest.raises(ConfigError, match=message):
            Session(pipeline, Simulator(pipeline.network("denoiser")), other, steps=8)
