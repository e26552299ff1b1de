"""Shards are read as files are: the same images, held out and dealt in the same way."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from goldnas.data.augmentation import Augmentation
from goldnas.data.datasets import load_dataset
from goldnas.data.examples import ImageData
from goldnas.data.files import ImageFiles, draw_box
from goldnas.data.loader import read_batches
from goldnas.data.shards import expand_shards, find_shards
from goldnas.errors import DataError
from images import RAW, loader, png, same, write_shards, write_tar

CROPS = Augmentation(crop_padding=0, flip=True, resized_crop=True)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "shards")


@pytest.fixture
def on_disk(shards: Path, monkeypatch: pytest.MonkeyPatch) -> ImageData:
    """The images to train on, decoded as they are used."""
    monkeypatch.setattr("goldnas.data.on_disk.DECODED_BYTES_LIMIT", 0)
    return load_dataset(str(shards)).train


# -- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "train-{08..10}.tar"])
def test_shards_are_a_folder_or_a_pattern_and_their_images_are_decoded(
    shards: Path, name: str
) -> None:
    data = load_dataset(str(shards / name))
    assert isinstance(data.train.images, Tensor)
    assert data.train.input_shape == (3, 10, 10)
    assert data.train.num_classes == 2
    assert data.train.images[:, 0, 0, 0].tolist() == list(range(12))
    assert data.train.labels.tolist() == [0, 1] * 6
    assert data.test.images[:, 0, 0, 0].tolist() == list(range(12, 16))


def test_a_pattern_takes_some_of_the_shards(shards: Path) -> None:
    train, test = find_shards(str(shards / "train-{08..09}.tar"))
    assert [path.name for path in train] == ["train-08.tar", "train-09.tar"]
    assert [path.name for path in test] == ["val-0.tar"]
    assert expand_shards("{1..2}/a-{09..10}.tar") == [
        f"{folder}/a-{number}.tar" for folder in "12" for number in ("09", "10")
    ]


@pytest.mark.parametrize(
    "numbers", ["{0..999999999999}", f"{{0..{'9' * 5000}}}", "{0..999}-{0..999}"]
)
def test_a_pattern_of_shards_without_end_is_refused(numbers: str) -> None:
    with pytest.raises(DataError, match="more than 100000 shards"):
        expand_shards(f"a-{numbers}.tar")


def test_shards_over_the_memory_limit_are_decoded_as_they_are_used(
    shards: Path, on_disk: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(on_disk.images, ImageFiles)
    assert on_disk.kept == "decoded from shards when they are used"
    monkeypatch.undo()
    decoded = load_dataset(str(shards)).train
    assert same(
        read_batches(on_disk, RAW, batch_size=5),
        read_batches(decoded, RAW, batch_size=5),
    )
    plain = Augmentation()
    assert same(loader(on_disk, plain, workers=1).epoch(3), loader(decoded, plain).epoch(3))


def test_a_folder_of_images_may_have_tars_beside_it(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for label in ("cat", "dog"):
            (tmp_path / part / label).mkdir(parents=True)
            (tmp_path / part / label / "0.png").write_bytes(png(9))
    write_tar(tmp_path / "train.tar", {"a.png": png(0)})
    assert len(load_dataset(str(tmp_path)).train) == 2


def test_images_of_shards_of_several_sizes_need_a_size(shards: Path) -> None:
    write_tar(shards / "train-11.tar", {"a.png": png(0, (30, 20)), "a.cls": b"1"})
    with pytest.raises(DataError, match=r"a\.png in .*train-11\.tar is 30x20.*`image_size`"):
        load_dataset(str(shards))
    assert load_dataset(str(shards), image_size=16).train.input_shape == (3, 16, 16)


# -- epochs ------------------------------------------------------------------------------------


def test_processes_and_ranks_without_number_share_the_images_evenly(
    on_disk: ImageData,
) -> None:
    """More of them than shards, too."""
    whole = list(loader(on_disk, Augmentation(crop_padding=0), batch_size=6).epoch(1))
    assert [len(labels) for _, labels in whole] == [6, 6]
    ranks = [
        list(
            loader(
                on_disk, Augmentation(crop_padding=0), batch_size=6, workers=i % 2, shard=(i, 6)
            ).epoch(1)
        )
        for i in range(6)
    ]
    for batch, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([rank[batch][0] for rank in ranks]), images)
        assert torch.equal(torch.cat([rank[batch][1] for rank in ranks]), labels)
    seen = torch.cat([images[:, 0, 0, 0] * 255 for images, _ in whole]).round().int()
    assert sorted(seen.tolist()) == list(range(12))


def test_an_epoch_of_random_parts_goes_on_where_it_was_interrupted(on_disk: ImageData) -> None:
    loading = loader(on_disk, CROPS, batch_size=4)
    whole = list(loading.epoch(2))
    again = loader(on_disk, CROPS, batch_size=4, workers=1)
    assert same(again.epoch(2, start=1), whole[1:])
    assert not same(loading.epoch(3), whole)


# -- random parts ------------------------------------------------------------------------------


def test_random_parts_are_of_the_whole_image(tmp_path: Path) -> None:
    """Not of what was resized before, where a part this small would be blurred."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, ::2] = 255
    for name in ("train-0", "test-0"):
        Image.fromarray(pixels).save(tmp_path / "a.png")
        content = (tmp_path / "a.png").read_bytes()
        members = {"0.png": content, "0.cls": b"0", "1.png": content, "1.cls": b"1"}
        write_tar(tmp_path / f"{name}.tar", members)
    data = load_dataset(str(tmp_path), image_size=8).train
    assert isinstance(data.images, Tensor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("goldnas.data.on_disk.DECODED_BYTES_LIMIT", 0)
        files = load_dataset(str(tmp_path), image_size=8).train.images
    assert isinstance(files, ImageFiles)
    both = torch.tensor([0, 1])
    found = files.parts(both, seed=5)
    assert found.shape == (2, 3, 8, 8)
    assert not torch.equal(*found)
    assert torch.equal(found, files.parts(both, seed=5))
    for slot in (0, 1):
        box = draw_box((96, 64), np.random.default_rng((5, slot)))
        expected = Image.fromarray(pixels).resize((8, 8), Image.Resampling.BILINEAR, box=box)
        assert np.array_equal(found[slot].permute(1, 2, 0).numpy(), np.asarray(expected))


@pytest.mark.parametrize("size", [(64, 48), (1, 1), (500, 3), (3, 500)])
def test_a_random_part_lies_in_the_image(size: tuple[int, int]) -> None:
    boxes = [draw_box(size, np.random.default_rng(seed)) for seed in range(300)]
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
    if size == (64, 48):
        areas = [(r - left) * (b - top) / (64 * 48) for left, top, r, b in boxes]
        ratios = [(r - left) / (b - top) for left, top, r, b in boxes]
        assert 0.07 < min(areas) < 0.15
        assert 0.8 < max(areas) <= 1
        assert 0.7 < min(ratios) < 0.8
        assert 1.25 < max(ratios) < 1.45


# -- refusing: each message is one line that names the shard and the way out -------------------

Spoil = Callable[[Path], object]


def cut(bytes_left: int) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / "train-09.tar"
        path.write_bytes(path.read_bytes()[:bytes_left])

    return spoil


def other(members: dict[str, bytes], mode: str = "w") -> Spoil:
    return lambda folder: write_tar(folder / "train-09.tar", members, mode)


def without_end(folder: Path) -> None:
    """Without the zeros that a tar ends with, though its last sample is whole."""
    path = folder / "train-09.tar"
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content + bytes(-len(content) % 512))


def halves(path: Path) -> tuple[bytes, bytes]:
    """What is before and after a byte of a header."""
    content = path.read_bytes()
    at = content.index(b"0005.png")
    return content[:at], content[at + 1 :]


def removed(pattern: str) -> Spoil:
    return lambda folder: [path.unlink() for path in folder.glob(pattern)]


REFUSED: dict[str, tuple[str, Spoil, str]] = {
    "no such shard": (
        "train-{08..12}.tar",
        lambda folder: None,
        r"no shard .*train-11\.tar \(2 of 5 are missing\); check",
    ),
    "backwards": ("train-{10..08}.tar", lambda folder: None, "from 10 to 08.*swap the numbers"),
    "none to train on": ("", removed("train*"), r"no shards named like train-000\.tar"),
    "none to test": ("", removed("val*"), r"no shards named like test-000\.tar or val-000"),
    "cut in an image": (
        "",
        cut(700),
        r"cannot read the shard .*train-09\.tar: unexpected end",
    ),
    "cut in a header": ("", cut(1024 + 100), r"cannot read the shard .*train-09\.tar"),
    "empty": ("", cut(0), r"cannot read the shard .*train-09\.tar: empty file"),
    "without its end": ("", without_end, r"train-09\.tar: it is not a tar from byte \d+ on"),
    "damaged inside": (
        "",
        lambda f: (f / "train-09.tar").write_bytes(b"?".join(halves(f / "train-09.tar"))),
        r"cannot read the shard .*train-09\.tar",
    ),
    "compressed": ("", other({"a.cls": b"0"}, "w:gz"), r"train-09\.tar: .*without compression"),
    "no label": (
        "",
        other({"a.png": png(0)}),
        r"train-09\.tar: sample a has no label.* a\.cls",
    ),
    "no image": ("", other({"a.cls": b"1"}), r"train-09\.tar: sample a has no image"),
    "two images": (
        "",
        other({"a.png": png(0), "a.JPG": png(0), "a.cls": b"1"}),
        "sample a has two images",
    ),
    "no samples": ("", other({"readme": b"hello"}), r"train-09\.tar has no samples; needed"),
    "a label in words": (
        "",
        other({"a.png": png(0), "a.cls": b"cat"}),
        r"a\.cls is b'cat'; needed: the number of a class, from 0",
    ),
    "a class without images": (
        "",
        other({"a.png": png(0), "a.cls": b"3"}),
        "train has labels up to 3, but none of class 2",
    ),
    "one class": (
        "train-11.tar",
        lambda f: write_tar(f / "train-11.tar", {"a.png": png(0), "a.cls": b"0"}),
        "test has labels from 0 to 1; needed: 0 to 0",
    ),
    "a corrupt image": (
        "",
        other({"x/a.png": b"no image", "x/a.cls": b"1"}),
        r"cannot read the image x/a\.png in .*train-09\.tar: it is not an image.*repair",
    ),
}


@pytest.mark.parametrize(("name", "spoil", "message"), REFUSED.values(), ids=REFUSED)
def test_shards_of_another_form_are_refused(
    shards: Path, name: str, spoil: Spoil, message: str
) -> None:
    spoil(shards)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(str(shards / name))
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_shard_is_noticed(shards: Path) -> None:
    path = shards / "train-09.tar"
    whole = path.read_bytes()
    ends = len(whole.rstrip(b"\0"))
    for left in itertools.chain(range(0, ends, 331), range(512, ends, 512)):
        path.write_bytes(whole[:left])
        with pytest.raises(DataError, match=r"train-09\.tar"):
            load_dataset(str(shards))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_image_that_turns_corrupt_during_the_search_is_named(
    shards: Path, on_disk: ImageData, workers: int
) -> None:
    path = shards / "train-09.tar"
    path.write_bytes(path.read_bytes()[:512] + bytes(20_000))
    with pytest.raises(
        DataError, match=r"cannot read the image .* in .*train-09\.tar"
    ) as caught:
        list(loader(on_disk, CROPS, workers=workers, batch_size=12).epoch(0))
    assert "\n" not in str(caught.value)
