"""The data sets that torchvision reads: their training images, in the files and folders that torchvision wants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spikegen.errors import ConfigError, MissingPackageError
from spikegen.training.datasets.imageset import ImageSet
from spikegen.training.datasets.pictures import faces

# SDDPM's sizes of CelebA (arXiv 2306.17046, `main_SDDPM.py`): the square of 148 pixels in the centre, resized to 64
CELEBA_CROP, CELEBA_SIZE = 148, 64
# What torchvision 0.18 raises on absent or damaged files and failed downloads; its readers check with `assert`.
_TROUBLE = (OSError, RuntimeError, AssertionError, ValueError, TypeError, LookupError, EOFError)


def _grey(data: Any, _root: Path) -> ImageSet:
    return ImageSet.of(data.data.numpy()[:, None])


def _turned(data: Any, _root: Path) -> ImageSet:
    """EMNIST is stored column by column."""
    return ImageSet.of(data.data.numpy().transpose(0, 2, 1)[:, None])


def _coloured(data: Any, _root: Path) -> ImageSet:
    return ImageSet.of(data.data.transpose(0, 3, 1, 2), flips=True)


def _faces(data: Any, root: Path) -> ImageSet:
    return faces(root / "celeba" / "img_align_celeba", data.filename, CELEBA_CROP).resized(CELEBA_SIZE)


@dataclass(frozen=True)
class Published:
    """A data set of torchvision.

    Attributes:
        reader: class of torchvision.datasets. CIFAR-10's files are pickles: it compares each with its published MD5
            before it reads it, so that no other pickle than the published one is ever loaded.
        place: its folder below the root of the data sets.
        images: what the reader found, as images.
        arguments: further arguments of the reader.
    """

    reader: str
    place: str
    images: Callable[[Any, Path], ImageSet]
    arguments: Mapping[str, str] = field(default_factory=dict)


PUBLISHED: dict[str, Published] = {
    "mnist": Published("MNIST", "MNIST/raw", _grey),
    "fashion-mnist": Published("FashionMNIST", "FashionMNIST/raw", _grey),
    "kmnist": Published("KMNIST", "KMNIST/raw", _grey),
    "emnist-letters": Published("EMNIST", "EMNIST/raw", _turned, {"split": "letters"}),
    "cifar10": Published("CIFAR10", "cifar-10-batches-py", _coloured),
    "celeba": Published("CelebA", "celeba", _faces, {"split": "train"}),
}


def published(name: str, root: Path, *, download: bool) -> ImageSet:
    """The training images of ``name``, a key of :data:`PUBLISHED`.

    Args:
        name: which data set.
        root: folder of the data sets.
        download: fetch what is missing, from where torchvision knows it to be.

    Raises:
        MissingPackageError: torchvision is missing, or does not fit torch.
        ConfigError: the files are missing, damaged or cannot be fetched.
    """
    try:
        from torchvision import datasets
    except (ImportError, RuntimeError) as error:  # RuntimeError: it was made for another torch
        raise MissingPackageError(
            f"the data set {name} is read by torchvision ({error}); pip install 'spikegen[data]'"
        ) from error
    entry = PUBLISHED[name]
    folder = root / entry.place
    if not (download or folder.is_dir()):
        raise ConfigError(
            f"the data set {name} is not in {folder}; `spikegen data {name} --download` puts it there, or set "
            f"SPIKEGEN_DATA to a folder that holds {entry.place}"
        )
    try:
        images = entry.images(getattr(datasets, entry.reader)(root, download=download, **entry.arguments), root)
    except _TROUBLE as error:
        doing = "cannot be downloaded to" if download else "cannot be read from"
        raise ConfigError(
            f"the data set {name} {doing} {folder}: {str(error) or type(error).__name__}; expected are the published "
            f"files, laid out as torchvision's {entry.reader} does it"
        ) from error
    if not len(images):
        raise ConfigError(f"the data set {name} in {folder} holds no images")
    return images
