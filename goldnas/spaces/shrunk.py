"""The space of shrunk networks: one network with fewer channels, and without some branches.

A convolution's cost depends on two decisions: its input channels and its output channels. So
channels come in blocks of ``step``, and the work of a convolution for one block of inputs and
one block of outputs is a part. A network of ``m`` and ``n`` blocks there has this part ``m n``
times. Its FLOPs and parameters are sums over its parts, as for every other network. So is its
latency, which is fitted to measured whole networks.

Weights that do not fit into the caches of a processor are read from memory for every image. So
the weights beyond some sizes are parts, too. The fit finds the size that matters on the device.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from math import log10, prod
from typing import Any, ClassVar

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from goldnas.architecture import SHRUNK, Architecture
from goldnas.channels import Role, cut, find_branches, find_coupling, remove_branches
from goldnas.errors import ConfigError, list_some
from goldnas.operators import Part
from goldnas.site import AnySite, Shapes
from goldnas.spaces.limits import check_whole
from goldnas.spaces.shrunk_parts import (
    CALLS,
    OUTPUTS,
    WEIGHTS,
    make_called,
    make_holder,
    make_like,
    make_nothing,
    make_offset,
    with_size,
    work_of,
)
from goldnas.spaces.space import AuxiliaryPlace, Combination, Gate, SearchSpace

REMOVED = "identity"
"""The candidate in place of a removed branch, in an architecture."""

MOST_STEP = 4096

KNOT = 4096
"""Weights that are one part, of those beyond a size."""

_SMALLEST_KNOT, _LARGEST_KNOT, _KNOT_RATIO = 2**16, 2**27, 2**0.25
"""Sizes are from 256 KiB to half a GiB, in float32."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Size:
    """The size of a shrunk network."""

    widths: tuple[int, ...]
    """Channels of each group."""
    branches: tuple[bool, ...]
    """For each branch that can be removed, whether it is kept."""


@dataclass(frozen=True)
class Factor:
    """A factor of a number of parts: the blocks of a group of channels."""

    group: int
    """Its index."""
    rest: bool
    """Whether it is the block that is left over, of fewer channels than the others."""

    def count(self, width: int, step: int) -> int:
        """How many such blocks there are of some channels."""
        return int(width % step > 0) if self.rest else width // step


@dataclass(frozen=True)
class Term:
    """A part, and how often a network has it."""

    part: Part
    factors: tuple[Factor, ...] = ()
    branch: int | None = None
    """Index of the branch that it is in."""
    work: tuple[tuple[str, float], ...] = ()
    """What the part does that takes time, by kind: ``conv 3x3``, ``outputs``, ``weights``."""

    @property
    def weights(self) -> float:
        """Numbers of its matrix."""
        return dict(self.work).get(WEIGHTS, 0.0)

    def count(self, size: Size, step: int) -> int:
        """How often a network of some size has the part."""
        if self.branch is not None and not size.branches[self.branch]:
            return 0
        return prod(f.count(size.widths[f.group], step) for f in self.factors)


@dataclass(frozen=True)
class ShrunkPlan:
    """The parts of one network."""

    counts: tuple[tuple[Part, int], ...]

    def parts(self) -> Iterator[Part]:
        """Every part, repeats included."""
        for part, count in self.counts:
            yield from repeat(part, count)


class ShrunkSpace:
    """The space of all smaller forms of one network.

    Args:
        network: The whole network.
        space: Space of the network.
        step: Number of channels to remove at a time.
        gated: Whether its operators are scaled by gates, as the weights of a search need.

    Raises:
        ConfigError: If the network's forward cannot be followed, or nothing can be removed.
    """

    name = SHRUNK
    operators: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    groups: tuple[tuple[int, ...], ...] = ()
    wiring = None
    cell_layout = None
    combinations: tuple[Combination, ...] = ()
    search_settings: ClassVar[dict[str, Any]] = {}

    def __init__(
        self, network: Architecture, space: SearchSpace, step: int, *, gated: bool = False
    ) -> None:
        self.network = network
        self._gated = gated
        self.step = step
        self._space = space
        self.input_shape = space.input_shape
        self.classes = space.classes
        self.output_shape = space.output_shape
        self.settings: dict[str, Any] = {
            "network": msgspec.json.decode(network.to_json()),
            "step": step,
            "gated": gated,
            "input_shape": list(space.input_shape),
            "classes": space.classes,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # its parts are measured: the same in every process
            module = self.build_whole()
        self.coupling = find_coupling(module, self.input_shape)
        self.branches = find_branches(module, self.input_shape)
        """By path of the block that an identity may take the place of, the layers that decide
        whether it adds something."""
        self.whole = Size(
            tuple(group.size for group in self.coupling.groups), (True,) * len(self.branches)
        )
        self.free = tuple(i for i, n in enumerate(self.whole.widths) if n > step)
        """Indices of the groups of which something may go."""
        if not self.free and not self.branches:
            told = "all of its channels pass through layers that goldnas does not cut"
            if step > 1:
                told = f"no group of its channels is larger than `step={step}`"
            raise ConfigError(
                f"this network cannot be shrunk: {told}, and no block adds to its input. "
                + ("Give a smaller `step`" if step > 1 else "docs/shrink.md says what may go")
            )
        self.branch_of = tuple(self._find_branch_of(g) for g in range(len(self.whole.widths)))
        """For each group, its branch; None for a group that layers outside read, too."""
        self._makers: dict[str, Callable[[AnySite], nn.Module]] = {}
        self.terms = tuple(self._find_terms(module))
        self.knots = tuple(self._find_knots())
        """Numbers of weights; of those beyond each, ``KNOT`` are a part."""

    # -- what there is -----------------------------------------------------------------------

    def build_whole(self) -> nn.Module:
        """The whole network, with fresh weights."""
        return self._space.build(self.network, gated=self._gated)

    def widths(self, group: int) -> tuple[int, ...]:
        """The numbers of channels that a group may have, the fewest first."""
        size = self.whole.widths[group]
        if group not in self.free:
            return (size,)
        return (*range(self.step, size, self.step), size)

    def normalise(self, size: Size) -> Size:
        """An equal size without channels of groups inside removed branches."""
        widths = (
            self.whole.widths[g] if branch is not None and not size.branches[branch] else width
            for g, (width, branch) in enumerate(zip(size.widths, self.branch_of, strict=True))
        )
        return Size(tuple(widths), size.branches)

    def _find_branch_of(self, group: int) -> int | None:
        paths = (
            path
            for path, roles in self.coupling.layers.items()
            if any((channels.group == group).any() for channels in roles.values())
        )
        branches = {self._branch_of(path) for path in paths}
        return branches.pop() if len(branches) == 1 else None

    def log10_size(self) -> float:
        """Logarithm of the number of networks."""
        widths = sum(log10(len(self.widths(group))) for group in self.free)
        return widths + len(self.branches) * log10(2)

    @property
    def smallest(self) -> Size:
        """The smallest network."""
        widths = (self.widths(group)[0] for group in range(len(self.whole.widths)))
        return self.normalise(Size(tuple(widths), (False,) * len(self.branches)))

    def draw(self, count: int, *, seed: int) -> list[Size]:
        """Networks of all sizes, each different, from nearly the smallest to nearly the whole.

        Args:
            count: Number of networks, or fewer in a small space.
            seed: Seed of the draw.
        """
        random = np.random.default_rng(seed)
        found: dict[Size, None] = {}
        for _ in range(20 * count):
            if len(found) == count:
                break
            share = (len(found) + random.random()) / count
            widths = list(self.whole.widths)
            for group in self.free:
                choices = self.widths(group)
                # Each group about the share of the network, none in step with another.
                own = np.clip(share + random.normal(scale=0.25), 0, 1)
                widths[group] = choices[round(own * (len(choices) - 1))]
            gone = 0.5 * (1 - share)
            branches = tuple(bool(random.random() >= gone) for _ in self.branches)
            found.setdefault(self.normalise(Size(tuple(widths), branches)))
        return list(found)

    # -- parts -------------------------------------------------------------------------------

    def _find_terms(self, module: nn.Module) -> Iterator[Term]:
        """The parts of all networks."""
        for index, path in enumerate(self.branches):
            work = {CALLS: 1.0}
            yield self._term(f"{path}:call", Shapes((1,), (1,)), (), index, make_nothing, work)
        shapes = self.coupling.shapes
        for path, roles in self.coupling.layers.items():
            layer, (before, after, axis) = module.get_submodule(path), shapes[path]
            branch = self._branch_of(path)
            if "both" in roles:
                for size, factors in self._blocks(path, "both"):
                    site = Shapes(with_size(before, axis, size), with_size(after, axis, size))
                    work = work_of(layer, site)
                    yield self._term(path, site, factors, branch, make_like(layer, axis), work)
                continue
            for out_size, of_output in self._blocks(path, "out"):
                put_out = with_size(after, axis, out_size)
                for in_size, of_input in self._blocks(path, "in"):
                    site = Shapes(with_size(before, axis, in_size), put_out)
                    factors = (*of_input, *of_output)
                    work = work_of(layer, site)
                    yield self._term(path, site, factors, branch, make_like(layer, axis), work)
                offset, has_bias = Shapes(put_out, put_out), layer.bias is not None
                work = {OUTPUTS: float(prod(put_out))}
                yield self._term(
                    *(
                        f"{path}:out",
                        offset,
                        of_output,
                        branch,
                        make_offset(has_bias, axis),
                        work,
                    )
                )
        for path, call in self.coupling.others.items():
            first, *others = call.inputs or ((1,),)
            site = Shapes(first, call.output, tuple(others))
            make = make_called(call.function or module.get_submodule(path), path, call)
            yield self._term(path, site, (), self._branch_of(path), make)
        counted = {*self.coupling.layers, *self.coupling.others}
        for path, part in module.named_modules():
            inner = any(path.startswith(f"{other}.") for other in self.coupling.others)
            own = sum(p.numel() for p in part.parameters(recurse=False))
            if own and path not in counted and not inner:
                name = f"{path}:own".lstrip(":")
                yield self._term(
                    *(name, Shapes((1,), (1,)), (), self._branch_of(path)), make_holder(own)
                )

    def _term(
        self,
        operator: str,
        site: Shapes,
        factors: tuple[Factor, ...],
        branch: int | None,
        make: Callable[[AnySite], nn.Module],
        work: Mapping[str, float] | None = None,
    ) -> Term:
        self._makers[operator] = make
        return Term((operator, site), factors, branch, tuple((work or {}).items()))

    def _find_knots(self) -> Iterator[int]:
        """Sizes that lie between the smallest network and the whole."""
        least, most = (self.count_weights(size) for size in (self.smallest, self.whole))
        knot = float(_SMALLEST_KNOT)
        while knot < min(most, _LARGEST_KNOT):
            if knot > least:
                self._makers[_name_knot(round(knot))] = make_nothing
                yield round(knot)
            knot *= _KNOT_RATIO

    def count_weights(self, size: Size) -> float:
        """Numbers of the matrices of a network."""
        return sum(t.weights * t.count(size, self.step) for t in self.terms if t.weights)

    def _branch_of(self, path: str) -> int | None:
        inside = (i for i, b in enumerate(self.branches) if path.startswith(f"{b}."))
        return next(inside, None)

    def _blocks(self, path: str, role: Role) -> list[tuple[int, tuple[Factor, ...]]]:
        """Channels of a layer as blocks: sizes, and what their numbers grow with."""
        of_group = self.coupling.layers[path][role].group
        blocks: list[tuple[int, tuple[Factor, ...]]] = []
        stay = 0
        for group in np.unique(of_group):
            channels = int((of_group == group).sum())
            if group not in self.free:
                stay += channels
                continue
            size = self.whole.widths[group]
            each = channels // size  # where images are flattened, a channel is many numbers
            blocks.append((self.step * each, (Factor(int(group), rest=False),)))
            if rest := size % self.step:
                blocks.append((rest * each, (Factor(int(group), rest=True),)))
        return [(stay, ()), *blocks] if stay else blocks

    @cached_property
    def fixed_parts(self) -> tuple[Part, ...]:
        """The parts that every network has once."""
        return tuple(t.part for t in self.terms if not t.factors and t.branch is None)

    def rows(self) -> tuple[Part, ...]:
        """The distinct parts."""
        beyond = ((_name_knot(knot), _OF_KNOT) for knot in self.knots)
        return tuple(dict.fromkeys([*(term.part for term in self.terms), *beyond]))

    def build_part(self, operator: str, site: AnySite) -> nn.Module:
        """Build one of the parts with fresh weights.

        Raises:
            ConfigError: If the network has no such part.
        """
        if operator not in self._makers:
            raise ConfigError(f"this network has no {operator} at {site}")
        return self._makers[operator](site)

    # -- architectures -----------------------------------------------------------------------

    def describe(self, size: Size) -> Architecture:
        """The architecture of a network of some size."""
        size, choices = self.normalise(size), dict[str, tuple[str, ...]]()
        for group, width in zip(self.coupling.groups, size.widths, strict=True):
            if width != group.size:
                choices[group.name] = (str(width),)
        for path, there in zip(self.branches, size.branches, strict=True):
            if not there:
                choices[path] = (REMOVED,)
        return Architecture(space=SHRUNK, settings=self.settings, choices=choices)

    def size_of(self, architecture: Architecture) -> Size:
        """The size of a network.

        Raises:
            ConfigError: If the architecture is not of this space.
        """
        if architecture.space != SHRUNK or architecture.settings != self.settings:
            raise ConfigError("this network is not a smaller form of that network")
        left = dict(architecture.choices)
        widths = list(self.whole.widths)
        for index, group in enumerate(self.coupling.groups):
            if group.name in left:
                (said, *more) = left.pop(group.name) or ("",)
                choices = [str(width) for width in self.widths(index)]
                if more or said not in choices:
                    raise ConfigError(
                        f"{group.name} cannot have {said or 'no'} channels: it may have "
                        f"{list_some(choices, 6)}"
                    )
                widths[index] = int(said)
        gone = {path for path in self.branches if left.get(path) == (REMOVED,)}
        branches = [path not in gone for path in self.branches]
        if left := {path: value for path, value in left.items() if path not in gone}:
            name, value = next(iter(left.items()))
            raise ConfigError(
                f"{name} of {list(value)} is not a choice of this network; it has the groups "
                f"of channels {list_some([g.name for g in self.coupling.groups], 4)} and the "
                f"branches {list_some(list(self.branches), 4) or 'none'}"
            )
        return self.normalise(Size(tuple(widths), tuple(branches)))

    def architecture(self, kept: Iterable[Gate]) -> Architecture:
        """The whole network: there are no gates to keep."""
        return self.describe(self.whole)

    def plan(self, architecture: Architecture) -> ShrunkPlan:
        """The parts of a network.

        Raises:
            ConfigError: If it is not of this space.
        """
        return ShrunkPlan(tuple(self.count(self.size_of(architecture)).items()))

    def count(self, size: Size) -> dict[Part, int]:
        """How often a network of some size has each part that it has."""
        counts: Counter[Part] = Counter()
        for term in self.terms:  # several groups that one layer reads may have equal parts
            counts[term.part] += term.count(size, self.step)
        weights = self.count_weights(size)
        for knot in self.knots:
            counts[_name_knot(knot), _OF_KNOT] = max(0, int(weights - knot) // KNOT)
        return {part: count for part, count in counts.items() if count}

    def build(self, architecture: Architecture, *, gated: bool = False) -> nn.Module:
        """Build a network with fresh weights; there are no gates.

        Raises:
            ConfigError: If it is not of this space.
        """
        size = self.size_of(architecture)
        module = self.build_whole()
        self.shrink(module, size, {})
        return module

    def shrink(
        self, module: nn.Module, size: Size, kept: Mapping[str, npt.NDArray[np.int64]]
    ) -> None:
        """Make the whole network smaller, in place.

        Args:
            module: The whole network.
            size: The new size.
            kept: Channels to keep, by group; the first channels of a group without an entry.
        """
        chosen = {
            group.name: kept.get(group.name, np.arange(width))
            for group, width in zip(self.coupling.groups, size.widths, strict=True)
        }
        cut(module, self.coupling, chosen)
        gone = (p for p, there in zip(self.branches, size.branches, strict=True) if not there)
        remove_branches(module, gone)

    @property
    def call(self) -> str:
        """What makes the space again."""
        return f"shrink({self.network.space!r}, step={self.step})"

    def place_auxiliary(self, cells: Iterable[int]) -> AuxiliaryPlace | None:
        """None: it has no cells."""
        return None

    def with_operators(self, operators: Iterable[str]) -> "ShrunkSpace":
        """The space itself."""
        return self


def check_step(step: Any) -> int:
    """Check the number of channels to remove at a time.

    Raises:
        ConfigError: If it is not such a number.
    """
    check_whole("step", step, most=MOST_STEP)
    return int(step)


_OF_KNOT = Shapes((KNOT,), (KNOT,))


def _name_knot(knot: int) -> str:
    return f"weights beyond {knot}"
