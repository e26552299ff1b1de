"""A place in a network where a search chooses. A module with such a place is a space."""

import keyword
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from goldnas.errors import ConfigError, read_message
from goldnas.recompute import recompute

Builder = Callable[[], nn.Module]

_NAME = re.compile(r"[a-z0-9_]+", re.ASCII)


class Zero(nn.Module):
    """A candidate whose output is zeros, of the same shape as the output of the others.

    It costs nothing, and has no row in a latency table. If a choice keeps only this candidate,
    modules that only that choice reads are left out of the network. Zero learns nothing from
    the loss. If a choice may be empty, prefer ``Choice(..., optional=True)``.

    Example:
        >>> import torch
        >>> goldnas.Zero()(torch.ones(1, 2))
        tensor([[0., 0.]])
    """

    def __init__(self, output_shape: Sequence[int] | None = None) -> None:
        """Make the candidate.

        Args:
            output_shape: Shape without the batch; by default that of the first input. A search
                space sets it to that of the other candidates.
        """
        super().__init__()
        self.output_shape = None if output_shape is None else tuple(output_shape)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map any tensors of a batch to zeros ``(B, *output_shape)``."""
        x = inputs[0]
        shape = self.output_shape or tuple(x.shape[1:])
        if self.training and shape == tuple(x.shape[1:]):
            return 0 * x  # what comes before has a gradient, of zeros, as other weights have
        return x.new_zeros(x.shape[0], *shape)


class Choice(nn.Module):
    """Several candidates for one place. The output is the sum of the remaining candidates.

    In a search, and in a network with the weights of a search, each candidate is scaled by its
    gate. A network that is trained from fresh weights has no gates.

    Args:
        candidates: Functions that build the candidates, by name. All candidates read the same
            tensor, or the several tensors that the choice is called with, and return tensors of
            one shape. A name has lower-case letters, digits and ``_``, and is no keyword of
            Python. It stands in latency tables and architectures, so never reuse it for
            something else.
        shared: Choices with the same name here are one decision. They have the same candidates,
            and keep the same ones. The shapes at each place may differ. Use it for a cell that
            is repeated.
        optional: Whether the choice may keep no candidate. Then its output is zeros, and it
            computes nothing.

    A candidate may have choices of its own, which matter only if the candidate is kept. None of
    them may be shared, and a shared choice may not contain choices.

    Raises:
        ConfigError: If there is no candidate, a name occurs twice or is not valid, ``optional``
            is neither true nor false, or a builder fails. Also if a shared choice is within
            another choice, or has one within.

    Example:
        >>> from torch import nn
        >>> choice = goldnas.Choice(
        ...     {
        ...         "small": lambda: nn.Conv2d(8, 8, 1),
        ...         "large": lambda: nn.Conv2d(8, 8, 3, padding=1),
        ...     }
        ... )
        >>> list(choice.operators)
        ['small', 'large']
    """

    def __init__(
        self,
        candidates: Mapping[str, Builder] | Iterable[tuple[str, Builder]],
        *,
        shared: str | None = None,
        optional: bool = False,
    ) -> None:
        super().__init__()
        if shared is not None and not (isinstance(shared, str) and _NAME.fullmatch(shared)):
            raise ConfigError(
                f"{shared!r} is not a name for a shared choice: use lower-case letters, digits "
                "and _"
            )
        if not isinstance(optional, bool):
            raise ConfigError(f"`optional` of a Choice must be True or False, got {optional!r}")
        self.shared = shared
        self.optional = optional
        pairs = candidates.items() if isinstance(candidates, Mapping) else candidates
        self.operators = nn.ModuleDict()
        for name, builder in pairs:
            self._check_name(name)
            self.operators[name] = _built(name, builder)
        if not self.operators:
            raise ConfigError("a Choice has no candidates; give one or more, each with a name")
        self.nests = any(map(has_choice, self.operators.values()))
        """Whether a candidate has choices of its own."""
        if shared is not None and self.nests:
            raise ConfigError(
                f"a choice shared as {shared!r} has a candidate with a Choice within; leave "
                "`shared` out, or take the Choice out of the candidate"
            )
        self.gates: Tensor | None
        self.register_buffer("gates", None)
        self.live_gates: Sequence[Tensor] | None = None
        """Those that a search learns, while it computes; they come before ``gates``."""
        self.output_shape: tuple[int, ...] | None = None
        """Without the batch; a search space says it, for networks that keep nothing here."""
        self.copying = False
        """Whether a candidate that is alone has its output copied; a search space says it,
        for networks that change in place what the choice puts out or what it was given."""
        self.checkpointing = False
        """Whether the backward pass computes the candidates again instead of keeping what is
        inside them; where they have choices of their own, those are computed again."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the sum of the candidates' outputs."""
        gates = self.gates if self.live_gates is None else self.live_gates
        operators = tuple(self.operators.values())
        if not operators:
            assert self.output_shape is not None  # it was built by a search space
            return inputs[0].new_zeros(inputs[0].shape[0], *self.output_shape)
        if self.checkpointing and self.training and not self.nests:
            return recompute(_sum, self, operators, gates, *inputs, random=True)
        output = _sum(operators, gates, *inputs)
        # One that only passes its input on would have it changed for others that read it.
        alone = gates is None and len(operators) == 1
        return output.clone() if self.copying and alone else output

    def _check_name(self, name: object) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ConfigError(
                f"{name!r} is not a name for a candidate: use lower-case letters, digits and _"
            )
        if name in self.operators:
            raise ConfigError(
                f"a Choice has two candidates named {name!r}; give one of them another name"
            )
        if keyword.iskeyword(name):
            raise ConfigError(
                f"a candidate cannot be named {name!r}, which is a keyword of Python: no "
                "network with this name can be exported; choose another name"
            )
        if hasattr(nn.ModuleDict, name):
            raise ConfigError(
                f"a candidate cannot be named {name!r}, which is a method of torch modules; "
                "choose another name"
            )


class Width(Choice):
    """A number of channels for a search to choose: the first channels of a tensor stay.

    A search multiplies the other channels by zero. In a network that is built, the layers
    around are as narrow as was chosen: those that write the tensor, and those that read it.
    What is inside of a candidate, or of another part, keeps its channels.

    In a search each further block of channels has a gate, which is relative to that of the
    first block: ``w24`` of ``Width([16, 24])`` has the channels from 17 to 24.

    Args:
        widths: The numbers of channels to choose from, at least two, the smallest first. The
            last is the number that the tensor has.
        shared: Widths with the same name here are one decision. Tensors that are added need
            it: give it to the Width after every layer that adds to the stream.

    Raises:
        ConfigError: If the widths are not different whole numbers from 1, in order.

    Example:
        >>> import torch
        >>> width = goldnas.Width([16, 24, 32], shared="stage")
        >>> list(width.operators)
        ['w16', 'w24', 'w32']
        >>> width(torch.ones(1, 32, 8, 8)).shape
        torch.Size([1, 32, 8, 8])
    """

    def __init__(self, widths: Sequence[int], *, shared: str | None = None) -> None:
        listed = isinstance(widths, list | tuple)
        if not listed or not all(type(n) is int and n > 0 for n in widths):
            raise ConfigError(f"a Width takes a list of whole numbers from 1, got {widths!r}")
        if len(widths) < 2 or list(widths) != sorted(set(widths)):
            raise ConfigError(
                f"a Width takes two or more different numbers of channels, the smallest first, "
                f"got {widths!r}"
            )
        super().__init__({f"w{channels}": nn.Identity for channels in widths}, shared=shared)
        self.widths = tuple(widths)
        """The numbers of channels to choose from; of its operators, only the names count."""

    def forward(self, *inputs: Tensor) -> Tensor:
        """Map ``(B, C, ...)`` to the same shape: each block of channels times its gate."""
        (x,) = inputs
        gates = self.gates if self.live_gates is None else self.live_gates
        if gates is None:
            return x.clone() if self.copying else x
        ends = {f"w{stop}": stop - start for start, stop in pairwise((0, *self.widths))}
        sizes = [ends[key] for key in self.operators]
        # The first channels always stay: their gate is the unit of the others.
        first = gates[0].detach()
        scales = [first.new_ones(sizes[0])]
        scales += [(g / first).expand(n) for g, n in zip(gates[1:], sizes[1:], strict=True)]
        if rest := x.shape[1] - sum(sizes):
            scales.append(first.new_zeros(rest))
        return x * torch.cat(scales).to(x.dtype).view(-1, *[1] * (x.dim() - 2))


def _sum(
    operators: Sequence[nn.Module], gates: Tensor | Sequence[Tensor] | None, *inputs: Tensor
) -> Tensor:
    """The outputs of operators, each times its gate, added up; a Zero only if it is alone."""
    total: Tensor | None = None
    for index, operator in enumerate(operators):
        if isinstance(operator, Zero):
            continue
        output = operator(*inputs)
        if gates is not None:
            output = gates[index] * output
        total = output if total is None else total + output
    if total is None:
        nothing: Tensor = operators[0](*inputs)
        return nothing
    return total


def _built(name: str, builder: Builder) -> nn.Module:
    if isinstance(builder, nn.Module) or not callable(builder):
        raise ConfigError(
            f"candidate {name!r} is {builder!r:.80}, but must be a function that builds a "
            "module: write lambda: in front of it"
        )
    try:
        module = builder()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"candidate {name!r} cannot be built: {type(error).__name__}: {read_message(error)}"
        ) from error
    if not isinstance(module, nn.Module):
        raise ConfigError(
            f"candidate {name!r} is built as {type(module).__name__}, but must be an nn.Module"
        )
    for inner in module.modules():
        if isinstance(inner, Choice) and inner.shared is not None:
            raise ConfigError(
                f"candidate {name!r} has a Choice within that is shared as {inner.shared!r}; "
                "a choice inside another cannot be shared: leave `shared` out"
            )
    return module


def has_choice(module: nn.Module) -> bool:
    """Whether a module is a choice or contains one."""
    return any(isinstance(inner, Choice) for inner in module.modules())
