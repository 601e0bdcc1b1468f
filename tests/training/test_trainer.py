"""The training loop: stage by stage, averaged, and clear about what it cannot do."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikegen.diffusion.solvers import make_solver
from spikegen.errors import ConfigError, OutputError, SpikegenError
from spikegen.models import Model, SpikingDiffusion, SpikingNeuron, SpikingUNet, load_checkpoint
from spikegen.training import Progress, Recipe, Trainer, untrained
from spikegen.training.sampling import sample_model
from spikegen.training.tasks import TokenDenoising, VectorQuantisation, encode
from tests.training.recipes import TINY, TINY_TOKENS, with_stage
from tests.training.states import assert_same_state


def test_a_run_writes_what_it_did(tmp_path: Path) -> None:
    seen: list[Progress] = []
    sampled: list[tuple[int, str]] = []
    Trainer(TINY, tmp_path).run(
        on_progress=seen.append,
        on_sample=lambda iteration, network, _: sampled.append((iteration, network)),
        sample_every=4,
        save_every=2,
    )
    assert [progress.iteration for progress in seen] == [1, 2, 3, 4, 5, 6]
    assert all(progress.iterations == 6 and math.isfinite(progress.loss) for progress in seen)
    assert sampled == [(4, ""), (6, "")]
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in log] == [2, 4, 6]
    assert json.loads((tmp_path / "recipe.json").read_text()) == json.loads(json.dumps(dataclasses.asdict(TINY)))
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"config.json", "log.jsonl", "model.safetensors", "recipe.json", "state.pt"}
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.training["seed"] == TINY.seed
    assert checkpoint.training["loss"] == seen[-1].loss


def test_stages_are_trained_one_after_the_other(tmp_path: Path) -> None:
    seen: list[Progress] = []
    sampled: list[tuple[int, str, Model]] = []
    run = Trainer(TINY_TOKENS, tmp_path)
    checkpoint = run.run(
        on_progress=seen.append, on_sample=lambda *sample: sampled.append(sample), sample_every=2, save_every=5
    )
    assert [progress.iteration for progress in seen] == [1, 2, 3, 4, 5, 6, 7]
    assert {progress.iterations for progress in seen} == {7}
    # every second iteration, and the end of each stage
    assert [(iteration, network) for iteration, network, _ in sampled] == [
        (2, "autoencoder"),
        (3, "autoencoder"),
        (4, "denoiser"),
        (6, "denoiser"),
        (7, "denoiser"),
    ]
    log = [json.loads(line)["iteration"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log == [3, 5, 7]
    models = {iteration: model for iteration, _, model in sampled}
    trained = models[3]
    assert isinstance(trained, SpikingDiffusion)
    assert isinstance(checkpoint.model, SpikingDiffusion)
    # the denoiser learns the tokens of the averaged autoencoder, which no longer changes
    assert_same_state(checkpoint.model.autoencoder.state_dict(), trained.autoencoder.state_dict())
    assert isinstance(run.task, TokenDenoising)
    first = Trainer(TINY_TOKENS, tmp_path / "first").task
    assert isinstance(first, VectorQuantisation)
    assert torch.equal(run.task.tokens, encode(trained.autoencoder, first.pixels))
    before = dict(trained.denoiser.named_parameters())
    for name, value in models[4].get_submodule("denoiser").named_parameters():
        assert torch.equal(value, before[name]) is not value.requires_grad, name


def test_a_stage_begins_with_its_own_loss_average_and_optimizer(tmp_path: Path) -> None:
    run = Trainer(TINY_TOKENS, tmp_path)
    run.run(until=3)
    assert math.isfinite(run.loss)
    run._finish_stage()
    assert math.isnan(run.loss)
    assert (run.iteration, run.done, run.stage.network) == (3, 0, "denoiser")
    assert not run.optimizer.state
    assert isinstance(run.model, SpikingDiffusion)
    trained = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    assert trained == {id(parameter) for parameter in run.model.denoiser.parameters()}
    assert_same_state(run.ema.state_dict(), run.model.denoiser.state_dict())


def test_a_network_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^Stage.network is 'decoder'; what is trained of a SpikingDiffusion is"):
        Trainer(with_stage(TINY_TOKENS, network="decoder"), tmp_path)
    with pytest.raises(ConfigError, match=r"'denoiser'; what is trained of a SpikingUNet is ''$"):
        Trainer(with_stage(TINY, network="denoiser"), tmp_path)


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    digests = set()
    for seed in (0, 0, 1):
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        Trainer(dataclasses.replace(TINY, seed=seed), folder).run(until=2)
        digests.add(load_checkpoint(folder).digest)
    assert len(digests) == 2


def test_until_zero_trains_nothing(tmp_path: Path) -> None:
    run = Trainer(TINY, tmp_path)
    run.run(until=0)
    assert run.iteration == 0


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
    assert isinstance(run.model, SpikingUNet)
    assert isinstance(run.model.tail, torch.nn.Sequential)
    with torch.no_grad():
        run.model.tail[1].weight.fill_(math.inf)
    with pytest.raises(SpikegenError, match=r"iteration 1: the loss is (nan|inf); lower the learning rate"):
        run.run()
    assert not (tmp_path / "state.pt").exists()


def test_the_average_follows_the_weights(tmp_path: Path) -> None:
    run = Trainer(with_stage(TINY, ema_decay=0.15), tmp_path)
    average = {name: value.clone() for name, value in run.ema.named_parameters()}
    for iteration in (1, 2, 3):
        run._iterate()
        decay = min(0.15, iteration / (iteration + 10))
        for name, weight in run.model.named_parameters():
            average[name] = average[name] * decay + weight.detach() * (1 - decay)
    assert decay == 0.15
    for name, value in run.ema.named_parameters():
        torch.testing.assert_close(value, average[name])


def test_the_average_begins_at_the_prepared_network_and_ends_finished(tmp_path: Path) -> None:
    run = Trainer(TINY_TOKENS, tmp_path)
    assert isinstance(run.model, SpikingDiffusion)
    prepared = copy.deepcopy(run.model.autoencoder)
    run.task.prepare(prepared, torch.Generator().manual_seed(TINY_TOKENS.seed))
    run._iterate()
    average = run.ema.get_parameter("codebook")
    expected = prepared.codebook / 11 + run.model.autoencoder.codebook * 10 / 11
    torch.testing.assert_close(average, expected)
    assert not torch.equal(prepared.codebook, run.model.autoencoder.codebook)
    # the codebook of the averaged copy is sorted, those in training are not
    with torch.no_grad():
        run.ema.get_parameter("codebook").copy_(torch.tensor([3.0, 1, 5, 2, 0, 4])[:, None].expand(6, 4))
    averaged = run.averaged()
    assert isinstance(averaged, SpikingDiffusion)
    first = averaged.autoencoder.codebook[:, 0].tolist()
    assert first in ([0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0])
    assert run.ema.get_parameter("codebook")[:, 0].tolist() == [3, 1, 5, 2, 0, 4]


def test_the_statistics_are_measured_with_the_averaged_weights(tmp_path: Path) -> None:
    run = Trainer(TINY, tmp_path)
    run._iterate()
    model = run.averaged()
    assert isinstance(model, SpikingUNet)
    assert not model.training
    assert_same_state(dict(model.named_parameters()), dict(run.ema.named_parameters()))
    conv, norm = model.stem[0]
    assert isinstance(norm, nn.BatchNorm2d)
    generator = torch.Generator().manual_seed(TINY.seed + 1)
    means, variances = [], []
    with torch.no_grad():
        for _ in range(2):
            noisy, _, _ = run.task.batch(generator)
            y = conv(noisy.repeat(TINY.model.timesteps, 1, 1, 1))
            means.append(y.mean(dim=(0, 2, 3)))
            variances.append(y.transpose(0, 1).flatten(1).var(dim=1))
    torch.testing.assert_close(norm.running_mean, torch.stack(means).mean(dim=0))
    torch.testing.assert_close(norm.running_var, torch.stack(variances).mean(dim=0))
    assert norm.momentum == 0.1
    assert_same_state(dict(run.averaged().state_dict()), dict(model.state_dict()))


def test_the_learning_rate_warms_up_and_decays_to_zero(tmp_path: Path) -> None:
    run = Trainer(with_stage(TINY, learning_rate=1.0), tmp_path)
    rates = []
    for _ in range(6):
        run._iterate()
        rates.append(run.optimizer.param_groups[0]["lr"])
    cosine = [0.5 * (1 + math.cos(math.pi * i / 6)) for i in range(6)]
    assert rates == pytest.approx([0.5 * cosine[0], *cosine[1:]])


def test_a_trained_model_is_sampled(tmp_path: Path) -> None:
    model = Trainer(TINY, tmp_path).run(until=1).model
    assert isinstance(model, SpikingUNet)
    images = sample_model(model, (1, 8, 8), make_solver("ddim", "linear", 10), steps=2, images=2, seed=0)
    assert np.isfinite(images).all()


@pytest.mark.parametrize("recipe", [TINY, TINY_TOKENS], ids=["images", "tokens"])
def test_an_untrained_model_has_random_weights_and_the_statistics_of_data(recipe: Recipe, tmp_path: Path) -> None:
    checkpoint = untrained(recipe, batches=3)
    fields = (checkpoint.beta_schedule, checkpoint.dataset, checkpoint.training["held_out"])
    assert fields == (recipe.beta_schedule, recipe.dataset, recipe.held_out)
    assert not any(module.training for module in checkpoint.model.modules())
    norms = [module for module in checkpoint.model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    for norm in norms:
        assert norm.num_batches_tracked is not None
        assert (int(norm.num_batches_tracked), norm.momentum) == (3, 0.1)
        assert norm.running_mean is not None
        assert norm.running_mean.abs().min() > 0
    # the same again, and another with another seed
    assert_same_state(checkpoint.model.state_dict(), untrained(recipe, batches=3).model.state_dict())
    weights = dict(checkpoint.model.named_parameters())
    other = dict(untrained(dataclasses.replace(recipe, seed=1), batches=3).model.named_parameters())
    assert any(not torch.equal(weights[name], other[name]) for name in weights)
    fresh = Trainer(recipe, tmp_path).model
    for name, value in fresh.named_parameters():
        assert torch.equal(value, weights[name]) is (name != "autoencoder.codebook")


@pytest.mark.parametrize("mixed", [False, True])
def test_mixed_precision_is_of_the_convolutions_only(tmp_path: Path, mixed: bool) -> None:
    """The neurons, the weights and what is measured with the average stay float32."""
    stage = dataclasses.replace(TINY.stages[0], mixed_precision=mixed)
    run = Trainer(dataclasses.replace(TINY, stages=(stage,)), tmp_path)
    seen: dict[type[nn.Module], list[torch.dtype]] = {nn.Conv2d: [], SpikingNeuron: []}
    for module in run.model.modules():
        if type(module) in seen:
            module.register_forward_hook(lambda m, _inputs, output: seen[type(m)].append(output.dtype))
    checkpoint = run.run(until=1)
    convolutions = sum(isinstance(module, nn.Conv2d) for module in run.model.modules())
    assert set(seen[nn.Conv2d][:convolutions]) == {torch.bfloat16 if mixed else torch.float32}
    assert set(seen[nn.Conv2d][convolutions:]) <= {torch.float32}
    assert set(seen[SpikingNeuron]) == {torch.float32}
    assert {tensor.dtype for tensor in checkpoint.model.state_dict().values()} <= {torch.float32, torch.int64}
