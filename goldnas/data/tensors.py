"""Numbers of the user as tensors, also if torch cannot view their array."""

import warnings

import numpy as np
import torch
from torch import Tensor

_NUMBERS = "biufc"
"""Kinds of numpy's types that are numbers, truths among them."""


def to_array(value: object) -> np.ndarray:
    """Numbers, an array or a tensor as an array that torch takes: a copy, if it has to be.

    torch takes none that is read backwards, as ``numpy.flip`` makes, of another order of
    bytes, or of more than 64 bits.

    Raises:
        TypeError: If it holds something else, such as texts or rows of several lengths.
    """
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = value.float() if value.dtype == torch.bfloat16 else value
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of several lengths
        raise TypeError(str(error)) from None
    if array.dtype.kind not in _NUMBERS:
        raise TypeError(f"it has {array.dtype}, and numbers are needed")
    dtype = np.dtype(np.float64) if array.dtype == np.longdouble else array.dtype
    return np.asarray(array, dtype.newbyteorder("="), order="C")


def to_tensor(value: object) -> Tensor:
    """Numbers, an array or a tensor as a tensor, which nobody is to write to.

    Raises:
        TypeError: If it holds something else, such as texts.
    """
    if isinstance(value, Tensor):
        return value.detach()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(to_array(value))
