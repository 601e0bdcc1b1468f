"""A run that stopped goes on as if it had not, and refuses what is no state of it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from spikegen.errors import CheckpointError
from spikegen.models import load_checkpoint
from spikegen.training import Trainer, trainer
from tests.training.recipes import TINY, TINY_TOKENS
from tests.training.states import assert_same_state, saved, state


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


@pytest.fixture(scope="module")
def whole_tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unbroken run of two stages."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "RECALIBRATION_BATCHES", 2)
        Trainer(TINY_TOKENS, folder).run()
    return folder


@pytest.mark.parametrize(
    ("stops", "stages"),
    [
        ([2], ["autoencoder"]),
        ([3], ["autoencoder"]),  # the boundary: the first stage is done, the second not begun
        ([4], ["denoiser"]),
        ([5], ["denoiser"]),
        ([1, 3, 6, 7], ["autoencoder", "autoencoder", "denoiser", "denoiser"]),
    ],
    ids=str,
)
def test_two_stages_are_resumed_bit_for_bit(
    stops: list[int], stages: list[str], whole_tokens: Path, tmp_path: Path
) -> None:
    for stop, network in zip(stops, stages, strict=True):
        Trainer(TINY_TOKENS, tmp_path).run(until=stop)
        torch.manual_seed(99)
        resumed = Trainer(TINY_TOKENS, tmp_path)
        assert resumed.iteration == stop
        assert resumed.stage.network == network
    resumed.run()
    assert_same_state(state(tmp_path), state(whole_tokens))
    assert (tmp_path / "model.safetensors").read_bytes() == (whole_tokens / "model.safetensors").read_bytes()


def test_a_run_that_is_done_writes_the_same_checkpoint_again(whole_tokens: Path) -> None:
    before = {path.name: path.read_bytes() for path in whole_tokens.iterdir()}
    Trainer(TINY_TOKENS, whole_tokens).run()
    assert {path.name: path.read_bytes() for path in whole_tokens.iterdir()} == before


def test_the_state_names_its_stage(whole_tokens: Path, tmp_path: Path) -> None:
    assert (state(whole_tokens)["stage"], state(whole_tokens)["done"]) == (1, 4)
    Trainer(TINY_TOKENS, tmp_path).run(until=3)
    assert (state(tmp_path)["stage"], state(tmp_path)["done"]) == (0, 3)


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
        "done": saved({**state_of, "done": "many"}),
        "none done": saved({**state_of, "done": 0}),
        "too many done": saved({**state_of, "done": 7}),
        "stage": saved({**state_of, "stage": 1}),
        "negative stage": saved({**state_of, "stage": -1}),
    }


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    for name, data in damaged_states(tmp_path / "whole").items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "state.pt").write_bytes(data)
        with pytest.raises(CheckpointError, match="not a readable training state"):
            Trainer(TINY, folder)
