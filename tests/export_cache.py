"""One export of equal modules, however many tests need it: torch takes seconds for a network.

Equal are modules of the same classes, settings and weights, for inputs of the same shapes. What
cannot be compared, such as a class within a test, is exported each time.
"""

import functools
import hashlib
import io
import pickle
from collections.abc import Callable
from typing import Any

import torch

MOST = 64
"""Programs that are kept, of a megabyte or so each."""


class _Pickler(pickle.Pickler):
    """Writes tensors by what they hold, and not by where."""

    def reducer_override(self, found: Any) -> Any:
        if isinstance(found, torch.Tensor):
            numbers = found.detach().contiguous().flatten().view(torch.uint8)
            kind = (type(found).__name__, str(found.dtype), tuple(found.shape), found.stride())
            return str, (repr((kind, found.requires_grad, numbers.numpy().tobytes())),)
        return NotImplemented


def key_of(*found: Any) -> str | None:
    """A hash of everything that some objects hold; None if they cannot be compared."""
    file = io.BytesIO()
    try:
        _Pickler(file).dump(found)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError):
        return None
    return hashlib.sha256(file.getvalue()).hexdigest()


def once(export: Callable[..., Any]) -> Callable[..., Any]:
    """The export, which gives for equal modules what it gave before."""
    kept: dict[str, Any] = {}

    @functools.wraps(export)
    def cached(module: Any, *args: Any, **settings: Any) -> Any:
        key = key_of(module, args, settings)
        if key is None:
            return export(module, *args, **settings)
        if key not in kept:
            if len(kept) == MOST:
                del kept[next(iter(kept))]
            kept[key] = export(module, *args, **settings)
        return kept[key]

    return cached
