"""The data sets that torchvision reads, from small files in the published formats."""

from __future__ import annotations

import dataclasses
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torchvision import datasets, transforms

from spikegen.errors import ConfigError, MissingPackageError
from spikegen.training import ImageSet, Trainer, load_images
from spikegen.training.datasets import data_root
from spikegen.training.tasks import NoisePrediction
from tests.training.data_files import (
    cifar_files,
    compressed_cifar,
    compressed_emnist,
    compressed_mnist,
    idx,
    know_cifar,
    pixels,
    write_celeba,
    write_cifar,
    write_mnist,
)
from tests.training.recipes import TINY
from tests.training.states import assert_same_state, state


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("no network in tests")

    for name in ("_urlretrieve", "_get_redirect_url", "download_file_from_google_drive"):
        monkeypatch.setattr(f"torchvision.datasets.utils.{name}", refuse)
    monkeypatch.setattr("torchvision.datasets.celeba.download_file_from_google_drive", refuse)


def assert_shows(images: ImageSet, expected: npt.NDArray[np.uint8]) -> None:
    """``images`` are ``expected`` [N, C, H, W] 0..255 as float32 -1..1, and come in any order."""
    found = images[:]
    assert found.dtype == np.float32
    assert images.shape == found.shape == expected.shape
    assert float(np.abs(found).max()) <= 1
    np.testing.assert_array_equal(np.rint((found.astype(np.float64) + 1) * 127.5), expected)
    np.testing.assert_allclose(found, expected / 127.5 - 1, rtol=0, atol=1e-7)
    last = len(expected) - 1
    np.testing.assert_array_equal(images[[last, 0, last]], found[[last, 0, last]])
    np.testing.assert_array_equal(images[last], found[last])


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
def test_the_training_images_of_mnist_and_its_kin(
    name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = pixels(3, 28, 28)
    stored[0, 0, :2] = 0, 255
    write_mnist(tmp_path, folder, stored)
    images = load_images(name, tmp_path)
    assert_shows(images, stored[:, None])
    assert images[0][0, 0, :2].tolist() == [-1.0, 1.0]
    assert not images.flips
    monkeypatch.setenv("SPIKEGEN_DATA", str(tmp_path))
    np.testing.assert_array_equal(load_images(name)[:], images[:])


def test_mnist_at_32_is_what_sddpm_trains_on(tmp_path: Path) -> None:
    write_mnist(tmp_path, "MNIST", pixels(4, 28, 28))
    transform = transforms.Compose([transforms.Resize((32, 32)), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)])
    reference = torch.stack([image for image, _ in datasets.MNIST(str(tmp_path), transform=transform)])
    found = load_images("mnist@32", tmp_path)[:]
    assert found.shape == (4, 1, 32, 32)
    np.testing.assert_allclose(found, reference.numpy(), rtol=0, atol=1e-6)  # other roundings of x / 127.5 - 1


def test_emnist_is_stored_column_by_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upright = pixels(3, 28, 28)
    compressed_emnist(tmp_path, upright.transpose(0, 2, 1), monkeypatch)
    assert_shows(load_images("emnist-letters", tmp_path, download=True), upright[:, None])
    assert_shows(load_images("emnist-letters", tmp_path), upright[:, None])


def test_compressed_files_are_unpacked_when_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = pixels(3, 28, 28)
    compressed_mnist(tmp_path, stored, monkeypatch)
    with pytest.raises(ConfigError, match=r"^the data set mnist cannot be read from .*MNIST/raw: Dataset not found"):
        load_images("mnist", tmp_path)
    assert_shows(load_images("mnist", tmp_path, download=True), stored[:, None])
    assert_shows(load_images("mnist", tmp_path), stored[:, None])


def test_cifar_10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = pixels(11, 3, 32, 32)
    files = cifar_files(stored)
    know_cifar(files, monkeypatch)
    write_cifar(tmp_path / "a", files)
    images = load_images("cifar10", tmp_path / "a")
    assert_shows(images, stored)
    assert images.flips
    (tmp_path / "b").mkdir()
    compressed_cifar(tmp_path / "b", files, monkeypatch)
    assert_shows(load_images("cifar10", tmp_path / "b", download=True), stored)


class Hostile:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["data_batch_1", "data_batch_5", "test_batch", "batches.meta"])
def test_no_other_pickle_than_the_published_one_is_read(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, trace = cifar_files(pixels(5, 3, 32, 32)), tmp_path / "trace"
    know_cifar(files, monkeypatch)
    folder = write_cifar(tmp_path, files)
    (folder / name).write_bytes(pickle.dumps(Hostile(trace)))
    with pytest.raises(ConfigError, match=r"^the data set cifar10 cannot be read from .*corrupted.* published files"):
        load_images("cifar10", tmp_path)
    assert not trace.exists()
    pickle.loads((folder / name).read_bytes())  # noqa: S301 - it would have
    assert trace.exists()


def test_small_files_are_not_the_published_cifar_10(tmp_path: Path) -> None:
    write_cifar(tmp_path, cifar_files(pixels(5, 3, 32, 32)))
    with pytest.raises(ConfigError, match="published files"):
        load_images("cifar10", tmp_path)


def test_celeba_is_what_sddpm_trains_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_celeba(tmp_path, pixels(4, 218, 178, 3), [0, 1, 0, 2], monkeypatch)
    steps = [transforms.CenterCrop(148), transforms.Resize(64), transforms.ToTensor(), transforms.Normalize(0.5, 0.5)]
    reference = datasets.CelebA(str(tmp_path), transform=transforms.Compose(steps))
    images = load_images("celeba", tmp_path)
    assert images.shape == (2, 3, 64, 64)
    assert images.flips
    expected = torch.stack([image for image, _ in reference]).numpy()
    np.testing.assert_allclose(images[:], expected, rtol=0, atol=1e-6)
    # another size is made from the pictures, not from images of 64 pixels
    steps[1] = transforms.Resize(148)
    full = torch.stack([image for image, _ in datasets.CelebA(str(tmp_path), transform=transforms.Compose(steps))])
    np.testing.assert_allclose(load_images("celeba@148", tmp_path)[:], full.numpy(), rtol=0, atol=1e-6)


def test_a_face_is_read_when_it_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_celeba(tmp_path, pixels(3, 218, 178, 3), [0, 0, 0], monkeypatch)
    images = load_images("celeba", tmp_path)
    (folder / "000002.jpg").unlink()
    assert images[[0, 2]].shape == (2, 3, 64, 64)
    with pytest.raises(ConfigError, match=r"000002\.jpg: not a readable picture"):
        images[:]


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "kmnist", "emnist-letters", "cifar10", "celeba"])
def test_missing_data_say_where_they_belong_and_are_not_fetched(name: str, tmp_path: Path) -> None:
    message = rf"^the data set {name} is not in {tmp_path}/\w.*; `spikegen data {name} --download` .*SPIKEGEN_DATA"
    with pytest.raises(ConfigError, match=message):
        load_images(f"{name}@16", tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=rf"^the data set {name} cannot be downloaded to {tmp_path}/.*"):
        load_images(name, tmp_path, download=True)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],  # truncated
        lambda data: data[:3],
        lambda _: b"",
        lambda data: b"\0\0\x0d\x03" + data[4:],  # of floats
        lambda data: b"\0\0\x08\x01" + data[4:],  # one dimension
        lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:],  # 4,294,967,295 images
        lambda _: idx(np.zeros((0, 28, 28), dtype=np.uint8)),
    ],
)
def test_damaged_idx_files_are_one_error(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    raw = write_mnist(tmp_path, "MNIST", pixels(3, 28, 28))
    path = raw / "train-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    message = r"^the data set mnist (cannot be read from .*MNIST/raw: \w|in .*MNIST/raw holds no images$)"
    with pytest.raises(ConfigError, match=message):
        load_images("mnist", tmp_path)


def test_without_torchvision_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(
        MissingPackageError, match=r"^the data set mnist is read by torchvision .*pip install 'spikegen\[data\]'"
    ):
        load_images("mnist", tmp_path)
    assert len(load_images("digits")) == 1797
    assert len(load_images("noise:3x4x4")) == 1024


def test_the_root_of_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("SPIKEGEN_DATA", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert data_root() == Path("/home/someone/.cache/spikegen/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # the specification says to ignore it
    assert data_root() == Path("/home/someone/.cache/spikegen/data")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_root() == Path("/cache/spikegen/data")
    monkeypatch.setenv("SPIKEGEN_DATA", "~/sets")
    assert data_root() == Path("/home/someone/sets")


def test_training_mirrors_half_of_the_images_of_a_set_that_flips() -> None:
    stored = pixels(6, 3, 4, 4)
    upright = ImageSet.of(stored)
    plain, flipping = (
        NoisePrediction(images, "linear", 10, batch_size=400) for images in (upright, ImageSet.of(stored, flips=True))
    )
    known, mirrored = upright[:], upright[:][..., ::-1]
    batch = flipping._images(flipping.images, torch.Generator().manual_seed(0)).numpy()
    turned = [any(np.array_equal(image, other) for other in mirrored) for image in batch]
    kept = [any(np.array_equal(image, other) for other in known) for image in batch]
    assert all(a != b for a, b in zip(turned, kept, strict=True))
    assert 150 < sum(turned) < 250  # 5 sigma
    again = flipping.batch(torch.Generator().manual_seed(1)), flipping.batch(torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) for a, b in zip(*again, strict=True))
    # which images are drawn does not depend on it, and a set that does not flip draws nothing more
    drawn = torch.randint(6, (400,), generator=torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_array_equal(plain._images(upright, torch.Generator().manual_seed(0)).numpy(), known[drawn])
    np.testing.assert_array_equal(
        np.where(np.array(turned)[:, None, None, None], batch[..., ::-1], batch), known[drawn]
    )
    generator, other = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    plain._images(upright, generator)
    torch.randint(6, (400,), generator=other)
    assert torch.equal(generator.get_state(), other.get_state())


def test_a_run_on_a_set_that_flips_is_resumed_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flipping = ImageSet.of(load_images("digits")[:50], flips=True)
    monkeypatch.setattr("spikegen.training.tasks.load_fitting", lambda *_: flipping)
    Trainer(TINY, tmp_path / "whole").run()
    Trainer(TINY, tmp_path / "parts").run(until=2)
    Trainer(TINY, tmp_path / "parts").run()
    whole, parts = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert_same_state(whole, parts)
    monkeypatch.setattr("spikegen.training.tasks.load_fitting", lambda *_: dataclasses.replace(flipping, flips=False))
    Trainer(TINY, tmp_path / "upright").run()
    assert not torch.equal(whole["generator"], state(tmp_path / "upright")["generator"])
