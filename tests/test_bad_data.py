"""Data that cannot be learnt from: one clear line that names the file, and what is needed."""

import io
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from workplace import LONG, SETTINGS, Case, Spoil, assert_refused, halved, written

IMAGES = f"search {SETTINGS} --out new --budget 1MFLOPs --validation-fraction 0.3"


def arrays(**changes: Any) -> Spoil:
    def spoil() -> None:
        with np.load("data.npz") as file:
            np.savez("data.npz", **(dict(file) | changes))

    return spoil


def huge() -> bytes:
    """An array whose header is not true."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(10))
    return buffer.getvalue().replace(b"(10,), }           ", b"(1000000000000,), }")


def zipped(entries: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


CASES = {
    "unknown": Case(
        f"{IMAGES} --data mnist", "unknown dataset 'mnist'; known: cifar10, .*digits, the path"
    ),
    "a name too long": Case(f"{IMAGES} --data {LONG}", "unknown dataset 'mmm.*known: cifar10"),
    "resized digits": Case(
        f"{IMAGES} --data digits --image-size 16", "image size of 16 pixels .*leave it out"
    ),
    "missing npz": Case(f"{IMAGES} --data no.npz", "cannot read no.npz: no such file; check"),
    "long npz": Case(f"{IMAGES} --data {LONG}.npz", "cannot read mmm.*: no such file; check"),
    "truncated npz": Case(
        f"{IMAGES} --data data.npz",
        "cannot read data.npz: .*; write it again with numpy.savez",
        halved("data.npz"),
    ),
    "other keys": Case(
        f"{IMAGES} --data data.npz",
        "data.npz has the keys images, labels; needed: x_train, .*y_test; rename its arrays",
        lambda: np.savez("data.npz", images=np.zeros(1), labels=np.zeros(1)),
    ),
    "other dtype": Case(
        f"{IMAGES} --data data.npz",
        r"x_train is float64 of shape \(40, 8, 8\); needed: uint8 images \(N, H, W, C\)",
        arrays(x_train=np.zeros((40, 8, 8))),
    ),
    "too few labels": Case(
        f"{IMAGES} --data data.npz",
        r"y_test is int64 of shape \(5,\); needed: one integer for each of the 8 images",
        arrays(y_test=np.zeros(5, np.int64)),
    ),
    "one class": Case(
        f"{IMAGES} --data data.npz",
        "data.npz has images of 1 class; needed: two or more classes",
        arrays(y_train=np.zeros(40, np.int64), y_test=np.zeros(8, np.int64)),
    ),
    "a class without images": Case(
        f"{IMAGES} --data data.npz",
        "data.npz: y_train has labels up to 255, but none of class 4; needed: .*from 0",
        arrays(y_train=np.append(np.arange(39) % 4, 255)),
    ),
    "a huge label": Case(
        f"{IMAGES} --data data.npz",
        r"y_train has labels up to 92233720368547758\d+, but none of class 4",
        arrays(y_train=np.append(np.arange(39) % 4, 2**63 + 5).astype(np.uint64)),
    ),
    "an npz that says it holds 7 TiB": Case(
        f"{IMAGES} --data data.npz",
        r"cannot read data.npz: an array of shape \(1000000000000,\) does not fit into",
        lambda: Path("data.npz").write_bytes(
            zipped({"x_train.npy": huge(), "y_train.npy": huge()})
        ),
    ),
    "pickled npz": Case(
        f"{IMAGES} --data data.npz",
        "cannot read data.npz: Object arrays .*; write it again",
        arrays(y_train=np.array([{}], dtype=object)),
    ),
    "corrupt image": Case(
        f"{IMAGES} --data images",
        "cannot read the image images/train/dog/1.png: .*; repair or remove the file",
        written("images/train/dog/1.png", b"no image"),
    ),
    "truncated image": Case(
        f"{IMAGES} --data images --image-size 8",
        "cannot read the image images/test/cat/0.png: .*; repair or remove the file",
        halved("images/test/cat/0.png"),
    ),
    "two sizes": Case(
        f"{IMAGES} --data images",
        "images/train/dog/1.png is 9x7, .* is 8x8; choose one size .* --image-size",
        lambda: Image.new("RGB", (7, 9)).save("images/train/dog/1.png"),
    ),
    "one folder": Case(
        f"{IMAGES} --data images",
        "images: train/ has images of 1 class; needed: two or more classes",
        lambda: [shutil.rmtree(f"images/{part}/dog") for part in ("train", "test")],
    ),
    "a huge size": Case(
        f"{IMAGES} --data images --image-size 100000000",
        "out of memory .*image-size",
    ),
    "no train/": Case(
        f"{IMAGES} --data images",
        "cannot read images as a folder of images: .*images/train.*; needed: train/",
        lambda: shutil.rmtree("images/train"),
    ),
    "other classes": Case(
        f"{IMAGES} --data images",
        "train/ and test/ have different classes: dog; needed: the same",
        lambda: shutil.rmtree("images/test/dog"),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_data_is_one_clear_line_and_leaves_the_disk_alone(
    workplace: Path, case: Case
) -> None:
    assert_refused(case)
