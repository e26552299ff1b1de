import io
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from goldnas.errors import ConfigError, DataError, GoldnasError
from goldnas.training import datasets
from goldnas.training.augmentation import Augmentation, cut_out
from goldnas.training.data import ImageData, ImageFiles, Normalisation, split_validation
from goldnas.training.datasets import load_dataset
from goldnas.training.loader import TrainingLoader, default_workers, evaluation_batches

EVERYTHING = Augmentation(crop_padding=2, flip=True, autoaugment=True, cutout=4)
RAW = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def arrays(shape: tuple[int, ...] = (12, 12, 3)) -> dict[str, np.ndarray]:
    return {
        "x_train": noise(40, *shape),
        "y_train": np.arange(40) % 4,
        "x_test": noise(8, *shape),
        "y_test": np.arange(8) % 4,
    }


def colour_data(num_images: int = 40) -> ImageData:
    images = torch.from_numpy(noise(num_images, 3, 12, 12))
    return ImageData(images, torch.arange(num_images) % 4, 4)


def loader(
    data: ImageData, augmentation: Augmentation = EVERYTHING, **settings: int
) -> TrainingLoader:
    return TrainingLoader(
        data, augmentation, RAW, **{"batch_size": 8, "seed": 3, "workers": 0, **settings}
    )


def same(left: Iterable[tuple[Tensor, Tensor]], right: Iterable[tuple[Tensor, Tensor]]) -> bool:
    return all(
        torch.equal(a, c) and torch.equal(b, d)
        for (a, b), (c, d) in zip(left, right, strict=True)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 10x10 pictures: three each for training, one each for testing."""
    root = tmp_path / "pictures"
    for label, grey in (("cat", 40), ("dog", 200)):
        for part, count in (("train", 3), ("test", 1)):
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                picture = Image.new("RGB", (10, 10), (grey + i, grey, grey))
                picture.save(root / part / label / f"{i}.png")
    return root


# Reading


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
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.images[:, 0, 0, 0].tolist() == [40, 41, 42, 200, 201, 202]
    assert data.test.images[torch.tensor([1])][0, :, 9, 9].tolist() == [200, 200, 200]


def test_folder_may_call_its_test_part_val(folder: Path) -> None:
    (folder / "test").rename(folder / "val")
    assert len(load_dataset(str(folder)).test) == 2


def test_images_of_several_sizes_need_a_size_and_are_resized_to_it(folder: Path) -> None:
    Image.new("RGB", (30, 20)).save(folder / "train" / "dog" / "2.png")
    with pytest.raises(DataError, match=r"2\.png is 20x30.*--image-size"):
        load_dataset(str(folder))
    assert load_dataset(str(folder), image_size=16).train.input_shape == (3, 16, 16)


def test_folder_over_the_memory_limit_is_read_lazily_with_the_same_pixels(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = load_dataset(str(folder))
    monkeypatch.setattr(datasets, "DECODED_BYTES_LIMIT", 0)
    lazy = load_dataset(str(folder))
    assert isinstance(lazy.train.images, ImageFiles)
    assert Normalisation.of(lazy.train) == Normalisation.of(decoded.train)
    for part in ("train", "test"):
        assert same(
            evaluation_batches(getattr(lazy, part), RAW, batch_size=2),
            evaluation_batches(getattr(decoded, part), RAW, batch_size=2),
        )
    settings = {"batch_size": 3, "augmentation": Augmentation()}
    assert same(
        loader(lazy.train, **settings, workers=1).epoch(0),
        loader(decoded.train, **settings).epoch(0),
    )


# Refusing: each message is one line that names the file and the way out


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
    monkeypatch.setattr(datasets, "DECODED_BYTES_LIMIT", 0)
    data = load_dataset(str(folder)).train
    (folder / "train" / "dog" / "1.png").write_bytes(b"not a picture")
    batches = loader(data, Augmentation(), batch_size=2, workers=workers).epoch(0)
    with pytest.raises(DataError) as caught:
        list(batches)
    assert "dog/1.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folder_without_parts_or_with_other_classes_is_refused(folder: Path) -> None:
    (folder / "test" / "dog").rename(folder / "test" / "wolf")
    assert_refused(str(folder), "differ in their classes: dog, wolf", names="pictures")
    (folder / "train").rename(folder / "training")
    assert_refused(str(folder), "needed: train/", names="pictures")


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
        with pytest.raises(DataError, match=f"cannot load {name}: .*--data-dir") as caught:
            load_dataset(name, data_dir=tmp_path, download=download)
        assert str(tmp_path) in str(caught.value)
        assert "\n" not in str(caught.value)


# Splitting and normalising


def test_validation_split_is_disjoint_stratified_and_decided_by_its_seed() -> None:
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    images = torch.arange(100, dtype=torch.uint8).view(100, 1, 1, 1)
    data = ImageData(images, labels, 3)
    train, held_out = split_validation(data, 0.1, seed=5)
    assert held_out.labels.bincount().tolist() == [6, 3, 1]
    assert sorted([*train.images.flatten().tolist(), *held_out.images.flatten()]) == list(
        range(100)
    )
    assert torch.equal(train.labels, labels[train.images.flatten().long()])
    assert torch.equal(split_validation(data, 0.1, seed=5)[1].images, held_out.images)
    assert not torch.equal(split_validation(data, 0.1, seed=6)[1].images, held_out.images)


def test_split_leaves_every_class_something_to_train_on() -> None:
    data = ImageData(torch.zeros(3, 1, 1, 1, dtype=torch.uint8), torch.tensor([0, 0, 1]), 2)
    train, held_out = split_validation(data, 0.9, seed=0)
    assert train.labels.tolist() == [0, 1]
    assert held_out.labels.tolist() == [0]


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 0.001, float("nan")])
def test_useless_validation_fraction_is_refused(fraction: float) -> None:
    with pytest.raises(ConfigError, match="validation fraction"):
        split_validation(colour_data(), fraction, seed=0)


def test_normalised_training_images_have_mean_zero_and_deviation_one() -> None:
    data = colour_data()
    images, _ = next(iter(evaluation_batches(data, Normalisation.of(data), batch_size=99)))
    assert images.dtype == torch.float32
    assert images.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert images.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_channel_that_never_changes_normalises_to_zero() -> None:
    data = ImageData(torch.full((4, 1, 8, 8), 77, dtype=torch.uint8), torch.zeros(4).long(), 1)
    images = Normalisation.of(data).apply(data.images)
    assert images.abs().max() < 1e-4


def test_evaluation_shows_every_image_once_in_order() -> None:
    data = colour_data()
    batches = list(evaluation_batches(data, RAW, batch_size=16))
    assert [len(labels) for _, labels in batches] == [16, 16, 8]
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), data.images / 255)
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)


# Batches


def test_batches_depend_on_neither_workers_nor_the_global_random_state() -> None:
    data = colour_data()
    expected = list(loader(data).epoch(2))
    for workers in (0, 1, 2):
        torch.manual_seed(workers)
        np.random.seed(workers)
        loading = loader(data, workers=workers)
        assert same(loading.epoch(2), expected)
        assert not same(loading.epoch(3), expected)
        assert same(loading.epoch(2), expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_leaves_the_global_random_state_alone(workers: int) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    list(loader(colour_data(), workers=workers).epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_resumed_run_sees_the_batches_of_the_interrupted_one() -> None:
    data = colour_data()
    first = loader(data, workers=1)
    next(first.epoch(0))  # an epoch that is not finished
    assert same(loader(data).epoch(1), first.epoch(1))


def test_every_epoch_shows_each_image_once_in_another_order() -> None:
    loading = loader(colour_data(), Augmentation(crop_padding=0))
    epochs = [torch.cat([images for images, _ in loading.epoch(e)]) for e in (0, 1)]
    assert not torch.equal(*epochs)
    sums = [sorted(images.double().sum((1, 2, 3)).tolist()) for images in epochs]
    assert sums[0] == sums[1]


def test_seeds_give_different_batches() -> None:
    data = colour_data()
    assert not same(loader(data, seed=1).epoch(2), loader(data, seed=2).epoch(1))


@pytest.mark.parametrize(("num_images", "sizes"), [(40, [8] * 5), (21, [8, 8]), (5, [5])])
def test_last_incomplete_batch_is_dropped_unless_it_is_the_only_one(
    num_images: int, sizes: list[int]
) -> None:
    loading = loader(colour_data(num_images))
    assert [len(labels) for _, labels in loading.epoch(0)] == sizes
    assert len(loading) == len(sizes)


def test_small_sets_are_loaded_in_process_and_large_ones_in_workers() -> None:
    assert default_workers(1_438) == 0
    assert 1 <= default_workers(50_000) <= 4


# Augmentation


def test_cutout_zeroes_one_square_at_another_place_in_each_image() -> None:
    torch.manual_seed(0)
    images = cut_out(torch.ones(200, 3, 12, 12), 4)
    whole = 0
    for hidden in (images == 0).unbind():
        assert torch.equal(hidden[0], hidden[1])
        rows, columns = hidden[0].any(1).sum(), hidden[0].any(0).sum()
        assert hidden[0].sum() == rows * columns  # a rectangle, cut short at the border
        assert 2 <= rows <= 4
        assert 2 <= columns <= 4
        whole += int(rows * columns == 16)
    assert 60 < whole < 160
    assert len(images.unique(dim=0)) > 60


def test_cutout_hides_with_the_mean_of_the_normalised_images() -> None:
    data = ImageData(
        torch.full((8, 1, 12, 12), 250, dtype=torch.uint8), torch.zeros(8).long(), 1
    )
    half = Normalisation((0.5,), (0.5,))
    augmentation = Augmentation(crop_padding=0, cutout=4)
    loading = TrainingLoader(data, augmentation, half, batch_size=8, seed=0, workers=0)
    ((images, _),) = loading.epoch(0)
    assert images.unique().tolist() == pytest.approx([0.0, (250 / 255 - 0.5) / 0.5])


def test_digits_are_never_flipped_and_colour_images_are_half_the_time() -> None:
    assert not Augmentation.default_for((1, 8, 8)).flip
    ramp = torch.arange(12, dtype=torch.uint8).expand(400, 3, 12, 12)
    for augmentation, least, most in (
        (Augmentation(crop_padding=0), 0, 0),
        (Augmentation(crop_padding=0, flip=True), 150, 250),
    ):
        data = ImageData(ramp, torch.zeros(400).long(), 1)
        ((images, _),) = loader(data, augmentation, batch_size=400).epoch(0)
        assert least <= (images[:, 0, 0, 0] > 0).sum() <= most


def test_crop_moves_the_image_by_at_most_the_padding() -> None:
    dot = torch.zeros(300, 3, 12, 12, dtype=torch.uint8)
    dot[:, :, 6, 6] = 255
    data = ImageData(dot, torch.zeros(300).long(), 1)
    ((images, _),) = loader(data, Augmentation(crop_padding=2), batch_size=300).epoch(0)
    rows, columns = images[:, 0].nonzero()[:, 1:].unbind(1)
    assert rows.unique().tolist() == columns.unique().tolist() == [4, 5, 6, 7, 8]


@pytest.mark.parametrize(("side", "padding"), [(8, 1), (15, 1), (16, 4), (32, 4)])
def test_default_crop_is_smaller_on_small_images(side: int, padding: int) -> None:
    assert Augmentation.default_for((3, side, side)).crop_padding == padding
    assert Augmentation.default_for((3, side, side)).flip


def test_autoaugment_changes_images_and_keeps_their_shape_grey_or_colour() -> None:
    augmentation = Augmentation(crop_padding=0, autoaugment=True)
    for channels in (1, 3):
        images = torch.from_numpy(noise(32, channels, 12, 12))
        data = ImageData(images, torch.arange(32), 32)
        flat = Normalisation((0.0,) * channels, (1.0,) * channels)
        loading = TrainingLoader(data, augmentation, flat, batch_size=32, seed=0, workers=0)
        ((augmented, labels),) = loading.epoch(0)
        assert augmented.shape == images.shape
        assert not torch.equal(augmented, images[labels] / 255)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Augmentation(crop_padding=-1), "crop_padding .* got -1"),
        (lambda: Augmentation(cutout=-2), "cutout .* got -2"),
        (lambda: loader(colour_data(), Augmentation(cutout=16)), "cutout of 16 .* 12x12"),
        (lambda: loader(colour_data(), batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: loader(colour_data(), workers=-1), "workers must be at least 0, got -1"),
        (lambda: Augmentation(autoaugment=True).check((2, 8, 8)), "2 channels"),
    ],
)
def test_impossible_settings_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(GoldnasError, match=message):
        build()
