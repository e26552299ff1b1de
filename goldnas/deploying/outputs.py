"""Comparisons between the outputs of exported files and those of the network in PyTorch."""

import copy
from collections.abc import Callable

import torch
from torch import nn

from goldnas.deploying.config import CALIBRATION_IMAGES
from goldnas.deploying.source import Int8Data
from goldnas.errors import ExportError
from goldnas.exporting.onnx import NoKernelError, check_onnx, check_outputs
from goldnas.profiling.gpu_backend import GpuBackend
from goldnas.task import CLASSIFICATION
from goldnas.training.evaluate import onnx_predictions, onnx_score

Warn = Callable[[str], None]

TRIED_IMAGES = 16
"""Random images that an engine's outputs are compared on."""

AGREEING_REFUSES, AGREEING_WARNS = 0.5, 0.9
"""Share of images that an int8 engine is to classify as PyTorch does."""

MUCH = 0.01
"""Share of the held-out images that a network may lose in int8 without a warning."""


def compare_int8(exact: bytes, model: bytes, int8_data: Int8Data, warn: Warn) -> str:
    """The change of predictions by int8; outputs of a correct network may differ by far."""
    if int8_data.task is not CLASSIFICATION:
        return _compare_metric(exact, model, int8_data)
    labels = int8_data.held_out.labels
    before, after = (
        onnx_predictions(network, int8_data.held_out, int8_data.normalisation)
        for network in (exact, model)
    )
    agreeing = float((before == after).double().mean())
    was, now = (float((found == labels).double().mean()) for found in (before, after))
    if was - now > MUCH:
        warn(
            f"int8 costs {100 * (was - now):.2f} points of accuracy. `precision='fp16'` costs "
            "almost none, if the device supports it"
        )
    return (
        f"int8: {100 * now:.2f} % of the held-out images right, {100 * (now - was):+.2f} "
        f"points from {100 * was:.2f} % in fp32; {100 * agreeing:.2f} % classified as in fp32"
    )


def _compare_metric(exact: bytes, model: bytes, int8_data: Int8Data) -> str:
    """The change of a custom metric by int8; goldnas cannot judge whether it is large."""
    was, now = (
        int8_data.task.metric_kind.with_value(
            onnx_score(network, int8_data.held_out, int8_data.normalisation, int8_data.task)
        )
        for network in (exact, model)
    )
    return (
        f"int8: {now.on('the held-out items')}, {now.value - was.value:+.4g} from "
        f"{was.digits} in fp32"
    )


def compare_half(
    model: bytes, network: nn.Module, shape: tuple[int, ...], precision: str, warn: Warn
) -> str:
    """The difference between outputs in half precision and PyTorch's in single precision.

    Raises:
        ExportError: If they differ by more than rounding.
    """
    try:
        difference = check_onnx(model, network, shape, precision=precision)
    except NoKernelError as error:
        warn(f"the network did not run in {precision} on this machine: {error}")
        return f"{precision}: not compared"
    return f"{precision}: they differ by {difference:.1e} at most"


def compare_engine(
    gpu: GpuBackend,
    model: bytes,
    network: nn.Module,
    input_shape: tuple[int, ...],
    precision: str,
    int8_data: Int8Data | None,
    warn: Warn,
) -> tuple[bytes, str]:
    """The engine of a network, and a comparison of its outputs with PyTorch's.

    In int8 the comparison is by class, because the outputs of a correct network may differ by
    far.

    Raises:
        ExportError: If the outputs differ by more than rounding, or in int8 give another class
            for most images.
        MeasurementError: If the engine cannot be built or does not run.
    """
    if int8_data is None:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn((TRIED_IMAGES, *input_shape), generator=generator)
    else:
        first = torch.arange(min(CALIBRATION_IMAGES, len(int8_data.held_out)))
        images, _ = int8_data.held_out.batch(first, int8_data.normalisation)
    found = gpu.run(model, images.numpy())
    actual = torch.from_numpy(found.outputs)
    with torch.no_grad():
        expected = copy.deepcopy(network).eval().cpu()(images)
    if int8_data is not None:
        if not bool(actual.isfinite().all()):
            raise ExportError(
                "the int8 engine puts out values that are no numbers; do not deploy it"
            )
        agreeing = float((actual.argmax(1) == expected.argmax(1)).double().mean())
        said = (
            f"the int8 engine classifies {100 * agreeing:.1f} % of {len(images)} held-out "
            "images as PyTorch does in fp32"
        )
        if agreeing < AGREEING_REFUSES:
            raise ExportError(f"{said}; do not deploy it. `precision='fp16'` is closer")
        if agreeing < AGREEING_WARNS:
            warn(f"{said}. `precision='fp16'` is closer")
        return found.engine, (
            f"engine: {100 * agreeing:.1f} % of {len(images)} held-out images are classified "
            "as by PyTorch in fp32"
        )
    difference = check_outputs(actual, expected, precision=precision)
    return found.engine, f"engine: it and PyTorch differ by {difference:.1e} at most"
