"""The machine that trains: its device, its number format, what the folder says of it."""

import contextlib
import os
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

import goldnas
from goldnas.data.examples import Normalisation
from goldnas.errors import ConfigError
from goldnas.training.config import StepSettings

MOST_THREADS_PER_CORE = 32
"""Of more, each waits for the others for minutes."""

_Module = TypeVar("_Module", bound=nn.Module)


def choose_device(name: str) -> torch.device:
    """The device to train on.

    Raises:
        ConfigError: If it is unknown or not available: another is never taken instead.
    """
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if available.get(name.split(":")[0], False):
        with contextlib.suppress(RuntimeError):  # of a number, like cuda:7, that is not there
            torch.zeros(1, device=name)
            return torch.device(name)
    have = ", ".join(kind for kind, there in available.items() if there)
    raise ConfigError(
        f"cannot train on {name!r}: torch finds {have} here; choose one of these, or auto"
    )


def choose_amp(name: str, device: torch.device) -> Literal["off", "bf16"]:
    """The number format to train in; ``auto`` is bf16 on a GPU that computes in it, else off.

    Raises:
        ConfigError: If it is unknown, or the device does not have it.
    """
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "off" or (name == "auto" and not fast):
        return "off"
    if name not in ("auto", "bf16"):
        raise ConfigError(f"unknown `amp={name!r}`; known: auto, bf16, off")
    if not (fast or device.type == "cpu"):
        raise ConfigError(f"cannot train on {device} with `amp='bf16'`; leave it at auto")
    return "bf16"


def autocast_for(config: StepSettings, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass in the number format of the settings."""
    if config.amp == "off":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def place_module(module: _Module, device: torch.device) -> _Module:
    """Move a module; put weights for images in the order channels last.

    Depthwise convolutions run faster so, forward and backward. The weights of 1-D and 3-D
    convolutions have no such order.
    """
    module = module.to(device)
    spoilt = [m for m in module.modules() if device.type == "cpu" and _writes_beyond(m)]
    for convolution in spoilt:
        convolution.register_forward_pre_hook(_put_channels_first)
    kept = {id(convolution.weight) for convolution in spoilt}
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dim() == 4 and id(tensor) not in kept:
            tensor.data = tensor.data.to(memory_format=torch.channels_last)
    return module


def _writes_beyond(module: nn.Module) -> bool:
    """Whether PyTorch spoils memory when it computes the gradient of these weights.

    oneDNN 3.12, of PyTorch 2.14, does for a strided 1x1 convolution of fewer than 8 channels,
    channels last, on processors with AVX2 and without AVX-512.
    """
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.groups == 1
        and module.in_channels < 8
    )


def _put_channels_first(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)


def set_threads(threads: int | None) -> None:
    """Let PyTorch compute on so many threads; None for as many as it does.

    Raises:
        ConfigError: If they are too many for this machine: they would only wait for each other.
    """
    if threads is None:
        return
    cores = os.cpu_count() or 1
    if threads > MOST_THREADS_PER_CORE * cores:
        raise ConfigError(
            f"{threads} `threads` are more than {MOST_THREADS_PER_CORE} for each of the "
            f"{cores} cores of this machine; use fewer, or a machine with more"
        )
    torch.set_num_threads(threads)


def describe_machine(device: torch.device, ranks: int = 1) -> dict[str, Any]:
    """What a search runs on, for its folder."""
    return {
        "goldnas": goldnas.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "ranks": ranks,
    }


def describe_inputs(normalisation: Normalisation, classes: Sequence[str]) -> dict[str, Any]:
    """The inputs and the classes of networks, for the folder."""
    return {"inputs": normalisation.as_dict(), "classes": classes}
