"""The step of widths: a device computes this many channels at a time."""

from collections.abc import Callable

import torch
from torch import nn

from goldnas.exporting.onnx import to_onnx
from goldnas.profiling.backend import Failure, MeasurementBackend
from goldnas.profiling.measuring import Estimate
from goldnas.profiling.session import Session

STEPS = (4, 8, 16, 32)
"""Possible steps; the first one that costs hardly more than its work is taken."""

DEFAULT_STEP = 8
"""The step without a measured device."""

_WIDTHS = {4: 44, 8: 40, 16: 48}
"""By step, a number of channels that is a multiple of it, and not of the next."""

_EXTRA = 1.08
"""Up to this many times what the work costs at multiples of 32, a width is a good one."""

_SIDE = 14


def measure_step(
    backend: MeasurementBackend,
    *,
    batch: int = 1,
    on_warning: Callable[[str], None] = lambda text: None,
) -> int:
    """Find the step by measuring a few chains of convolutions of different widths.

    Args:
        backend: The backend that measures.
        batch: Images per call.
        on_warning: Called with a warning if something may spoil the measurements.

    Raises:
        ExportError: If a convolution cannot be exported.
        MeasurementError: If the device cannot measure, or is too noisy.
    """
    session = Session(backend, batch=batch, on_warning=on_warning)
    widths = sorted({32, 64, *_WIDTHS.values()})
    models = {str(w): to_onnx(_chain(w), (batch, w, _SIDE, _SIDE)) for w in widths}
    estimates = {name: Estimate({name: 1.0}) for name in models}
    results = session.measure(models, estimates.values())
    if any(isinstance(result, Failure) for result in results.values()):
        return DEFAULT_STEP
    us = {int(name): estimate.latency_us(results) for name, estimate in estimates.items()}
    per_work = (us[64] - us[32]) / (64**2 - 32**2)
    for step, width in _WIDTHS.items():
        if us[width] <= _EXTRA * (us[32] + per_work * (width**2 - 32**2)):
            return step
    return STEPS[-1]


def _chain(width: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(width, width, 3, padding=1) for _ in range(4)]
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU())))
