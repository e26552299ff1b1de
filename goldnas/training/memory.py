"""How much memory a training step needs, known before it is taken.

Nearly all of it is kept by the forward pass for the backward pass. This memory is counted, not
modelled: two passes over a few blank images show how much one image keeps, for any operators,
number format and library.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from goldnas.choice import Choice
from goldnas.data.examples import to_device
from goldnas.errors import ConfigError
from goldnas.gated_cell import GatedCell
from goldnas.recompute import freeze_statistics

LARGEST_BATCH = 512
"""Of ``batch_size="auto"``: with larger ones a search has too few steps to decide in."""

SHARE_OF_FREE = 0.7
"""Of the free memory that ``batch_size="auto"`` fills: allocators keep some of what was freed,
and libraries need some for themselves."""


@dataclass(frozen=True, slots=True)
class StepMemory:
    """What a training step holds at its fullest."""

    fixed_bytes: float
    """Weights, their gradients and momentum, statistics."""
    image_bytes: float
    """What one image of the batch adds."""

    def step_bytes(self, batch_size: int) -> int:
        """Memory of a step on ``batch_size`` images."""
        return round(self.fixed_bytes + batch_size * self.image_bytes)

    def largest_batch(self, free_bytes: int, num_images: int) -> int:
        """The largest power of two whose step fits, up to :data:`LARGEST_BATCH`.

        Args:
            free_bytes: On the device; :data:`SHARE_OF_FREE` of it is filled.
            num_images: Of the training data.

        Raises:
            ConfigError: If not even two images fit.
        """
        batch_size = LARGEST_BATCH
        while batch_size > max(2, num_images):
            batch_size //= 2
        while self.step_bytes(batch_size) > SHARE_OF_FREE * free_bytes:
            batch_size //= 2
            if batch_size < 2:
                raise ConfigError(
                    f"a step on two images needs {memory_text(self.step_bytes(2))}, and "
                    f"{memory_text(free_bytes)} are free: search with fewer `channels` "
                    "or `cells`, or with `checkpointing`"
                )
        return batch_size


Autocast = Callable[[], AbstractContextManager[object]]
"""Makes the context of a forward pass."""

Loss = Callable[[Tensor], Tensor]
"""Of the outputs of a batch, whatever the targets."""


def classified(logits: Tensor) -> Tensor:
    """The loss of a classifier, as if all were of the first class."""
    return F.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.long))


def step_memory(
    module: nn.Module,
    input_shape: tuple[int, ...],
    device: torch.device,
    autocast: Autocast,
    loss: Loss = classified,
) -> StepMemory:
    """Count the memory of a step of a network, or of a super-network as it is now.

    Its weights, statistics and mode, and what is random, are left as they are.

    Args:
        module: On ``device``; maps inputs to several outputs, each a tensor or None.
        input_shape: ``(C, H, W)``.
        device: That trains.
        autocast: For the forward pass.
        loss: That is learnt from.
    """
    shapes = ((batch, *input_shape) for batch in (2, 4))
    two, four = (_kept_bytes(module, shape, device, autocast, loss) for shape in shapes)
    image_bytes = (four - two) / 2
    weights = sum(p.nbytes for p in module.parameters())
    buffers = sum(b.nbytes for b in module.buffers())
    return StepMemory(3 * weights + buffers + two - 2 * image_bytes, image_bytes)


class _Kept:
    """What a forward pass keeps for the backward pass: bytes by the block that made it."""

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.bytes: Counter[str] = Counter()
        self.block = ""
        # Held, so that no later tensor takes the place of an earlier one in memory.
        self._seen = {w.untyped_storage().data_ptr(): w.detach() for w in weights}

    def keep(self, tensor: Tensor) -> Tensor:
        """Count a tensor, unless it shares its memory with one that was counted.

        What autograd is to keep instead comes without its graph: an operation that saved its
        own output, graph and all, would hold itself, and never be freed.
        """
        kept = tensor.detach()
        storage = kept.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen[storage.data_ptr()] = kept
            self.bytes[self.block] += storage.nbytes()
        return kept

    def watch(self, name: str, block: GatedCell | Choice) -> list[RemovableHandle]:
        """Attribute what a block keeps to it; with checkpointing, its ends are kept outside."""
        checkpointing = block.checkpointing

        def enter(module: nn.Module, arguments: tuple[object, ...]) -> None:
            for argument in arguments:
                if checkpointing and isinstance(argument, Tensor):
                    self.keep(argument)
            self.block = name

        def leave(module: nn.Module, arguments: object, output: Tensor) -> None:
            self.block = ""
            if checkpointing:
                self.keep(output)

        return [block.register_forward_pre_hook(enter), block.register_forward_hook(leave)]


def _kept_bytes(
    module: nn.Module,
    shape: tuple[int, ...],
    device: torch.device,
    autocast: Autocast,
    loss: Loss,
) -> int:
    """Bytes that a forward pass on blank images keeps, weights not counted."""
    kept = _Kept(module.parameters())
    modules = module.named_modules()
    # A choice with others in its candidates is computed again in those others alone.
    blocks = {
        name: m
        for name, m in modules
        if isinstance(m, GatedCell) or (isinstance(m, Choice) and not m.nests)
    }
    checkpointing = any(block.checkpointing for block in blocks.values())
    training = module.training
    images = torch.zeros(shape, device=device)
    with ExitStack() as stack:
        drawing = [device] if device.type == "cuda" else []
        stack.enter_context(torch.random.fork_rng(devices=drawing))
        stack.callback(module.train, training)
        stack.enter_context(freeze_statistics(module))
        for name, block in blocks.items():
            for handle in kept.watch(name, block):
                stack.callback(handle.remove)
            stack.callback(setattr, block, "checkpointing", block.checkpointing)
            block.checkpointing = False  # it would hide what it keeps
        module.train()
        with saved_tensors_hooks(kept.keep, lambda tensor: tensor), autocast():
            outputs = module(to_device(images, device))
            for output in outputs:
                if output is not None:
                    loss(output)
    outside = kept.bytes.pop("", 0)
    inside = kept.bytes.values()
    # With checkpointing the backward pass makes the inside of one block at a time.
    return outside + (max(inside) if checkpointing else sum(inside))


def free_bytes(device: torch.device) -> int:
    """Memory that a program may still take on a device.

    Raises:
        ConfigError: If that is not known.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free
    meminfo = Path("/proc/meminfo")
    if device.type == "cpu" and meminfo.exists():
        fields = dict(line.split(":") for line in meminfo.read_text().splitlines())
        return int(min(1024 * int(fields["MemAvailable"].split()[0]), _free_of_container()))
    raise ConfigError(
        f"the free memory of {device} is not known here: give `batch_size` a number"
    )


def _free_of_container() -> float:
    """What Linux lets this container have besides (cgroup 2); infinite without a limit."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        return max(0, int(limit) - int(used))
    except (OSError, ValueError):  # there is none, or no number: "max"
        return math.inf


def take_peak_bytes(device: torch.device) -> int | None:
    """What tensors took at most since the last call; None where the device does not tell."""
    if device.type != "cuda":
        return None
    peak = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return peak


def memory_text(amount_bytes: float) -> str:
    """Write an amount of memory for people: ``38 MiB``, ``11.2 GiB``."""
    if amount_bytes < 2**30:
        return f"{amount_bytes / 2**20:.0f} MiB"
    return f"{amount_bytes / 2**30:.1f} GiB"
