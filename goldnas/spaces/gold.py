"""The GOLD-NAS cell space (arXiv:2007.03331, section 3), and DARTS networks as part of it.

Every cell has its own gates; any subset of the operators may stay on an edge, and any number
of edges may enter a node, as long as each node keeps one operator.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Literal

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.network import CellNetwork
from goldnas.operators import RegisteredPart as Part
from goldnas.operators import build_operator, check_candidate
from goldnas.spaces.cell_gate import CellGate, parse_edge
from goldnas.spaces.geometry import Geometry, work_out_geometry
from goldnas.spaces.limits import MOST_CLASSES
from goldnas.spaces.plan import Edge, NetworkPlan, build_plan, plan_network
from goldnas.spaces.registry import register_cells
from goldnas.spaces.space import AuxiliaryPlace, CellLayout, Combination, Gate

_MOST = {"cells": 1000, "nodes": 50, "classes": MOST_CLASSES}
"""A file that says more would fill the memory before anything is built."""


@register_cells
@dataclass(frozen=True, kw_only=True)
class GoldSpace:
    """The space of cell networks of one depth, width, input size and number of classes."""

    cells: int = 14
    """Two of them, at a third and at two thirds, halve the resolution and double the width."""

    channels: int = 36
    """Channels of each node in the first stage."""

    input_shape: tuple[int, int, int] = (3, 32, 32)
    """``(C, H, W)``."""

    classes: int = 10

    operators: tuple[str, ...] = ("skip_connect", "sep_conv_3x3")
    """Candidates on every edge."""

    nodes: int = 4
    """Intermediate nodes of a cell."""

    normal_concat: tuple[int, ...] | None = None
    """Nodes that a normal cell puts out; None for all."""

    reduce_concat: tuple[int, ...] | None = None
    """Nodes that a reduction cell puts out; None for all."""

    affine: bool = False
    """Learnt normalisation, and none after pooling and identity, as DARTS evaluates."""

    name = "gold"

    wiring: ClassVar[None] = None
    """A search leaves no operator that nobody reads: see :attr:`groups`."""

    stem: ClassVar[Literal["cifar", "imagenet"]] = "cifar"
    """Layers before the cells: one convolution, or three that divide both sides by 8."""

    def __post_init__(self) -> None:
        for field in ("cells", "channels", "classes", "nodes"):
            value = getattr(self, field)
            if type(value) is not int or value < 1:
                raise ConfigError(f"`{field}` must be a whole number from 1, got {value!r}")
            if value > (most := _MOST.get(field, value)):
                raise ConfigError(f"`{field}` may be at most {most}, got {value}")
        if self.channels % 2:
            raise ConfigError(
                f"`channels` must be even, got {self.channels}: "
                "each of the two convolutions of a reduction has half of them"
            )
        whole = all(type(size) is int and size > 0 for size in self.input_shape)
        if len(self.input_shape) != 3 or not whole:
            raise ConfigError(
                "`input_shape` is channels, height and width, all positive, as in "
                f"(3, 32, 32); got {self.input_shape}"
            )
        for concat in (self.normal_concat, self.reduce_concat):
            nodes = range(2, 2 + self.nodes)
            if concat is not None and not (set(concat) <= set(nodes) and len(concat)):
                raise ConfigError(
                    f"concat must list nodes from {nodes[0]} to {nodes[-1]}, got {list(concat)}"
                )
        for operator in self.operators:
            self._check_operator(operator)
        if not self.operators or len(set(self.operators)) < len(self.operators):
            raise ConfigError(
                f"`operators` must be one or more different names, got {list(self.operators)}"
            )

    def _check_operator(self, name: str) -> None:
        check_candidate(name)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """``(classes,)``."""
        return (self.classes,)

    def is_reduction(self, cell: int) -> bool:
        """Whether the cell halves the resolution."""
        return cell in (self.cells // 3, 2 * self.cells // 3)

    def concat(self, cell: int) -> tuple[int, ...]:
        """The nodes that the cell puts out."""
        chosen = self.reduce_concat if self.is_reduction(cell) else self.normal_concat
        return chosen or tuple(range(2, 2 + self.nodes))

    def channels_out(self, cell: int) -> int:
        """Channels of a cell's output."""
        reductions = sum(self.is_reduction(index) for index in range(cell + 1))
        return (self.channels << reductions) * len(self.concat(cell))

    @property
    def cell_layout(self) -> CellLayout:
        """Its cells, each with edges between its nodes."""
        return CellLayout(
            reductions=tuple(self.is_reduction(cell) for cell in range(self.cells)),
            concat=tuple(self.concat(cell) for cell in range(self.cells)),
            nodes=self.nodes,
        )

    @property
    def search_settings(self) -> dict[str, Any]:
        """Cells, channels and candidates."""
        return {"cells": self.cells, "channels": self.channels, "operators": self.operators}

    def place_auxiliary(self, cells: Iterable[int]) -> AuxiliaryPlace:
        """The last of some cells within two thirds of the depth."""
        cell = max(cell for cell in cells if cell <= 2 * self.cells // 3)
        return AuxiliaryPlace(cell, self.channels_out(cell))

    def with_operators(self, operators: Iterable[str]) -> "GoldSpace":
        """The space with these candidates on every edge."""
        return replace(self, operators=tuple(operators))

    @cached_property
    def _geometry(self) -> Geometry:
        return work_out_geometry(
            self.cell_layout,
            stem=self.stem,
            channels=self.channels,
            input_shape=self.input_shape,
            classes=self.classes,
            affine=self.affine,
        )

    # -- gates -------------------------------------------------------------------------------

    @cached_property
    def gates(self) -> tuple[CellGate, ...]:
        """Every gate, ordered by cell, node, source and operator."""
        return tuple(
            CellGate(
                cell=cell, source=source, node=node, operator=operator, site=sites.edge(source)
            )
            for cell, sites in enumerate(self._geometry.cells)
            for node in range(2, 2 + self.nodes)
            for source in range(node)
            for operator in self.operators
        )

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Sets of gates that each keep at least one: those of a node, those of an input.

        A search keeps a reader of every cell input. Otherwise the preprocessing of an input, or
        a whole cell, could feed no operator but still count and compute.
        """
        groups: dict[tuple[int, str, int], list[int]] = {}
        for index, gate in enumerate(self.gates):
            groups.setdefault((gate.cell, "node", gate.node), []).append(index)
            if gate.source < 2:
                groups.setdefault((gate.cell, "input", gate.source), []).append(index)
        return tuple(map(tuple, groups.values()))

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """None: each operator costs the same beside any others."""
        return ()

    @property
    def fixed_parts(self) -> tuple[Part, ...]:
        """Stems, preprocessing and classifier: in every network of a search."""
        geometry = self._geometry
        preprocessing = (part for cell in geometry.cells for part in cell.preprocess)
        return (*geometry.stems, *preprocessing, geometry.classifier)

    def rows(self) -> tuple[Part, ...]:
        """The distinct parts of the space: what a latency table must hold."""
        parts = (part for gate in self.gates for part in gate.parts)
        return tuple(dict.fromkeys([*self.fixed_parts, *parts]))

    @property
    def call(self) -> str:
        """The call that makes the space again."""
        return (
            f"space({self.name!r}, channels={self.channels}, cells={self.cells}, "
            f"input_shape={self.input_shape}, classes={self.classes}, "
            f"operators={self.operators})"
        )

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of the space in its architectures: everything except the candidates."""
        settings = asdict(self)
        del settings["operators"]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}

    def log10_size(self) -> float:
        """Logarithm of the number of networks: non-empty subsets of operators per node."""
        per_cell = sum(
            math.log10(2 ** (node * len(self.operators)) - 1)
            for node in range(2, 2 + self.nodes)
        )
        return self.cells * per_cell

    # -- architectures -----------------------------------------------------------------------

    def architecture(self, kept: Iterable[Gate]) -> Architecture:
        """The architecture that keeps these gates' operators."""
        choices: dict[str, tuple[str, ...]] = {}
        for gate in kept:
            for operator, _ in gate.parts[:1]:  # one that puts out nothing has no part
                choices[gate.place] = (*choices.get(gate.place, ()), operator)
        return self.architecture_from(choices)

    def architecture_from(self, choices: Mapping[str, tuple[str, ...]]) -> Architecture:
        """The architecture with these operators by edge."""
        return Architecture(space=self.name, settings=self.settings, choices=dict(choices))

    def plan(self, architecture: Architecture) -> NetworkPlan:
        """The parts of a network that reach its output.

        Raises:
            ConfigError: If the architecture is not of this space.
        """
        return plan_network(self._geometry, self.cell_layout, self._edges(architecture))

    build_part = staticmethod(build_operator)

    def build(self, architecture: Architecture, *, gated: bool = False) -> CellNetwork:
        """Build an architecture with fresh weights.

        Args:
            architecture: An architecture of this space.
            gated: Whether operators are scaled by gates kept as buffers, as the weights of
                a search need.

        Raises:
            ConfigError: If the architecture is not of this space.
        """
        return build_plan(self.plan(architecture), gated=gated)

    def _edges(self, architecture: Architecture) -> list[list[Edge]]:
        """The edges of each cell, sorted by node."""
        edges: list[list[Edge]] = [[] for _ in range(self.cells)]
        for place, operators in architecture.choices.items():
            cells, source, node = self._find_edge(place)
            for operator in sorted(operators):
                check_candidate(operator)
                for cell in cells:
                    edges[cell].append((source, node, operator))
        return [sorted(cell, key=lambda edge: (edge[1], edge[0])) for cell in edges]

    def _find_edge(self, place: str) -> tuple[Sequence[int], int, int]:
        """The cells that an edge is in, its source and its node."""
        cell, source, node = parse_edge(place) or (-1, -1, -1)
        if not (0 <= cell < self.cells and 2 <= node < 2 + self.nodes and source < node):
            raise ConfigError(
                f"{place!r} is not an edge of a network with {self.cells} cells of "
                f"{self.nodes} nodes; edges look like cell0.1-3"
            )
        return (cell,), source, node
