"""Small data sets in the published formats, in the folders where torchvision looks for them."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from torchvision import datasets

Pixels = npt.NDArray[np.uint8]
LISTS = {  # of CelebA; what comes before the rows
    "list_attr_celeba.txt": "{count}\n5_o_Clock_Shadow Arched_Eyebrows\n",
    "identity_CelebA.txt": "",
    "list_bbox_celeba.txt": "{count}\nimage_id x_1 y_1 width height\n",
    "list_landmarks_align_celeba.txt": "{count}\nlefteye_x lefteye_y\n",
    "list_eval_partition.txt": "",
}


def pixels(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


def idx(array: npt.NDArray[Any]) -> bytes:
    """The IDX format: 0, 0, type (8: unsigned byte), number of dimensions, sizes (big endian), data."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def mnist_files(train: Pixels) -> dict[str, bytes]:
    """The four files of MNIST, Fashion-MNIST and KMNIST, with other images in the test set."""
    return {
        "train-images-idx3-ubyte": idx(train),
        "train-labels-idx1-ubyte": idx(np.zeros(len(train), dtype=np.uint8)),
        "t10k-images-idx3-ubyte": idx(255 - train),
        "t10k-labels-idx1-ubyte": idx(np.zeros(len(train), dtype=np.uint8)),
    }


def write_mnist(root: Path, folder: str, train: Pixels) -> Path:
    """The extracted files; returns their folder."""
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for name, data in mnist_files(train).items():
        (raw / name).write_bytes(data)
    return raw


def compressed_mnist(root: Path, train: Pixels, patched: pytest.MonkeyPatch) -> None:
    """The files as they are fetched, .gz; torchvision is told their checksums."""
    raw, resources = root / "MNIST" / "raw", []
    raw.mkdir(parents=True)
    for name, data in mnist_files(train).items():
        (raw / f"{name}.gz").write_bytes(packed := gzip.compress(data))
        resources.append((f"{name}.gz", md5(packed)))
    patched.setattr(datasets.MNIST, "resources", resources)


def compressed_emnist(root: Path, stored: Pixels, patched: pytest.MonkeyPatch) -> None:
    """EMNIST as it is fetched: a zip of .gz files; torchvision is told its checksum."""
    raw = root / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    with zipfile.ZipFile(raw / "gzip.zip", "w") as archive:
        for part, images in (("train", stored), ("test", 255 - stored)):
            labels = np.ones(len(images), dtype=np.uint8)
            archive.writestr(f"gzip/emnist-letters-{part}-images-idx3-ubyte.gz", gzip.compress(idx(images)))
            archive.writestr(f"gzip/emnist-letters-{part}-labels-idx1-ubyte.gz", gzip.compress(idx(labels)))
    patched.setattr(datasets.EMNIST, "md5", md5((raw / "gzip.zip").read_bytes()))


def cifar_files(train: Pixels) -> dict[str, bytes]:
    """The pickles of CIFAR-10, whose images are rows of 3072 bytes: red, green, blue."""
    parts: list[tuple[str, Any]] = [
        (f"data_batch_{i + 1}", part) for i, part in enumerate(np.array_split(train.reshape(len(train), -1), 5))
    ]
    files = {
        name: pickle.dumps({"data": part, "labels": [0] * len(part)}, protocol=2)
        for name, part in [*parts, ("test_batch", 255 - parts[0][1])]
    }
    return {**files, "batches.meta": pickle.dumps({"label_names": ["airplane"]}, protocol=2)}


def know_cifar(files: dict[str, bytes], patched: pytest.MonkeyPatch) -> None:
    """Tell torchvision the checksums of these files, in place of the published ones."""
    listed = [[name, md5(data)] for name, data in files.items() if name != "batches.meta"]
    patched.setattr(datasets.CIFAR10, "train_list", listed[:5])
    patched.setattr(datasets.CIFAR10, "test_list", listed[5:])
    patched.setattr(datasets.CIFAR10, "meta", {**datasets.CIFAR10.meta, "md5": md5(files["batches.meta"])})


def write_cifar(root: Path, files: dict[str, bytes]) -> Path:
    """The extracted files; returns their folder."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def compressed_cifar(root: Path, files: dict[str, bytes], patched: pytest.MonkeyPatch) -> None:
    """CIFAR-10 as it is fetched, a .tar.gz."""
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    patched.setattr(datasets.CIFAR10, "tgz_md5", md5((root / "cifar-10-python.tar.gz").read_bytes()))


def write_celeba(root: Path, faces: Pixels, parts: list[int], patched: pytest.MonkeyPatch) -> Path:
    """CelebA: ``faces`` [N, 218, 178, 3] as pictures, which ``parts`` puts into training (0), validation or test set.

    The pictures have JPEG's names but PNG's content, which Pillow goes by: so that every pixel is kept.
    """
    folder = root / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    names = [f"{number + 1:06d}.jpg" for number in range(len(faces))]
    for name, face in zip(names, faces, strict=True):
        Image.fromarray(face).save(folder / "img_align_celeba" / name, format="PNG")
    listed = []
    for title, head in LISTS.items():
        columns = [str(part) for part in parts] if "partition" in title else ["1  -1"] * len(parts)
        rows = "".join(f"{name} {column}\n" for name, column in zip(names, columns, strict=True))
        data = (head.format(count=len(names)) + rows).encode()
        (folder / title).write_bytes(data)
        listed.append(("", md5(data), title))
    patched.setattr(datasets.CelebA, "file_list", listed)
    return folder / "img_align_celeba"
