"""How good a network is: its accuracy, or the metric of a task of one's own."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from goldnas.data.examples import Examples, Normalisation, to_device
from goldnas.data.loader import read_batches
from goldnas.errors import ExportError, GoldnasError
from goldnas.task import CLASSIFICATION, Task


def score(
    network: nn.Module,
    data: Examples,
    normalisation: Normalisation,
    device: torch.device,
    task: Task = CLASSIFICATION,
    *,
    batch_size: int = 256,
) -> float:
    """The metric of a network in evaluation mode: the share that it classifies right.

    The network's mode is put back afterwards.
    """
    sums = summed(network, data, normalisation, device, task, batch_size=batch_size)
    return task.summarise(sums / len(data))


@torch.no_grad()
def summed(
    network: nn.Module,
    data: Examples,
    normalisation: Normalisation,
    device: torch.device,
    task: Task = CLASSIFICATION,
    *,
    batch_size: int = 256,
) -> Tensor:
    """The sum of a task's statistics over some items, in float64 on the processor.

    Raises:
        ConfigError: If the task fails.
    """
    training = network.training
    network.eval()
    sums: list[Tensor] = []
    try:
        for inputs, targets in read_batches(data, normalisation, batch_size=batch_size):
            output = network(to_device(inputs, device))
            outputs = output[0] if isinstance(output, tuple) else output
            sums.append(task.compute_statistics(outputs, targets.to(device)).sum(0))
    finally:
        network.train(training)
    return torch.stack(sums).cpu().double().sum(0)


def onnx_score(
    model: bytes, data: Examples, normalisation: Normalisation, task: Task = CLASSIFICATION
) -> float:
    """The metric of an exported network, by onnxruntime on this processor.

    Raises:
        ExportError: If onnxruntime cannot run the model, or it puts out what is not a number.
        ConfigError: If the task fails.
    """
    sums = [
        task.compute_statistics(outputs, targets).sum(0)
        for outputs, targets in _onnx_outputs(model, data, normalisation)
    ]
    return task.summarise(torch.stack(sums).double().sum(0) / len(data))


def onnx_predictions(model: bytes, data: Examples, normalisation: Normalisation) -> Tensor:
    """The classes that an exported network finds, by onnxruntime on this processor.

    Args:
        model: From ``input`` to ``output``; its batch is 1, or open.
        data: To classify.
        normalisation: Of the training data.

    Returns:
        int64 ``(N,)``.

    Raises:
        ExportError: If onnxruntime cannot run the model, or it puts out what is not a number.
    """
    outputs = _onnx_outputs(model, data, normalisation)
    return torch.cat([logits.argmax(dim=1) for logits, _ in outputs])


def _onnx_outputs(
    model: bytes, data: Examples, normalisation: Normalisation
) -> Iterator[tuple[Tensor, Tensor]]:
    """What a model puts out, and the targets, some items at a time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # for one image, several wait more than they compute
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        size: Any = session.get_inputs()[0].shape[0]
        for inputs, targets in read_batches(data, normalisation, batch_size=256):
            step = size if isinstance(size, int) else len(inputs)
            parts = zip(torch.split(inputs, step), torch.split(targets, step), strict=True)
            for some, theirs in parts:
                (output,) = session.run(None, {"input": some.numpy()})
                outputs = torch.from_numpy(output)
                if not outputs.isfinite().all():
                    raise ExportError(
                        "the exported network returns values that are not numbers"
                    )
                yield outputs, theirs
    except GoldnasError:
        raise
    except Exception as error:  # onnxruntime's own classes share no base
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"onnxruntime cannot run the exported network: {reason}") from error
