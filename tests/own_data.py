"""Data and tasks as people write them: good ones, and ones with a mistake each."""

import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, IterableDataset, TensorDataset

import goldnas

Pair = tuple[object, object]
LABELS = torch.arange(40) % 4


def of(inputs: Tensor, targets: Tensor = LABELS) -> Pair:
    """The first items for training, the last ten for test, all of them made up."""
    return TensorDataset(inputs, targets), TensorDataset(inputs[-10:], targets[-10:])


def noise(*shape: int) -> Tensor:
    return torch.randn(40, *shape, generator=torch.Generator().manual_seed(0))


def bumps() -> Pair:
    """Signals of 2x16, where the class says which quarter is higher."""
    inputs = 0.1 * noise(2, 16)
    for item, label in enumerate(LABELS.tolist()):
        inputs[item, :, 4 * label : 4 * label + 4] += 1
    return of(inputs)


def lines() -> Pair:
    return of(noise(2, 8))


def volumes() -> Pair:
    return of(noise(2, 8, 8, 8))


def tokens() -> Pair:
    """Of eight numbers of words."""
    return of((5 * noise(8)).round().clamp(0, 9))


def images() -> Pair:
    return of(noise(1, 8, 8))


class Changing(Dataset):
    """Items that are never the same twice, by three generators; labels that are told."""

    def __init__(self) -> None:
        self.targets = LABELS.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        drawn = [torch.rand(()).item(), np.random.rand(), random.random()]
        return np.array([drawn]), self.targets[index]


def changing() -> Pair:
    return Changing(), Changing()


def levels() -> Pair:
    """Vectors of five numbers, and their mean."""
    inputs = noise(5)
    return of(inputs, inputs.mean(1, keepdim=True))


def level_net(width: int = 6) -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, width),
        goldnas.Choice(
            {"linear": lambda: nn.Linear(width, width), "none": lambda: nn.Identity()}
        ),
        nn.Linear(width, 1),
    )


def bump_net(width: int = 4, classes: int = 4) -> nn.Module:
    """Of two channels, whatever the data has."""

    def conv(in_channels: int, kernel: int) -> nn.Module:
        return nn.Conv1d(in_channels, width, kernel, padding=kernel // 2)

    return nn.Sequential(
        conv(2, 3),
        goldnas.Choice({"conv_1": lambda: conv(width, 1), "conv_5": lambda: conv(width, 5)}),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * width, classes),
    )


def pixel_net(classes: int = 4) -> nn.Module:
    """Puts out an image for each class."""
    return nn.Sequential(
        goldnas.Choice({"conv_1x1": lambda: nn.Conv2d(1, classes, 1)}), nn.ReLU()
    )


def line_net(classes: int = 4) -> nn.Module:
    """Of three numbers in one channel."""
    return nn.Sequential(
        goldnas.Choice({"linear": lambda: nn.Linear(3, 3), "none": lambda: nn.Identity()}),
        nn.Flatten(),
        nn.Linear(3, classes),
    )


def hits(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.topk(2).indices == labels[:, None]).any(1)


def top_two() -> goldnas.Task:
    return goldnas.Task(loss=F.cross_entropy, metric=hits, name="top 2")


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().flatten(1).mean(1)


def regression() -> goldnas.Task:
    return goldnas.Task(
        loss=F.mse_loss, metric=squares, summary=torch.sqrt, name="RMSE", higher_is_better=False
    )


# -- one mistake each: data --------------------------------------------------------------------


def raises() -> Pair:
    raise ValueError("no such\nfile")


def returns_one() -> object:
    return TensorDataset(noise(2, 16), LABELS)


def returns_three() -> object:
    return (*bumps(), bumps()[1])


class _Stream(IterableDataset):
    def __iter__(self) -> Iterator[Tensor]:
        return iter(noise(2, 16))


def a_stream() -> Pair:
    return _Stream(), _Stream()


def empty() -> Pair:
    return [], []


def no_pairs() -> Pair:
    return noise(2, 16), noise(2, 16)


def labelled_by_name() -> Pair:
    items = [(torch.zeros(2, 16), "cat")] * 4
    return items, items


def whole_numbers() -> Pair:
    return of(torch.zeros(40, 2, 16, dtype=torch.uint8))


def unlike_shapes() -> Pair:
    items = [(torch.zeros(2, 16 if i < 7 else 15), i % 4) for i in range(40)]
    return items, items


def unlike_test() -> Pair:
    return bumps()[0], images()[1]


def negative_label() -> Pair:
    return of(noise(2, 16), LABELS - 1)


def a_class_without_items() -> Pair:
    return of(noise(2, 16), 2 * (LABELS // 2))


def one_class() -> Pair:
    return of(noise(2, 16), 0 * LABELS)


def label_out_of_range() -> Pair:
    return bumps()[0], TensorDataset(noise(2, 16), LABELS + 1)


class _Broken(Changing):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if index == 5:
            raise OSError("no such file")
        return super().__getitem__(index)


def broken_item() -> Pair:
    return _Broken(), _Broken()


class _Other(Changing):
    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        inputs, label = super().__getitem__(index)
        return inputs, 3 - label


def other_targets() -> Pair:
    return _Other(), _Other()


# -- and tasks ---------------------------------------------------------------------------------


def no_task() -> str:
    return "regression"


def task_raises() -> goldnas.Task:
    raise KeyError("loss")


def named_accuracy() -> goldnas.Task:
    return goldnas.Task(loss=F.mse_loss, metric=squares, name="accuracy")


def loss_fails() -> goldnas.Task:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs @ targets

    return goldnas.Task(loss=loss, metric=squares, name="RMSE")


def loss_of_each() -> goldnas.Task:
    return goldnas.Task(loss=squares, metric=squares, name="RMSE")


def metric_of_all() -> goldnas.Task:
    return goldnas.Task(loss=F.mse_loss, metric=F.mse_loss, name="RMSE")


def summary_of_many() -> goldnas.Task:
    return goldnas.Task(
        loss=F.mse_loss, metric=lambda outputs, targets: targets.repeat(1, 3), name="RMSE"
    )
