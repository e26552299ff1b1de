"""A data set is read as it is, or refused in one line that names the file and the way out."""

import io
import urllib.request
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from goldnas.data import on_disk
from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import Normalisation
from goldnas.data.files import ImageFiles
from goldnas.data.loader import read_batches
from goldnas.errors import ConfigError, DataError
from images import RAW, loader, noise, same


def arrays(shape: tuple[int, ...] = (12, 12, 3)) -> dict[str, np.ndarray]:
    return {
        "x_train": noise(40, *shape),
        "y_train": np.arange(40) % 4,
        "x_test": noise(8, *shape),
        "y_test": np.arange(8) % 4,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 10x10 images: three each for training, one each for testing."""
    root = tmp_path / "images"
    for label, grey in (("cat", 40), ("dog", 200)):
        for part, count in (("train", 3), ("test", 1)):
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (10, 10), (grey + i, grey, grey))
                image.save(root / part / label / f"{i}.png")
    return root


# -- reading -----------------------------------------------------------------------------------


def test_digits_are_the_1797_real_ones_in_a_fixed_stratified_split() -> None:
    digits = load_dataset("digits")
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    assert digits.train.input_shape == (1, 8, 8)
    assert digits.train.num_classes == 10
    assert isinstance(digits.train.images, Tensor)
    assert digits.train.images.dtype == torch.uint8
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)
    assert digits.test.labels.bincount().tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    again = load_dataset("digits")
    assert torch.equal(digits.test.labels, again.test.labels)


def test_npz_in_nhwc_and_nhw_gives_channels_first(tmp_path: Path) -> None:
    colour, grey = arrays(), arrays((9, 7))
    np.savez(tmp_path / "colour.npz", **colour, classes=np.array(["a", "b", "c", "d"]))
    np.savez(tmp_path / "grey.npz", **grey)
    data = load_dataset(str(tmp_path / "colour.npz"))
    assert data.name == "colour"
    assert data.train.input_shape == (3, 12, 12)
    assert data.train.num_classes == 4
    assert data.train.images[torch.tensor([5])][0, 2, 3, 4] == colour["x_train"][5, 3, 4, 2]
    assert data.test.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert load_dataset(str(tmp_path / "grey.npz")).test.input_shape == (1, 9, 7)


def test_folder_of_images_is_decoded_with_labels_by_class_folder(folder: Path) -> None:
    data = load_dataset(str(folder))
    assert isinstance(data.train.images, Tensor)
    assert data.train.input_shape == (3, 10, 10)
    assert data.train.num_classes == 2
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.images[:, 0, 0, 0].tolist() == [40, 41, 42, 200, 201, 202]
    assert data.test.images[torch.tensor([1])][0, :, 9, 9].tolist() == [200, 200, 200]


def test_folder_may_call_its_test_part_val(folder: Path) -> None:
    (folder / "test").rename(folder / "val")
    assert len(load_dataset(str(folder)).test) == 2


def test_images_of_several_sizes_need_a_size_and_are_resized_to_it(folder: Path) -> None:
    Image.new("RGB", (30, 20)).save(folder / "train" / "dog" / "2.png")
    with pytest.raises(DataError, match=r"2\.png is 20x30.*`image_size`"):
        load_dataset(str(folder))
    assert load_dataset(str(folder), image_size=16).train.input_shape == (3, 16, 16)


def test_folder_over_the_memory_limit_is_read_lazily_with_the_same_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = load_dataset(str(folder))
    monkeypatch.setattr(on_disk, "DECODED_BYTES_LIMIT", 0)
    lazy = load_dataset(str(folder))
    assert isinstance(lazy.train.images, ImageFiles)
    assert Normalisation.measure(lazy.train) == Normalisation.measure(decoded.train)
    for part in ("train", "test"):
        assert same(
            read_batches(getattr(lazy, part), RAW, batch_size=2),
            read_batches(getattr(decoded, part), RAW, batch_size=2),
        )
    assert (lazy.train.kept, decoded.train.kept) == (
        "decoded from files when they are used",
        "in memory",
    )
    settings = {"batch_size": 3, "augmentation": Augmentation()}
    assert same(
        loader(lazy.train, **settings, workers=1).epoch(0),
        loader(decoded.train, **settings).epoch(0),
    )


# -- refusing: each message is one line that names the file and the way out --------------------


def without(key: str) -> Callable[[dict[str, np.ndarray]], None]:
    return lambda npz: npz.update(images=npz.pop(key))


def changed(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict], None]:
    return lambda npz: npz.update({key: change(npz[key])})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("x_train"), "has the keys .*images.*needed: x_train, y_train, x_test, y_test"),
        (changed("x_train", lambda x: x.astype(np.float32)), "x_train is float32 .*uint8"),
        (changed("x_test", lambda x: x[0, 0]), r"x_test is uint8 of shape \(12, 3\)"),
        (changed("x_test", lambda x: x[:0]), r"x_test is uint8 of shape \(0, "),
        (changed("x_test", lambda x: x[:, 1:]), "one size for both"),
        (changed("y_train", lambda y: y[1:]), "y_train is int64 .*each of the 40 images"),
        (changed("y_train", lambda y: y / 2), "y_train is float64"),
        (changed("y_train", lambda y: y - 1), "y_train has labels from -1 to 2"),
        (changed("y_test", lambda y: y + 9), "y_test has labels from 9 to 12; needed: 0 to 3"),
        (changed("y_test", lambda y: y.astype(object)), "Object arrays"),
    ],
)
def test_npz_of_another_form_is_refused(
    tmp_path: Path, damage: Callable[[dict[str, np.ndarray]], None], message: str
) -> None:
    npz = arrays()
    damage(npz)
    np.savez(tmp_path / "bad.npz", **npz)
    assert_refused(str(tmp_path / "bad.npz"), message, names="bad.npz")


def assert_refused(name: str, message: str, *, names: str, **settings: int) -> None:
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(name, **settings)
    assert names in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 10, 1000, -1])
def test_truncated_npz_is_refused(tmp_path: Path, kept: int) -> None:
    whole = io.BytesIO()
    np.savez(whole, **arrays())
    (tmp_path / "cut.npz").write_bytes(whole.getvalue()[:kept])
    assert_refused(str(tmp_path / "cut.npz"), "cannot read", names="cut.npz")


def test_npz_with_flipped_bytes_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rotten.npz"
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(content)
    assert_refused(str(path), "cannot read", names="rotten.npz")


def test_npz_of_an_unknown_compression_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "packed.npz"
    np.savez(path, **arrays())
    content = path.read_bytes()
    directory = content.index(b"PK\x01\x02")  # its method is the two bytes at 10
    path.write_bytes(content[: directory + 10] + b"\x63\x00" + content[directory + 12 :])
    assert_refused(str(path), "compression", names="packed.npz")


def test_missing_npz_is_named(tmp_path: Path) -> None:
    assert_refused(str(tmp_path / "none.npz"), "no such file", names="none.npz")


@pytest.mark.parametrize("name", ["cifar11", "no/such/folder"])
def test_unknown_name_lists_the_names_and_the_two_kinds_of_path(name: str) -> None:
    known = r"cifar10, cifar100, fashion-mnist, digits, .*\.npz.*train/ and test/ or val/"
    assert_refused(name, known, names=name)


def test_image_size_for_other_than_a_folder_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"32 pixels .* digits"):
        load_dataset("digits", image_size=32)
    with pytest.raises(ConfigError, match=r"size of 0 pixels"):
        load_dataset(str(folder), image_size=0)


@pytest.mark.parametrize("size", [None, 8])
@pytest.mark.parametrize("kept", [0, 20, 200])
def test_corrupt_image_is_named_at_once(folder: Path, kept: int, size: int | None) -> None:
    image = folder / "train" / "dog" / "1.png"
    Image.fromarray(noise(10, 10, 3)).save(image)  # 300 bytes that cannot be compressed
    image.write_bytes(image.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"cannot read the image .*dog/1\.png") as caught:
        load_dataset(str(folder), image_size=size)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_image_that_turns_corrupt_during_the_search_is_named_in_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setattr(on_disk, "DECODED_BYTES_LIMIT", 0)
    data = load_dataset(str(folder)).train
    (folder / "train" / "dog" / "1.png").write_bytes(b"not an image")
    batches = loader(data, Augmentation(), batch_size=2, workers=workers).epoch(0)
    with pytest.raises(DataError) as caught:
        list(batches)
    assert "dog/1.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_without_parts_or_with_other_classes_is_refused(folder: Path) -> None:
    (folder / "test" / "dog").rename(folder / "test" / "wolf")
    assert_refused(str(folder), "have different classes: dog, wolf", names="images")
    (folder / "train").rename(folder / "training")
    assert_refused(str(folder), "needed: train/", names="images")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion-mnist"])
def test_failing_download_says_where_the_files_go(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(urllib.request, "_opener", None)  # it would remember other proxies
    for variable in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
        monkeypatch.delenv(variable.upper(), raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for download in (True, False):
        with pytest.raises(DataError, match=f"cannot load {name}: .*`data_dir`") as caught:
            load_dataset(name, data_dir=tmp_path, download=download)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)
