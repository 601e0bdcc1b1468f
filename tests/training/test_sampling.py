"""Float models sampled with the very randomness of a session."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikegen.diffusion import Absorbing, default_solver, make_solver
from spikegen.errors import ConfigError
from spikegen.models import SpikingDiffusion, build_model
from spikegen.program import Program
from spikegen.runtime import Session, host_readout
from spikegen.runtime.noise import ImageNoise
from spikegen.simulator import Simulator
from spikegen.training import load_images, sampling
from spikegen.training.sampling import decode_model, reconstruct_images, sample_model, sample_tokens
from spikegen.training.tasks import encode
from tests.runtime.programs import GRID, tiny, tiny_tokens
from tests.training.networks import settle
from tests.training.recipes import TINY_TOKENS


class OfProgram(nn.Module):
    """A Program as a torch module."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program, self.target = program, Simulator(program)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        frames = self.program.input.quantize(x.double().numpy())
        currents = self.target.evaluate(frames, 0 if t is None else int(t[0])).readouts
        readout = next(self.program.readouts())
        return torch.from_numpy(host_readout(readout, currents[readout.name]))


@pytest.mark.parametrize("steps", [1, 4, 6])
@pytest.mark.parametrize("temperature", [0.3, 1.0])
def test_tokens_are_those_of_a_session(steps: int, temperature: float) -> None:
    pipeline = tiny_tokens()
    program = pipeline.network("denoiser")
    solver = default_solver(pipeline, temperature=temperature)
    assert isinstance(solver, Absorbing)
    expected = Session(pipeline, Simulator(program), solver, steps=steps, images=9, seed=3).run().sample
    found = sample_tokens(OfProgram(program), solver, GRID, steps=steps, images=9, seed=3)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)


def test_images_are_those_of_a_session() -> None:
    pipeline = tiny()
    program, solver = pipeline.network("denoiser"), make_solver("ddpm", train_steps=40)
    expected = Session(pipeline, Simulator(program), solver, steps=4, images=3, seed=3).run().sample
    found = sample_model(OfProgram(program), (1, 4, 4), solver, steps=4, images=3, seed=3)
    # the float model sees the sample in float32, which may move a pixel to the next message of the port
    assert np.abs(found - expected).max() < 0.2
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_tokens_depend_on_seed_and_number_only(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny_tokens()
    model, solver = OfProgram(pipeline.network("denoiser")), Absorbing(5, 6)
    five = sample_tokens(model, solver, GRID, steps=5, images=5, seed=1)
    np.testing.assert_array_equal(sample_tokens(model, solver, GRID, steps=5, images=2, seed=1), five[:2])
    monkeypatch.setattr(sampling, "BATCH", 2)
    np.testing.assert_array_equal(sample_tokens(model, solver, GRID, steps=5, images=5, seed=1), five)
    assert not np.array_equal(sample_tokens(model, solver, GRID, steps=5, images=5, seed=2), five)


def test_more_steps_than_sites_are_refused() -> None:
    with pytest.raises(ConfigError, match="6 steps are more steps than the 4 sites"):
        sample_tokens(nn.Identity(), Absorbing(5, 6), (2, 2), steps=6, images=1)


class Echo(nn.Module):
    """Predicts noise from the image alone, image by image."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x * 0.5 + t[:, None, None, None] / 1000


def test_an_image_depends_on_its_seed_and_number_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(images: int, seed: int) -> Any:
        return sample_model(Echo(), (1, 4, 4), make_solver("ddpm", "linear", 50), steps=5, images=images, seed=seed)

    five = sample(5, 3)
    assert five.shape == (5, 1, 4, 4)
    assert np.abs(five).max() <= 1
    np.testing.assert_array_equal(sample(2, 3), five[:2])
    monkeypatch.setattr(sampling, "BATCH", 2)
    np.testing.assert_array_equal(sample(5, 3), five)
    assert not np.array_equal(sample(5, 4), five)


def test_sampling_uses_the_noise_of_a_session() -> None:
    seen: list[Tensor] = []

    class Watch(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(x)
            return torch.zeros_like(x) + 0 * t[:, None, None, None]

    solver = make_solver("ddim", "linear", 50)
    sample_model(Watch(), (1, 4, 4), solver, steps=3, images=2, seed=9)
    expected = ImageNoise(9, 0).normal((2, 1, 4, 4)) * solver.init_noise_sigma
    np.testing.assert_array_equal(seen[0].numpy(), expected.astype(np.float32))


def test_decoding_and_reconstruction_are_those_of_the_autoencoder(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = build_model(TINY_TOKENS.model)
    assert isinstance(model, SpikingDiffusion)
    images = load_images("digits")[:7]
    settle(model.autoencoder, torch.from_numpy(images) / 2)
    monkeypatch.setattr(sampling, "BATCH", 7)
    with torch.no_grad():
        expected = (2 * model.autoencoder(torch.from_numpy(images) / 2).double()).clamp(-1, 1).numpy()
    found = reconstruct_images(model, images)
    assert found.dtype == np.float64
    assert found.std() > 0
    np.testing.assert_array_equal(found, expected)
    tokens = encode(model.autoencoder, torch.from_numpy(images) / 2).numpy()
    np.testing.assert_array_equal(decode_model(model, tokens), expected)
