"""The training loop: resumable bit for bit, averaged, and clear about what it cannot do."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikegen.diffusion.solvers import make_solver
from spikegen.errors import CheckpointError, OutputError, SpikegenError
from spikegen.models import SpikingUNet, load_checkpoint
from spikegen.runtime.noise import ImageNoise
from spikegen.training import Progress, Recipe, Trainer, sampling, trainer
from spikegen.training.sampling import sample_model
from tests.training.recipes import TINY


@pytest.fixture(autouse=True)
def _few_recalibration_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "RECALIBRATION_BATCHES", 2)


def assert_same_state(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for key, value in a.items():
        if isinstance(value, dict):
            assert_same_state(value, b[key])
        elif isinstance(value, Tensor):
            torch.testing.assert_close(value, b[key], rtol=0, atol=0, msg=key)
        else:
            assert value == b[key], key


def state(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(folder / "state.pt", weights_only=True)
    return loaded


def test_a_resumed_run_equals_an_unbroken_one(tmp_path: Path) -> None:
    whole = Trainer(TINY, tmp_path / "whole").run()
    Trainer(TINY, tmp_path / "parts").run(until=3)
    resumed = Trainer(TINY, tmp_path / "parts")
    assert resumed.iteration == 3
    torch.manual_seed(99)  # what the rest of the process does to torch's generator does not matter
    parts = resumed.run()
    assert_same_state(state(tmp_path / "parts"), state(tmp_path / "whole"))
    assert_same_state(dict(parts.model.state_dict()), dict(whole.model.state_dict()))
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert load_checkpoint(tmp_path / "parts").training["iteration"] == 6


def test_a_run_writes_what_it_did(tmp_path: Path) -> None:
    seen: list[Progress] = []
    sampled: list[int] = []
    Trainer(TINY, tmp_path).run(
        on_progress=seen.append,
        on_sample=lambda iteration, _: sampled.append(iteration),
        sample_every=4,
        save_every=2,
    )
    assert [progress.iteration for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert all(progress.iterations == 6 and math.isfinite(progress.loss) for progress in seen)
    assert sampled == [4, 6]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in log] == [2, 4, 6]
    assert json.loads((tmp_path / "recipe.json").read_text()) == json.loads(json.dumps(dataclasses.asdict(TINY)))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "log.jsonl", "model.safetensors", "recipe.json", "state.pt"}
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.training["seed"] == TINY.seed
    assert checkpoint.training["loss"] == seen[-1].loss


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    digests = set()
    for seed in (0, 0, 1):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        Trainer(dataclasses.replace(TINY, seed=seed, iterations=2), folder).run()
        digests.add(load_checkpoint(folder).digest)
    assert len(digests) == 2


def test_until_zero_trains_nothing(tmp_path: Path) -> None:
    run = Trainer(TINY, tmp_path)
    run.run(until=0)
    assert run.iteration == 0


def test_a_killed_run_goes_on_where_its_last_state_was_saved(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.training.recipes", str(tmp_path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "iteration 0\n"
    # The callback waits for a line before each state is saved: two saved states, the third iteration is under way.
    process.stdin.write("\n\n")
    process.stdin.flush()
    while not (tmp_path / "log.jsonl").exists() or len((tmp_path / "log.jsonl").read_text().splitlines()) < 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    assert process.wait() == -9
    process.stdin.close()
    process.stdout.close()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the process that was killed: sums in another order round differently
    try:
        resumed = Trainer(TINY, tmp_path)
        assert resumed.iteration == 2
        resumed.run()
        Trainer(TINY, tmp_path / "whole").run()
    finally:
        torch.set_num_threads(threads)
    whole = state(tmp_path / "whole")["model"]
    for name, value in state(tmp_path)["model"].items():
        assert torch.equal(value, whole[name]), name


def test_the_state_of_another_recipe_is_refused_and_kept(tmp_path: Path) -> None:
    Trainer(TINY, tmp_path).run(until=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match=r"state\.pt: the state of another recipe; choose another output folder"):
        Trainer(dataclasses.replace(TINY, seed=5), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def saved(value: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def test_a_state_that_would_run_code_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.pt").write_bytes(saved({"recipe": Hostile(tmp_path / "ran")}))
    with pytest.raises(CheckpointError, match="not a readable training state"):
        Trainer(TINY, tmp_path)
    assert not (tmp_path / "ran").exists()


def damaged_states(path: Path) -> dict[str, bytes]:
    Trainer(TINY, path).run(until=1)
    whole = (path / "state.pt").read_bytes()
    state_of = torch.load(path / "state.pt", weights_only=True)
    return {
        "empty": b"",
        "text": b"not a state",
        "half": whole[: len(whole) // 2],
        "list": saved([1, 2]),
        "tensor": saved(torch.zeros(3)),
        "number": saved(1),
        "no recipe": saved({"model": {}}),
        "no optimizer": saved({**state_of, "optimizer": {}}),
        "optimizer": saved({**state_of, "optimizer": []}),
        "model": saved({**state_of, "model": {"stem": torch.zeros(1)}}),
        "generator": saved({**state_of, "generator": torch.zeros(3)}),
        "iteration": saved({**state_of, "iteration": "many"}),
    }


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    for name, data in damaged_states(tmp_path / "whole").items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "state.pt").write_bytes(data)
        with pytest.raises(CheckpointError, match="not a readable training state"):
            Trainer(TINY, folder)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file/below: the output folder cannot be written: Not a directory"):
        Trainer(TINY, tmp_path / "file" / "below")


def test_a_state_that_cannot_be_written_leaves_no_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Trainer(TINY, tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        run.run(until=1)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.json"]


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path: Path) -> None:
    run = Trainer(TINY, tmp_path)
    with torch.no_grad():
        run.model.tail[1].weight.fill_(math.inf)
    with pytest.raises(SpikegenError, match=r"iteration 1: the loss is (nan|inf); lower the learning rate"):
        run.run()
    assert not (tmp_path / "state.pt").exists()


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    run = Trainer(dataclasses.replace(TINY, ema_decay=0.15), tmp_path)
    average = {name: value.clone() for name, value in run.ema.named_parameters()}
    for iteration in (1, 2, 3):
        run._iterate()
        decay = min(0.15, iteration / (iteration + 10))
        for name, weight in run.model.named_parameters():
            average[name] = average[name] * decay + weight.detach() * (1 - decay)
    assert decay == 0.15
    for name, value in run.ema.named_parameters():
        torch.testing.assert_close(value, average[name])


def test_the_statistics_are_measured_with_the_averaged_weights(tmp_path: Path) -> None:
    run = Trainer(TINY, tmp_path)
    run._iterate()
    model = run.averaged()
    assert not model.training
    assert_same_state(dict(model.named_parameters()), dict(run.ema.named_parameters()))
    conv, norm = model.stem[0]
    assert isinstance(norm, nn.BatchNorm2d)
    generator = torch.Generator().manual_seed(TINY.seed + 1)
    means, variances = [], []
    with torch.no_grad():
        for _ in range(2):
            noisy, _, _ = run._batch(generator)
            y = conv(noisy.repeat(TINY.model.timesteps, 1, 1, 1))
            means.append(y.mean(dim=(0, 2, 3)))
            variances.append(y.transpose(0, 1).flatten(1).var(dim=1))
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(dim=0))
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(dim=0))
    assert norm.momentum == 0.1
    assert_same_state(dict(run.averaged().state_dict()), dict(model.state_dict()))


def test_the_learning_rate_warms_up_and_decays_to_zero(tmp_path: Path) -> None:
    recipe = Recipe(TINY.model, iterations=6, batch_size=4, warmup=2, learning_rate=1.0)
    run = Trainer(recipe, tmp_path)
    rates = []
    for _ in range(6):
        run._iterate()
        rates.append(run.optimizer.param_groups[0]["lr"])
    cosine = [0.5 * (1 + math.cos(math.pi * i / 6)) for i in range(6)]
    assert rates == pytest.approx([0.5 * cosine[0], *cosine[1:]])


def test_noisy_images_are_the_forward_process(tmp_path: Path) -> None:
    run = Trainer(dataclasses.replace(TINY, batch_size=64), tmp_path)
    noisy, t, noise = run._batch(torch.Generator().manual_seed(0))
    alpha = run.alphas_cumprod[t][:, None, None, None]
    clean = (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()
    # every clean image is one of the data set, up to float32
    distance = (clean[:, None] - run.images[None]).abs().amax(dim=(2, 3, 4)).min(dim=1).values
    assert float(distance[alpha.flatten() > 0.1].max()) < 1e-3
    assert 0 <= int(t.min()) < int(t.max()) < TINY.model.diffusion_steps


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


def test_a_trained_model_is_sampled(tmp_path: Path) -> None:
    model = Trainer(TINY, tmp_path).run(until=1).model
    assert isinstance(model, SpikingUNet)
    images = sample_model(model, (1, 8, 8), make_solver("ddim", "linear", 10), steps=2, images=2, seed=0)
    assert np.isfinite(images).all()
