"""Which images a search sees, held out or in batches: decided by its seed alone."""

import numpy as np
import pytest
import torch

from goldnas.data.augmentation import Augmentation
from goldnas.data.examples import ImageData, Normalisation, split_validation
from goldnas.data.loader import choose_workers, read_batches
from goldnas.errors import ConfigError
from images import RAW, colour_data, loader, same

# -- holding out and normalising ---------------------------------------------------------------


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
    images, _ = next(iter(read_batches(data, Normalisation.measure(data), batch_size=99)))
    assert images.dtype == torch.float32
    assert images.mean((0, 2, 3)).tolist() == pytest.approx([0, 0, 0], abs=1e-5)
    assert images.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1, 1], abs=1e-5)


def test_channel_that_never_changes_normalises_to_zero() -> None:
    data = ImageData(torch.full((4, 1, 8, 8), 77, dtype=torch.uint8), torch.zeros(4).long(), 1)
    images = Normalisation.measure(data).apply(data.images)
    assert images.abs().max() < 1e-4


def test_evaluation_shows_every_image_once_in_order() -> None:
    data = colour_data()
    batches = list(read_batches(data, RAW, batch_size=16))
    assert [len(labels) for _, labels in batches] == [16, 16, 8]
    torch.testing.assert_close(torch.cat([images for images, _ in batches]), data.images / 255)
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels)


# -- batches -----------------------------------------------------------------------------------


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
    def of(num_images: int) -> ImageData:
        images = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(num_images, 1, 1, 1)
        return ImageData(images, torch.zeros(num_images, dtype=torch.long), 2)

    assert choose_workers(of(1_438)) == 0
    assert 1 <= choose_workers(of(50_000), 8) <= choose_workers(of(50_000)) <= 4


def test_shards_of_a_batch_are_together_the_batch_of_one_process() -> None:
    data = colour_data()
    plain = Augmentation(crop_padding=0, flip=False)
    whole = list(loader(data, plain).epoch(1))
    shards = [list(loader(data, plain, shard=(i, 3)).epoch(1)) for i in range(3)]
    assert [[len(labels) for _, labels in shard] for shard in shards] == [
        [3] * 5,
        [3] * 5,
        [2] * 5,
    ]
    for batch, (images, labels) in enumerate(whole):
        assert torch.equal(torch.cat([shard[batch][0] for shard in shards]), images)
        assert torch.equal(torch.cat([shard[batch][1] for shard in shards]), labels)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("start", [0, 3, 5])
def test_an_epoch_goes_on_where_it_was_interrupted(workers: int, start: int) -> None:
    loading = loader(colour_data(), workers=workers)
    whole = list(loading.epoch(4))
    assert same(loading.epoch(4, start=start), whole[start:])
    assert same(loading.epoch(4), whole)
