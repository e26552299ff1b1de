"""An image file becomes what a viewer shows, or is refused by name."""

import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from goldnas.data.datasets import load_dataset
from goldnas.data.files import IMAGE_EXTENSIONS, ImageFiles, Places, fit_image
from goldnas.errors import DataError, GoldnasWarning
from images import noise
from workplace import goldnas

RAMP = np.linspace(0, 255, 64).round().astype(np.uint8).reshape(8, 8)
"""Grey, from black to white."""


def read(path: Path, size: tuple[int, int] = (8, 8)) -> np.ndarray:
    """``(H, W, 3)``, as networks get it."""
    files = ImageFiles(Places(np.array([bytes(path)])), size)
    return files[torch.tensor([0])][0].permute(1, 2, 0).numpy()


def grey(path: Path) -> np.ndarray:
    pixels = read(path)
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


def in_mode(mode: str) -> Image.Image:
    """The ramp in a mode."""
    whole = Image.fromarray(RAMP)
    if mode in ("LA", "RGBA"):
        return whole.convert(mode)
    if mode == "P":
        return whole.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE, colors=64)
    if mode == "I;16":
        return Image.fromarray(RAMP.astype(np.uint16) * 257)
    if mode == "F":
        return Image.fromarray(RAMP.astype(np.float32) / 255)
    return whole.convert("RGB").convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind", "off_by"),
    [
        ("L", "png", 0),
        ("LA", "png", 0),
        ("P", "png", 2),
        ("P", "gif", 2),
        ("RGB", "tiff", 0),
        ("RGBA", "webp", 2),
        ("RGBA", "png", 0),
        ("CMYK", "tiff", 2),
        ("CMYK", "jpg", 8),
        ("YCbCr", "tiff", 2),
        ("LAB", "tiff", 4),
        ("I;16", "png", 0),
        ("I;16", "tiff", 0),
        ("I;16", "ppm", 0),
        ("F", "tiff", 0),
        ("RGB", "jp2", 2),
        ("RGB", "avif", 6),
        ("RGB", "tga", 0),
    ],
)
def test_a_ramp_of_grey_is_that_ramp_in_every_mode(
    tmp_path: Path, mode: str, kind: str, off_by: int
) -> None:
    path = tmp_path / f"ramp.{kind}"
    if path.suffix not in IMAGE_EXTENSIONS:
        pytest.skip(f"this Pillow reads no {kind}")
    image, settings = in_mode(mode), {"lossless": True} if kind in ("webp", "jp2") else {}
    image.save(path, **settings)
    with Image.open(path) as back:
        assert kind in ("gif", "ppm", "tga", "avif", "webp", "jp2") or back.mode == mode
    pixels = read(path).astype(int)
    assert abs(pixels - RAMP[..., None]).max() <= off_by


def test_two_colours_are_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP).point(lambda v: 255 * (v > 127), "1").save(tmp_path / "two.png")
    assert set(grey(tmp_path / "two.png").ravel()) == {0, 255}


def test_what_is_drawn_in_the_transparency_alone_is_seen_on_white(tmp_path: Path) -> None:
    drawing = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    drawing.putalpha(Image.fromarray(RAMP))
    drawing.save(tmp_path / "drawing.png")
    assert (grey(tmp_path / "drawing.png") == 255 - RAMP).all()


def test_a_colour_that_is_said_to_be_transparent_is_white(tmp_path: Path) -> None:
    image = Image.fromarray(RAMP)
    image.save(tmp_path / "key.png", transparency=0)
    assert grey(tmp_path / "key.png")[0, 0] == 255
    assert grey(tmp_path / "key.png")[7, 7] == 255
    assert grey(tmp_path / "key.png")[0, 1] == RAMP[0, 1]


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
    ],
)
def test_a_photograph_stands_as_its_camera_was_held(
    tmp_path: Path, orientation: int, turned: Callable[[np.ndarray], np.ndarray]
) -> None:
    pixels = noise(8, 12, 3)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for part in ("train", "test"):
        for label in "ab":
            (tmp_path / part / label).mkdir(parents=True)
            Image.fromarray(pixels).save(tmp_path / part / label / "0.png", exif=exif)
            Image.fromarray(255 - pixels).save(tmp_path / part / label / "1.png", exif=exif)
    data = load_dataset(str(tmp_path)).train
    upright = turned(pixels)
    assert data.input_shape == (3, *upright.shape[:2])
    assert (data.images[torch.tensor([0])][0].permute(1, 2, 0).numpy() == upright).all()


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (RAMP.astype(np.float32), "floats from 0 to 255"),
        (np.full((8, 8), np.nan, np.float32), "floats from nan to nan"),
        (RAMP.astype(np.int32) * 1000, "whole numbers of 32 bits from 0 to 255000"),
    ],
)
def test_values_of_no_known_range_are_refused(
    tmp_path: Path, pixels: np.ndarray, message: str
) -> None:
    path = tmp_path / "odd.tiff"
    Image.fromarray(pixels).save(path)
    with pytest.raises(DataError, match=rf"odd\.tiff: its pixels are {message}.*save it"):
        read(path)


def test_a_very_long_image_needs_no_memory_for_its_ends() -> None:
    long = Image.fromarray(noise(2, 30_000, 3))
    assert fit_image(long, (224, 224)).size == (224, 224)  # whole, its copy is 3 GB
    nearly = Image.fromarray(noise(10, 80, 3))
    assert fit_image(nearly, (10, 10)).tobytes() == nearly.crop((35, 0, 45, 10)).tobytes()


def test_a_file_with_too_many_pixels_is_refused_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(noise(50, 50, 3)).save(tmp_path / "big.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000)
    with pytest.raises(DataError, match=r"big\.png: it has more than .* make it smaller"):
        read(tmp_path / "big.png")


# -- folders -----------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of 8x8 images: three each for training, two each for testing."""
    root = tmp_path / "photos"
    darker = 0
    for part, count in (("train", 3), ("test", 2)):
        for label in "ab":
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                darker += 1
                image = Image.fromarray(noise(8, 8, 3) // darker)
                image.save(root / part / label / f"{number}.png")
    return root


def said(folder: Path) -> list[str]:
    """The warnings of loading it."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        load_dataset(str(folder))
    assert all(issubclass(one.category, GoldnasWarning) for one in found)
    return [str(one.message) for one in found]


def test_nothing_is_said_of_a_folder_that_is_all_images(folder: Path) -> None:
    assert said(folder) == []
    assert len(load_dataset(str(folder)).train) == 6


def test_every_kind_of_image_counts(folder: Path) -> None:
    for kind in ("gif", "jfif", "jp2", "avif", "webp", "pbm"):
        if f".{kind}" in IMAGE_EXTENSIONS:
            format = {"jfif": "JPEG", "pbm": "PPM"}.get(kind)
            Image.fromarray(noise(8, 8)).save(folder / "train" / "a" / f"9.{kind}", format)
    kinds = len(list((folder / "train" / "a").glob("9.*")))
    assert kinds >= 4
    assert len(load_dataset(str(folder)).train) == 6 + kinds
    assert said(folder) == []


def test_what_is_left_out_is_counted_by_reason(folder: Path) -> None:
    for name in ("1.heic", "2.heic", "list.txt"):
        (folder / "train" / "b" / name).write_bytes(b"")
    (folder / "train" / "loose.png").write_bytes(b"")
    (text,) = said(folder)
    assert "6 images of train/ are used" in text
    assert "2 of a format that goldnas does not read, .heic (1.heic, 2.heic)" in text
    assert "1 of a format that goldnas does not read, .txt" in text
    assert "1 in no class folder (loose.png)" in text


def test_hidden_folders_are_no_classes_and_hidden_files_no_images(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / part / ".ipynb_checkpoints").mkdir()
        (folder / part / "a" / "._0.png").write_bytes(b"what another system keeps")
        (folder / part / "a" / ".cache").mkdir()
        (folder / part / "a" / ".cache" / "0.png").write_bytes(b"")
    data = load_dataset(str(folder))
    assert (data.classes, len(data.train), len(data.test)) == (("a", "b"), 6, 4)


def test_classes_that_look_alike_are_told_apart(folder: Path) -> None:
    """As files from macOS have them; each warning or error shows what differs."""
    composed, apart = "caf\u00e9", "cafe\u0301"
    (folder / "train" / "b").rename(folder / "train" / apart)
    (folder / "test" / "b").rename(folder / "test" / composed)
    with pytest.raises(DataError, match=r"classes: 'cafe\\u0301', 'caf\\xe9'; needed"):
        load_dataset(str(folder))
    (folder / "test" / composed).rename(folder / "test" / apart)
    assert said(folder) == []
    for part in ("train", "test"):
        shutil.copytree(folder / part / "a", folder / part / "A")
        for path in (folder / part / "A").iterdir():
            Image.fromarray(noise(8, 8, 3) // (3 * len(part))).save(path)
    (text,) = said(folder)
    assert "classes with similar names are separate classes: 'A', 'a'" in text


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("content", "told"),
    [(POINTER, "git lfs pull"), (b"<html><body>", "a web page"), (b"", "empty")],
)
def test_a_file_that_is_no_image_is_told_for_what_it_is(
    folder: Path, content: bytes, told: str
) -> None:
    (folder / "train" / "a" / "0.png").write_bytes(content)
    (folder / "d.npz").write_bytes(content)
    for path in (folder, folder / "d.npz"):
        with pytest.raises(DataError, match=f"cannot read .* it is .*{told}"):
            load_dataset(str(path))


def test_a_path_that_is_not_there_is_told_before_its_size_is() -> None:
    for path, told in (("photo", "an .npz"), ("~/photos", "home folder")):
        with pytest.raises(DataError, match=f"unknown dataset '{path}'; .*{told}"):
            load_dataset(path, image_size=8)


def test_no_link_leads_upwards_or_round(folder: Path) -> None:
    (folder / "train" / "a" / "up").symlink_to("..")
    (folder / "train" / "b" / "here").symlink_to(".")
    (folder / "train" / "around").symlink_to("..")
    (folder.parent / "more").mkdir()
    Image.fromarray(noise(8, 8, 3)).save(folder.parent / "more" / "7.png")
    (folder.parent / "more" / "round").symlink_to(folder / "train" / "a")
    (folder / "train" / "a" / "more").symlink_to(folder.parent / "more")
    assert len(load_dataset(str(folder)).train) == 7
    assert any("a link to" in text for text in said(folder))


def test_a_class_without_images_is_named_with_what_it_has(folder: Path) -> None:
    for path in (folder / "train" / "b").iterdir():
        path.rename(path.with_suffix(".heic"))
    with pytest.raises(DataError, match=r"train/b has no images.*3 of a format .* \.heic"):
        load_dataset(str(folder))


def test_a_flat_test_folder_does_not_stand_in_the_way_of_val(folder: Path) -> None:
    (folder / "test").rename(folder / "val")
    (folder / "test").mkdir()
    Image.fromarray(noise(8, 8, 3)).save(folder / "test" / "ILSVRC2012_test_1.png")
    assert len(load_dataset(str(folder)).test) == 4
    (text,) = said(folder)
    assert "the test set is val/" in text


def test_of_test_and_val_it_is_said_which_is_used(folder: Path) -> None:
    (folder / "val").mkdir()
    for label in "ab":
        (folder / "val" / label).symlink_to(folder / "train" / label)
    assert len(load_dataset(str(folder)).test) == 4
    (text,) = said(folder)
    assert "val/ is not used" in text


def test_names_that_are_not_utf_8_work_or_are_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.name == "nt":
        pytest.skip("its names are text")
    monkeypatch.chdir(folder.parent)
    odd = os.fsdecode(b"caf\xe9")
    (folder / "train" / "a" / "0.png").rename(folder / "train" / "a" / f"{odd}.png")
    (folder / "train" / "a" / f"{odd}.txt").touch()
    assert len(load_dataset(str(folder)).train) == 6
    assert r"caf\xe9.txt" in said(folder)[0]
    (folder / "train" / "a" / f"{odd}.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"caf\\xe9\.png"):
        load_dataset(str(folder))
    (folder / "train" / "a").rename(folder / "train" / odd)
    with pytest.raises(DataError, match=r"the class caf\\xe9 of .* rename the folder"):
        load_dataset(str(folder))
    folder.rename(odd)
    Path("link").symlink_to(odd)
    before = set(os.listdir())
    places = (odd, "run"), ("digits", f"{odd}2"), ("link", "run")
    for words in (f"--data {data} --out {out}" for data, out in places):
        code, stderr = goldnas(f"search --cells 1 --channels 2 --budget 1MFLOPs {words}")
        assert (code, len(stderr.splitlines())) == (2, 1), stderr
        assert r"caf\xe9" in stderr
    assert set(os.listdir()) == before


@pytest.mark.parametrize(
    ("images", "alike"),
    [
        (np.zeros((20, 8, 8), np.uint8), "all the same"),
        (np.arange(20, dtype=np.uint8)[:, None, None].repeat(8, 1).repeat(8, 2), "one colour"),
    ],
)
def test_images_that_are_all_alike_are_warned_of_at_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: np.ndarray, alike: str
) -> None:
    labels = np.arange(20) % 2
    np.savez(
        tmp_path / "d.npz",
        x_train=images,
        y_train=labels,
        x_test=noise(4, 8, 8),
        y_test=[0, 1, 0, 1],
    )
    monkeypatch.chdir(tmp_path)
    code, stderr = goldnas(
        "search --data d.npz --cells 1 --channels 4 --epochs 1 --budget 1MFLOPs --out r"
    )
    assert code == 0, stderr
    warned = [line for line in stderr.splitlines() if line.startswith("warning: ")]
    (line,) = [line for line in warned if "the training images" in line]
    assert alike in line


# -- where the channels are --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "layout", "input_shape"),
    [
        ((8, 8), None, (1, 8, 8)),
        ((8, 8, 3), None, (3, 8, 8)),
        ((3, 8, 8), None, (3, 8, 8)),
        ((1, 28, 28), None, (1, 28, 28)),
        ((13, 64, 64), None, (13, 64, 64)),
        ((64, 64, 13), None, (13, 64, 64)),
        ((20, 30, 3), None, (3, 20, 30)),
        ((3, 20, 30), None, (3, 20, 30)),
        ((8, 8, 8), "NCHW", (8, 8, 8)),
        ((20, 30, 13), "NHWC", (13, 20, 30)),
        ((13, 20, 30), "NCHW", (13, 20, 30)),
    ],
)
def test_arrays_have_their_channels_where_the_shape_says(
    tmp_path: Path, shape: tuple[int, ...], layout: str | None, input_shape: tuple[int, ...]
) -> None:
    said = {} if layout is None else {"layout": layout}
    images = noise(6, *shape)
    np.savez(
        tmp_path / "d.npz",
        x_train=images,
        y_train=[0, 1] * 3,
        x_test=noise(8, *shape)[6:],
        y_test=[0, 1],
        **said,
    )
    data = load_dataset(str(tmp_path / "d.npz")).train
    assert data.input_shape == input_shape
    first = images[0] if shape == input_shape else images[0].reshape(*shape[:2], -1)
    expected = first if shape == input_shape else first.transpose(2, 0, 1)
    assert (data.images[torch.tensor([0])][0].numpy() == expected).all()


@pytest.mark.parametrize("shape", [(16, 16, 16), (3, 8, 3), (20, 30, 13)])
def test_arrays_whose_shape_says_nothing_are_asked_about(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    parts = {"x_train": noise(6, *shape), "y_train": [0, 1] * 3}
    parts |= {"x_test": noise(2, *shape), "y_test": [0, 1]}
    np.savez(tmp_path / "d.npz", **parts)
    with pytest.raises(DataError, match="add an array layout"):
        load_dataset(str(tmp_path / "d.npz"))
    np.savez(tmp_path / "d.npz", **parts, layout="HWC")
    with pytest.raises(DataError, match="layout is 'HWC'; needed: NHWC or NCHW"):
        load_dataset(str(tmp_path / "d.npz"))
