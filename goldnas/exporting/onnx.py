"""Modules as ONNX: single operators for measuring, whole networks for deployment."""

import copy
import json
import signal
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import onnx
import torch
from torch import nn

from goldnas.errors import ExportError
from goldnas.exporting.fold import fold
from goldnas.exporting.zeros import drop_zeros
from goldnas.scratch import check_scratch, explain_no_scratch

OPSET = 18

ARCHITECTURE = "goldnas.architecture"
"""Key of a model's metadata under which a network's architecture is kept."""
INPUTS, CLASSES = "goldnas.inputs", "goldnas.classes"
"""Keys of what it takes (JSON: ``mean`` and ``std`` of pixels in [0, 1]), and of the names of
its outputs (a JSON list), where they are known."""

# Largest difference from PyTorch, relative to the largest output. Folding and another order
# of summation cost single-precision networks about 1e-6; a wrong graph is off by 1e-2 or more.
# There is none for int8, whose outputs differ by much more than its predictions.
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}
_NAMES = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16"}


def describe_network(architecture: str, described: Mapping[str, Any]) -> dict[str, str]:
    """The metadata of an exported network, with everything that using it takes.

    Args:
        architecture: As JSON.
        described: ``inputs`` and ``classes``, where they are known.
    """
    metadata = {ARCHITECTURE: architecture}
    for key, name in ((INPUTS, "inputs"), (CLASSES, "classes")):
        if known := described.get(name):  # earlier folders do not have it
            metadata[key] = json.dumps(known)
    return metadata


class NoKernelError(ExportError):
    """The model may be good, but this machine's onnxruntime cannot compute it."""


def to_onnx(
    module: nn.Module,
    input_shape: tuple[int, ...],
    *other_inputs: tuple[int, ...],
    dynamic_batch: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Export a module for deployment: evaluation mode, normalisation and gates folded.

    Args:
        module: Is not changed; a copy is exported.
        input_shape: ``(B, C, H, W)``.
        other_inputs: Shapes of further inputs, which are named ``input_1`` and so on.
        dynamic_batch: Leave the batch open. Some runtimes are faster with a fixed batch.
        metadata: Entries for the model's metadata, by key.

    Returns:
        A checked ONNX model from ``input`` to ``output``, weights included. It holds no trace
        of the machine that made it.

    Raises:
        ExportError: If the module does something that ONNX cannot express.
    """
    module = fold(module).cpu()
    # torch takes a batch of one for a constant.
    batch = max(2, input_shape[0]) if dynamic_batch else input_shape[0]
    shapes = [(batch, *shape[1:]) for shape in (input_shape, *other_inputs)]
    batches = tuple({0: torch.export.Dim("batch")} for _ in shapes) if dynamic_batch else None
    check_scratch()  # torch needs one, and without it fails in words of its own
    try:
        with warnings.catch_warnings(), _interrupts_held_back():
            warnings.simplefilter("ignore")  # deprecations within torch and onnxscript
            program = torch.onnx.export(
                module,
                tuple(torch.zeros(shape, dtype=_precision(module)) for shape in shapes),
                dynamo=True,
                opset_version=OPSET,
                input_names=["input", *(f"input_{i}" for i in range(1, len(shapes)))],
                output_names=["output"],
                dynamic_shapes=batches,
                external_data=False,
                verbose=False,
            )
        assert program is not None  # with dynamo=True it never is
        model = program.model_proto
        drop_zeros(model)
        _strip(model)
        onnx.helper.set_model_props(model, dict(metadata or {}))
        onnx.checker.check_model(model, full_check=True)
    except (torch.onnx.OnnxExporterError, onnx.checker.ValidationError) as error:
        if isinstance(error.__cause__, OSError):
            raise explain_no_scratch(error.__cause__) from error
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ExportError(
            f"cannot export {type(module).__name__} at input {input_shape} to ONNX: {reason}. "
            "Rewrite the operator with standard layers, or leave it out of the space"
        ) from error
    return bytes(model.SerializeToString())


def check_onnx(
    onnx_bytes: bytes,
    module: nn.Module,
    input_shape: tuple[int, ...],
    *,
    precision: str | None = None,
) -> float:
    """Compare an ONNX model in onnxruntime with its original module.

    Args:
        onnx_bytes: From :func:`to_onnx`.
        module: Evaluated in evaluation mode; is not changed.
        input_shape: ``(B, C, H, W)`` of the random input.
        precision: Number format of the model, a key of ``TOLERANCES``; by default that of the
            module.

    Returns:
        The largest absolute difference between the two outputs.

    Raises:
        NoKernelError: If onnxruntime has no implementation for the number format here.
        ExportError: If the outputs differ by more than rounding, or onnxruntime rejects the
            model.
    """
    images, expected = run_module(module, input_shape)
    return check_outputs(
        run_onnx(onnx_bytes, images),
        expected,
        precision=precision or _NAMES[_precision(module)],
    )


def run_onnx(onnx_bytes: bytes, images: torch.Tensor) -> torch.Tensor:
    """Run an exported network in onnxruntime on this processor.

    Args:
        onnx_bytes: From :func:`to_onnx`.
        images: ``(B, C, H, W)``, as the network takes them.

    Returns:
        float32 ``(B, ...)``.

    Raises:
        NoKernelError: If onnxruntime has no implementation for the number format here.
        ExportError: If onnxruntime rejects the model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            onnx_bytes, options, providers=["CPUExecutionProvider"]
        )
        (output,) = session.run(None, {"input": images.numpy()})
    except Exception as error:  # onnxruntime's own classes share no base
        reason = str(error).strip().splitlines()[0]
        kind = NoKernelError if type(error).__name__ == "NotImplemented" else ExportError
        raise kind(f"onnxruntime rejects the exported network: {reason}") from error
    return torch.from_numpy(output).float()


def run_module(
    module: nn.Module, input_shape: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs of noise and what a module makes of them; zeros and ones if it refuses others.

    Numbers of words are such inputs: a table of two words has no other rows. The module is
    evaluated in evaluation mode, and is not changed.
    """
    module = copy.deepcopy(module).eval().cpu()
    dtype = _precision(module)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(input_shape, generator=generator).to(dtype)
    with torch.no_grad():
        try:
            return images, module(images).float()
        except (IndexError, RuntimeError):
            images = torch.randint(2, input_shape, generator=generator).to(dtype)
            return images, module(images).float()


def check_outputs(actual: torch.Tensor, expected: torch.Tensor, *, precision: str) -> float:
    """Compare the outputs of a runtime and of PyTorch for the same images.

    Args:
        actual: float32, of any shape.
        expected: float32, of the same.
        precision: Number format of the runtime's model, a key of ``TOLERANCES``.

    Returns:
        The largest absolute difference.

    Raises:
        ExportError: If they differ by more than rounding.
    """
    if actual.shape != expected.shape:
        raise ExportError(
            f"the exported network puts out {tuple(actual.shape)}, but PyTorch "
            f"{tuple(expected.shape)}; the export is of another network"
        )
    difference = float((actual - expected).abs().max())
    largest = float(expected.abs().max())
    if not difference <= TOLERANCES[precision] * largest:  # so that NaN is refused, too
        raise ExportError(
            f"the exported network differs from PyTorch by {difference:.3g} where outputs "
            f"reach {largest:.3g}; do not deploy it, and report its architecture"
        )
    return difference


def _precision(module: nn.Module) -> torch.dtype:
    """Number format of a module's weights and statistics; float32 if it has none."""
    tensors = module.state_dict().values()
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block: torch's exporter would now and then eat it.

    A second one does not wait.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals go to the main thread
        return
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if pressed:
            raise KeyboardInterrupt
        pressed.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(signal.SIGINT)  # a search saves before it stops


def _strip(model: onnx.ModelProto) -> None:
    """Remove notes on how the graph came about: they hold paths of this machine."""
    graph = model.graph
    parts = (*graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info)
    for part in (model, graph, *parts):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
