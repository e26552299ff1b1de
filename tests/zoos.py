"""Ready-made networks: small ONNX files, and what a pick says of networks, measured or not."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import helper

from goldnas.lut import Conditions
from goldnas.zoo.file import Accuracy, Measured, Zoo, load_zoo
from small_models import FLOAT, save

NETWORKS: Mapping[str, tuple[float, float]] = {
    "torchvision/shufflenet_v2_x0_5": (60.55, 100.0),
    "torchvision/resnet18": (69.76, 150.0),
    "torchvision/regnet_y_400mf": (74.05, 9000.0),
}
"""Accuracy in percent, and latency in microseconds."""


def write_zoo(
    path: Path,
    conditions: Conditions,
    *,
    size: int = 8,
    classes: int = 1000,
    networks: Mapping[str, tuple[float, float]] = NETWORKS,
    **changes: Any,
) -> Zoo:
    """Write a file of networks that were measured for images of one size."""
    rows = [
        Measured(
            **{
                "network": name,
                "image_size": size,
                "accuracy": Accuracy(percent=percent, source="estimated"),
                "parameters": 1_000_000,
                "flops": 1_000_000,
                "latency_us": latency_us,
                "interval_us": 1.0,
                "visits": 8,
                "complete": True,
            }
            | changes
        )
        for name, (percent, latency_us) in networks.items()
    ]
    zoo = Zoo(path, classes).with_rows(conditions, rows)
    zoo.save()
    return zoo


WIDTHS = {"tiny": (8, 50.0), "small": (24, 60.0), "old": (80, 55.0), "large": (96, 80.0)}
"""Channels and accuracy in percent, each some times slower than the one before."""

ACCURACIES = "".join(f"{name}.onnx,{percent}\n" for name, (_, percent) in WIDTHS.items())


def write_models(folder: Path) -> Path:
    """Write the networks, and ``accuracies.csv`` beside their folder."""
    models = folder / "models"
    models.mkdir(parents=True)
    for name, (width, _) in WIDTHS.items():
        write_network(models / f"{name}.onnx", width)
    (folder / "accuracies.csv").write_text(f"network,accuracy\n{ACCURACIES}")
    return models


def write_network(path: Path, width: int, side: int = 32) -> Path:
    """Four convolutions of as many channels each."""
    channels = [3, width, width, width, width]
    weights = {
        f"w{i}": np.full((channels[i + 1], channels[i], 3, 3), 0.01, np.float32)
        for i in range(4)
    }
    names = ["x", "a", "b", "c", "y"]
    nodes = [
        helper.make_node(
            "Conv", [names[i], f"w{i}"], [names[i + 1]], name=names[i + 1], pads=[1] * 4
        )
        for i in range(4)
    ]
    return save(path, nodes, {"x": (FLOAT, [1, 3, side, side])}, {"y": FLOAT}, weights)


def assert_all_picked(folder: Path) -> None:
    """Each network was measured once, in ``zoo.json``."""
    measured = [row.network for _, row in load_zoo(folder / "zoo.json").measured()]
    assert sorted(measured) == sorted(f"{name}.onnx" for name in WIDTHS)
