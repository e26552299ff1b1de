"""A folder of small ONNX networks, and how accurate each is said to be."""

from pathlib import Path

import numpy as np
from onnx import helper

from goldnas.zoo.file import load_zoo
from small_models import FLOAT, save

WIDTHS = {"tiny": (8, 50.0), "small": (24, 60.0), "old": (80, 55.0), "large": (96, 80.0)}
"""Channels and accuracy in percent, each some times slower than the one before."""

ACCURACIES = "".join(f"{name}.onnx,{percent}\n" for name, (_, percent) in WIDTHS.items())


def write_zoo(folder: Path) -> Path:
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
