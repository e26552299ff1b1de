"""Reading the weights that others saved, as safetensors or by PyTorch, without running code."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.bounded import open_regular
from goldnas.tensor_file import read_tensors

if TYPE_CHECKING:
    from torch import Tensor

SAFETENSORS = ".safetensors"
ENDINGS = (SAFETENSORS, ".pt", ".pth")
"""Of the files that are read."""

_WRAPPERS = ("state_dict", "model_state_dict", "model")
"""What checkpoints call the weights that they hold beside other things."""

_BEFORE_NAMES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and trainers put before every name."""

_COUNTER = "n_averaged"
"""What a moving average of torch has beside its weights."""


def read_weights(path: Path, most_bytes: int) -> tuple[Any, str]:
    """Read the content of a file to the CPU, and the SHA-256 of the file, as hexadecimal.

    Args:
        path: Of the file, which ends as :data:`ENDINGS` says.
        most_bytes: That it may have.

    Raises:
        OSError: If it cannot be read, or is no regular file.
        ValueError: If it is larger, damaged, or holds more than tensors and plain values.
    """
    with open_regular(path) as file:
        size = file.seek(0, 2)
        if size > most_bytes:
            raise ValueError(
                f"it has {size / 2**20:.1f} MiB, and at most {most_bytes / 2**20:.1f} are read"
            )
        file.seek(0)
        told = hashlib.sha256()
        while part := file.read(2**20):
            told.update(part)
        digest = told.hexdigest()
        if path.suffix == SAFETENSORS:
            from safetensors.torch import load

            file.seek(0)
            try:
                return load(file.read()), digest
            except Exception:  # its own, a MemoryError, a type of numbers that torch lacks
                raise ValueError("the file is damaged") from None
    return read_tensors(path, most_bytes, legacy=True), digest


def unwrap(content: Any, own: "Mapping[str, Tensor]") -> dict[str, Any]:
    """Find the weights in the content of a file, under the names that the network uses.

    Args:
        content: Of a file: weights by name, or a checkpoint that has them among other things.
        own: The weights of the network.

    Raises:
        ValueError: If there are none.
    """
    for _ in _WRAPPERS:
        inner = (w for w in _WRAPPERS if isinstance(content, dict) and w in content)
        content = next((content[w] for w in inner if isinstance(content[w], dict)), content)
    if not isinstance(content, dict) or not content:
        raise ValueError("it holds no weights by name")
    weights = {str(name): value for name, value in content.items() if name != _COUNTER}
    for before in _BEFORE_NAMES * 2:
        within = all(name.startswith(before) for name in weights)
        if within and not any(name.startswith(before) for name in own):
            weights = {name.removeprefix(before): value for name, value in weights.items()}
    return weights
