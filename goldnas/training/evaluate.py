"""How often a network is right."""

from typing import Any

import torch
from torch import Tensor, nn

from goldnas.errors import ExportError, GoldnasError
from goldnas.training.data import ImageData, Normalisation
from goldnas.training.loader import evaluation_batches


def accuracy(
    network: nn.Module,
    images: ImageData,
    normalisation: Normalisation,
    device: torch.device,
    *,
    batch_size: int = 256,
) -> float:
    """Share of pictures that a network classifies right, in evaluation mode.

    The network's mode is put back afterwards.
    """
    right = count_right(network, images, normalisation, device, batch_size=batch_size)
    return right / len(images)


@torch.no_grad()
def count_right(
    network: nn.Module,
    images: ImageData,
    normalisation: Normalisation,
    device: torch.device,
    *,
    batch_size: int = 256,
) -> int:
    """Number of pictures, which may be none, that a network classifies right."""
    training = network.training
    network.eval()
    right = torch.zeros((), dtype=torch.long, device=device)
    try:
        for pictures, labels in evaluation_batches(
            images, normalisation, batch_size=batch_size
        ):
            if len(labels) == 0:
                continue
            output = network(pictures.to(device, memory_format=torch.channels_last))
            logits = output[0] if isinstance(output, tuple) else output
            right += (logits.argmax(dim=1) == labels.to(device)).sum()
    finally:
        network.train(training)
    return int(right)


def onnx_predictions(model: bytes, images: ImageData, normalisation: Normalisation) -> Tensor:
    """The classes that an exported network finds in pictures, by onnxruntime on this processor.

    Args:
        model: From ``input`` to ``output``; its batch is 1, or open.
        images: The pictures.
        normalisation: Of the training data.

    Returns:
        int64 ``(N,)``.

    Raises:
        ExportError: If onnxruntime cannot run the model, or it puts out what is not a number.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # for one picture, several wait more than they compute
    found: list[Tensor] = []
    try:
        session = onnxruntime.InferenceSession(
            model, options, providers=["CPUExecutionProvider"]
        )
        size: Any = session.get_inputs()[0].shape[0]
        for pictures, _ in evaluation_batches(images, normalisation, batch_size=256):
            step = size if isinstance(size, int) else len(pictures)
            for some in torch.split(pictures, step):
                (output,) = session.run(None, {"input": some.numpy()})
                logits = torch.from_numpy(output)
                if not logits.isfinite().all():
                    raise ExportError("the exported network puts out what is not a number")
                found.append(logits.argmax(dim=1))
    except GoldnasError:
        raise
    except Exception as error:  # onnxruntime's own classes share no base
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"onnxruntime cannot run the exported network: {reason}") from error
    return torch.cat(found)
