"""Files of ready-made networks, as ``pick`` writes them, of machines that do not exist."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from goldnas.lut import Conditions
from goldnas.zoo.file import Accuracy, Measured, Zoo

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
