"""Augmentation changes training images as it says, and nothing else of them."""

from collections.abc import Callable

import pytest
import torch

from goldnas.data.augmentation import Augmentation
from goldnas.data.examples import ImageData, Normalisation
from goldnas.data.loader import TrainingLoader
from goldnas.errors import GoldnasError
from images import colour_data, loader, noise


def test_cutout_zeroes_one_square_at_another_place_in_each_image() -> None:
    augmentation = Augmentation(cutout=4)
    changes = augmentation.draw(200, (12, 12), seed=0)
    images = augmentation.cut_out(torch.ones(200, 3, 12, 12), changes)
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


def test_a_batch_is_cropped_and_mirrored_as_its_images_would_be_one_by_one() -> None:
    images = torch.from_numpy(noise(50, 3, 12, 10))
    augmentation = Augmentation(crop_padding=3, flip=True)
    changes = augmentation.draw(50, (12, 10), seed=5)
    moved = augmentation.moved(images, changes)
    assert changes.mirrored.any()
    assert not changes.mirrored.all()
    for index, image in enumerate(images):
        top, left = changes.corner[index].tolist()
        padded = torch.zeros(3, 18, 16, dtype=torch.uint8)
        padded[:, 3:15, 3:13] = image
        cropped = padded[:, top : top + 12, left : left + 10]
        expected = cropped.flip(2) if changes.mirrored[index] else cropped
        assert torch.equal(moved[index], expected)


@pytest.mark.parametrize(("side", "padding"), [(3, 0), (8, 1), (16, 2), (32, 4), (64, 8)])
def test_default_crop_is_an_eighth_of_a_side(side: int, padding: int) -> None:
    assert Augmentation.default_for((3, side, side)).crop_padding == padding
    assert Augmentation.default_for((3, side, side)).flip


ONE_BY_ONE = ("autoaugment", "randaugment", "resized_crop", "colour_jitter")


@pytest.mark.parametrize("name", ONE_BY_ONE)
def test_a_policy_changes_images_and_keeps_their_shape_grey_or_colour(name: str) -> None:
    augmentation = Augmentation(crop_padding=0, **{name: True})  # type: ignore[arg-type]
    for channels in (1, 3):
        images = torch.from_numpy(noise(32, channels, 12, 12))
        data = ImageData(images, torch.arange(32), 32)
        flat = Normalisation((0.0,) * channels, (1.0,) * channels)
        loading = TrainingLoader(data, augmentation, flat, batch_size=32, seed=0, workers=0)
        ((augmented, labels),) = loading.epoch(0)
        assert augmented.shape == images.shape
        plain = images[labels] / 255
        assert not torch.equal(augmented, plain)
        # Each image on its own: a few may stay as they are, and not all change alike.
        changed = (augmented - plain).flatten(1).abs().sum(1)
        assert len(changed.unique()) > 16


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Augmentation(crop_padding=-1), "crop_padding .* got -1"),
        (lambda: Augmentation(cutout=-2), "cutout .* got -2"),
        (lambda: loader(colour_data(), Augmentation(cutout=16)), "cutout of 16 .* 12x12"),
        (lambda: loader(colour_data(), batch_size=0), "batch_size must be at least 1, got 0"),
        (lambda: loader(colour_data(), workers=-1), "workers must be at least 0, got -1"),
        (lambda: Augmentation(autoaugment=True).check((2, 8, 8)), "autoaugment .* 2 channels"),
        (lambda: Augmentation(randaugment=True).check((4, 8, 8)), "randaugment .* 4 channels"),
    ],
)
def test_impossible_settings_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(GoldnasError, match=message):
        build()
