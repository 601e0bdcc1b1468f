"""Files from strangers: read in every form that the authors save, refused with one message where they are bad."""

from __future__ import annotations

import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from spikegen.errors import CheckpointError, ConfigError, SpikegenError
from spikegen.importing import files, import_sddpm, import_sdm, import_spiking_diffusion
from tests.importing.authors_sddpm import AuthorsUNet
from tests.importing.authors_spiking_diffusion import AuthorsDenoiser, AuthorsVQVAE

State = dict[str, Tensor]
SMALL: dict[str, Any] = {"ch": 4, "ch_mult": (1, 2), "num_res_blocks": 1, "steps": 20}


def sddpm(**changes: Any) -> State:
    torch.manual_seed(0)
    return dict(AuthorsUNet(**(SMALL | changes)).state_dict())


def tensors(path: Path, **options: Any) -> State:
    return dict(import_sddpm(path, image_size=8, **options).model.state_dict())


def equal(a: State, b: State) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refusal(path: Path, importer: Callable[..., Any] = import_sddpm, **options: Any) -> str:
    with pytest.raises(SpikegenError) as caught:
        importer(path, **options)
    return str(caught.value)


def save(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "ckpt.pt")
    return folder / "ckpt.pt"


@pytest.fixture
def plain(tmp_path: Path) -> State:
    """Our tensors of the plain state_dict."""
    return tensors(save(tmp_path, sddpm()))


@pytest.mark.parametrize("entry", ["net_model", "ema_model", "state_dict", "model"])
def test_the_entries_of_a_training_checkpoint(entry: str, plain: State, tmp_path: Path) -> None:
    network = AuthorsUNet(**SMALL)
    optimiser = torch.optim.Adam(p for p in network.parameters() if p.requires_grad)
    network(torch.randn(2, 3, 8, 8), torch.arange(2)).sum().backward()
    optimiser.step()
    content = {entry: sddpm(), "optim": optimiser.state_dict(), "step": 5, "x_T": torch.randn(4, 3, 8, 8)}
    path = save(tmp_path, content)
    assert equal(tensors(path), plain)
    assert import_sddpm(path, image_size=8).training["imported"]["files"][0]["entry"] == entry


def test_an_entry_can_be_chosen(plain: State, tmp_path: Path) -> None:
    torch.manual_seed(1)
    other = AuthorsUNet(**SMALL).state_dict()
    path = save(tmp_path, {"net_model": other, "ema_model": sddpm(), "mine": sddpm()})
    assert not equal(tensors(path), plain)
    assert equal(tensors(path, entry="ema_model"), plain)
    assert equal(tensors(path, entry="mine"), plain)
    assert "no entry 'best'; it has net_model, ema_model, mine" in refusal(path, entry="best")


@pytest.mark.parametrize("depth", [1, 2])
def test_the_prefix_of_data_parallel(depth: int, plain: State, tmp_path: Path) -> None:
    wrapped = {"module." * depth + name: tensor for name, tensor in sddpm().items()}
    assert equal(tensors(save(tmp_path, wrapped)), plain)


def test_safetensors(plain: State, tmp_path: Path) -> None:
    safetensors.torch.save_file(sddpm(), tmp_path / "ckpt.safetensors")
    assert equal(tensors(tmp_path / "ckpt.safetensors"), plain)


def test_counts_of_batches_may_be_missing_and_are_not_read(plain: State, tmp_path: Path) -> None:
    without = {n: t for n, t in sddpm().items() if not n.endswith("num_batches_tracked")}
    assert equal(tensors(save(tmp_path, without)), plain)
    counted = {n: t + 7 if n.endswith("num_batches_tracked") else t for n, t in sddpm().items()}
    assert equal(tensors(save(tmp_path, counted)), plain)


@pytest.mark.parametrize("kind", [torch.float16, torch.float64])
def test_other_precisions(kind: torch.dtype, plain: State, tmp_path: Path) -> None:
    state = {n: t.to(kind) if t.is_floating_point() else t for n, t in sddpm().items()}
    found = tensors(save(tmp_path, state))
    assert all(t.dtype == plain[n].dtype for n, t in found.items())
    assert all(torch.allclose(t.double(), plain[n].double(), atol=1e-3) for n, t in found.items())


def test_the_record_says_which_file(tmp_path: Path) -> None:
    path = save(tmp_path, sddpm())
    checkpoint = import_sddpm(path, image_size=8, dataset="celeba", beta_schedule="squaredcos_cap_v2")
    assert checkpoint.training == {
        "imported": {"format": "sddpm", "files": [{"file": "ckpt.pt", "entry": "", "sha256": checkpoint.digest}]}
    }
    assert len(checkpoint.digest) == 64
    assert (checkpoint.dataset, checkpoint.beta_schedule) == ("celeba", "squaredcos_cap_v2")


def test_every_missing_unknown_and_misshapen_tensor_is_named(tmp_path: Path) -> None:
    state = sddpm()
    del state["bn.weight"], state["upblocks.1.shortcut.bias"]
    state |= {
        "attn.q.weight": torch.zeros(2),
        "conv_identity.bias": torch.zeros(5),
        "last_bn.bias": torch.full((3,), torch.nan),
        "tail_bn.running_var": torch.full((4,), torch.inf),
        "tail_conv.bias": torch.zeros(3, dtype=torch.long),
    }
    assert refusal(save(tmp_path, state), image_size=8).split("\n  - ")[1:] == [
        "attn.q.weight: unknown",
        "bn.weight: missing",
        "conv_identity.bias: shape (5,), the sizes of the others need (4,)",
        "last_bn.bias: NaN or infinite values",
        "tail_bn.running_var: NaN or infinite values",
        "tail_conv.bias: type torch.int64, a weight is a floating-point number",
        "upblocks.1.shortcut.bias: missing",
    ]


@pytest.mark.parametrize(
    "name",
    ["downblocks.0.conv1.bias", "downblocks.1.bn.weight", "downblocks.2.bn2.bias", "middleblocks.1.bn1.weight"],
)
def test_one_tensor_of_another_length_is_one_problem(name: str, tmp_path: Path) -> None:
    state = sddpm() | {name: torch.zeros(9)}
    lines = refusal(save(tmp_path, state), image_size=8).split("\n  - ")[1:]
    assert len(lines) == 1
    assert lines[0].startswith(f"{name}: shape (9,)")


def test_a_number_too_large_for_float32(tmp_path: Path) -> None:
    state = sddpm() | {"bn.bias": torch.full((4,), 1e300, dtype=torch.float64)}
    assert "bn.bias: NaN or infinite values" in refusal(save(tmp_path, state), image_size=8)


def test_another_time_embedding(tmp_path: Path) -> None:
    name = "time_embedding.timembedding.0.weight"
    for table in (sddpm()[name].flip(1), sddpm()[name][:, :2], torch.full((20, 4), torch.nan)):
        assert f"{name} is not the table" in refusal(save(tmp_path, sddpm() | {name: table}), image_size=8)
    state = sddpm()
    del state[name]
    assert f"{name} must have 2 dimensions, it is missing" in refusal(save(tmp_path, state), image_size=8)


def test_the_other_networks(tmp_path: Path) -> None:
    gained = save(tmp_path, sddpm(tsm=True))
    assert "it is an SDM: import it with --from sdm" in refusal(gained)
    assert "gains for 4 SNN steps, not for the 8 asked for" in refusal(gained, import_sdm, timesteps=8)
    assert "if it is an SDDPM, import it with --from sddpm" in refusal(save(tmp_path, sddpm()), import_sdm)
    torch.save(AuthorsDenoiser(7, (3, 4), 2).state_dict(), tmp_path / "sdid.pth")
    assert "it has no bn.weight" in refusal(tmp_path / "sdid.pth")
    torch.save(AuthorsVQVAE(1, (3,), 2, 7, 2).state_dict(), tmp_path / "vq.pth")

    def both(vq: Path, denoiser: str) -> str:
        return refusal(vq, import_spiking_diffusion, denoiser=tmp_path / denoiser, image_size=4)

    assert "it has no encoder.snn_convs.0.weight" in both(tmp_path / "ckpt.pt", "sdid.pth")
    assert "vq.pth: not a network of this format: it has no conv1.0.weight" in both(tmp_path / "vq.pth", "vq.pth")
    assert "is the VQ-SVAE alone" in refusal(tmp_path / "vq.pth", import_spiking_diffusion)
    assert "model.pth: there is no such file" in refusal(tmp_path, import_spiking_diffusion)


def test_other_weights_of_the_sum_over_time(tmp_path: Path) -> None:
    state = AuthorsVQVAE(1, (3,), 2, 7, 2).state_dict()
    state["memout.coef"] = state["memout.coef"] * 0.9
    torch.save(AuthorsDenoiser(7, (3, 4), 2).state_dict(), tmp_path / "sdid.pth")
    path = save(tmp_path, state)
    message = refusal(path, import_spiking_diffusion, denoiser=tmp_path / "sdid.pth", image_size=4)
    assert "memout.coef are not the weights 0.8^(T-1-t)" in message


def test_an_image_size_that_the_levels_cannot_halve(tmp_path: Path) -> None:
    assert "2 levels need a multiple of 2" in refusal(save(tmp_path, sddpm()), image_size=7)


def test_a_data_set_must_be_named_for_other_images(tmp_path: Path) -> None:
    path = save(tmp_path, sddpm(img_ch=2))
    with pytest.raises(ConfigError, match="2 channels; name its data set"):
        import_sddpm(path, image_size=8)
    assert import_sddpm(path, image_size=8, dataset="folder:x").dataset == "folder:x"


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def archive_with_code(path: Path) -> None:
    torch.save({"net_model": sddpm(), "more": Hostile()}, path)


def pickle_with_code(path: Path) -> None:
    path.write_bytes(pickle.dumps(Hostile()))


def old_archive(path: Path) -> None:
    torch.save(OrderedDict(sddpm()), path, _use_new_zipfile_serialization=False)


def script(path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)


def truncated(path: Path) -> None:
    torch.save(sddpm(), path)
    path.write_bytes(path.read_bytes()[:-2000])


def other_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("readme.txt", "hello")


BAD: list[tuple[Callable[[Path], Any], str]] = [
    (archive_with_code, "holds more than tensors and numbers"),
    (pickle_with_code, "not a checkpoint of torch.save since PyTorch 1.6"),
    (old_archive, "not a checkpoint of torch.save since PyTorch 1.6"),
    (script, "not a readable file of torch.save"),
    (truncated, "not a readable file of torch.save"),
    (other_zip, "not a readable file of torch.save"),
    (lambda path: path.write_bytes(b""), "not a checkpoint of torch.save since PyTorch 1.6"),
    (lambda path: path.write_text("a text"), "not a checkpoint of torch.save since PyTorch 1.6"),
    (lambda path: torch.save(torch.zeros(3), path), "holds one Tensor, not a state_dict"),
    (lambda path: torch.save({}, path), "not a state_dict (it is empty)"),
    (lambda path: torch.save({"net_model": {}}, path), "not a state_dict (it is empty)"),
    (lambda path: torch.save({"weights": sddpm(), "step": 3}, path), "weights, step are no plain tensors"),
    (lambda path: torch.save({"bn.weight": torch.zeros(3).to_sparse()}, path), "bn.weight are no plain tensors"),
    (lambda path: torch.save({"bn.weight": torch.zeros(3, device="meta")}, path), "bn.weight are no plain tensors"),
    (lambda path: torch.save({"bn.weight": torch.zeros(1).expand(10**12)}, path), "claim more bytes than the file"),
]


@pytest.mark.parametrize(("make", "message"), BAD)
def test_a_bad_file_is_refused_and_nothing_runs(
    make: Callable[[Path], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "bad.pt")
    assert message in refusal(Path("bad.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file(sddpm(), tmp_path / "bad.safetensors")
    data = (tmp_path / "bad.safetensors").read_bytes()
    for part in (data[:-7], data[:4], b"", archive_bytes(tmp_path)):
        (tmp_path / "bad.safetensors").write_bytes(part)
        assert "not a readable safetensors file" in refusal(tmp_path / "bad.safetensors")


def archive_bytes(folder: Path) -> bytes:
    return save(folder, sddpm()).read_bytes()


def test_a_file_above_the_limit_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path, sddpm())
    monkeypatch.setattr(files, "FILE_BYTES_MAX", 1000)
    assert f"{path.stat().st_size} bytes, limit is 1000" in refusal(path)
    with pytest.raises(CheckpointError, match="there is no such file"):
        import_sddpm(tmp_path / "absent.pt")
