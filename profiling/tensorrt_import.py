"""TensorRT and TensorRT-RTX: which versions are known, and their Python packages."""

import importlib
from typing import Any, NamedTuple

from goldnas.profiling.runtimes import BACKENDS, MissingRuntimeError


class Flavour(NamedTuple):
    """One of the two, and its versions."""

    title: str
    module: str
    oldest: tuple[int, int]
    below: int
    """Major version whose interface nobody has seen."""


FLAVOURS = {
    "tensorrt": Flavour("TensorRT", "tensorrt", (10, 12), 12),
    "tensorrt-rtx": Flavour("TensorRT-RTX", "tensorrt_rtx", (1, 4), 2),
}


def import_tensorrt(name: str) -> Any:
    """Import a flavour.

    Raises:
        MissingRuntimeError: If it is not installed, cannot load its libraries, or has a
            version whose interface is not known here.
    """
    flavour, install = FLAVOURS[name], BACKENDS[name].install
    try:
        trt = importlib.import_module(flavour.module)
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        raise MissingRuntimeError(
            f"{flavour.title} is not installed here ({reason}). Install it: {install}"
        ) from None
    try:
        version = tuple(int(number) for number in trt.__version__.split(".")[:2])
    except ValueError:
        version = (0, 0)
    if not flavour.oldest <= version < (flavour.below, 0):
        oldest = ".".join(map(str, flavour.oldest))
        raise MissingRuntimeError(
            f"this goldnas does not support {flavour.title} {trt.__version__}, only {oldest} "
            f"to {flavour.below - 1}.x: interfaces change between major versions. Install one "
            f"of these: {install}"
        )
    return trt
