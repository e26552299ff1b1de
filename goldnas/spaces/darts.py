"""The space of DARTS (arXiv:1806.09055): two cells, which all positions of a network share."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from goldnas.errors import ConfigError
from goldnas.operators import RegisteredPart as Part
from goldnas.operators import check_candidate
from goldnas.spaces.cell_gate import CellGate
from goldnas.spaces.gold import GoldSpace
from goldnas.spaces.registry import register_cells
from goldnas.spaces.space import CellLayout
from goldnas.spaces.variants import DARTS_OPERATORS

KINDS = ("normal", "reduce")
"""Kinds of cells, as in genotypes: cells that keep the size of the image, and reductions."""

NONE = "none"
"""The candidate that puts out nothing."""

EDGES = 2
"""Edges that enter each node in the end, with one operator each."""

_EDGE = re.compile(r"(normal|reduce)\.(0|[1-9]\d{0,5})-(0|[1-9]\d{0,5})", re.ASCII)


@dataclass(frozen=True, slots=True)
class SharedGate(CellGate):
    """One candidate on one edge of all cells of a kind; ``cell`` and ``site`` are of the first.

    The gate of ``none`` has no module and costs nothing: it only takes a share of the softmax.
    """

    kind: str
    blocks: tuple[str, ...]
    """The cells, within the network."""
    parts: tuple[Part, ...]
    """The operator, at its site in each of them."""

    @property
    def place(self) -> str:
        """Name of the edge in an architecture: ``normal.0-2``."""
        return format_shared_edge(self.kind, self.source, self.node)


def format_shared_edge(kind: str, source: int, node: int) -> str:
    """Name an edge as in architectures: ``normal.0-2``."""
    return f"{kind}.{source}-{node}"


def parse_shared_edge(name: str) -> tuple[str, int, int]:
    """Kind of cell, source and node of an edge.

    Raises:
        ConfigError: If the name is of something else.
    """
    match = _EDGE.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"{name!r} is not an edge of a cell; edges look like normal.0-2 or reduce.1-3"
        )
    return match[1], int(match[2]), int(match[3])


@register_cells
@dataclass(frozen=True, kw_only=True)
class DartsSpace(GoldSpace):
    """The space of DARTS: a normal and a reduction cell, which all positions share.

    A final network has two edges into each node, with one operator each, never ``none``.
    """

    cells: int = 8

    channels: int = 16

    operators: tuple[str, ...] = (NONE, *DARTS_OPERATORS)

    name = "darts"

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(self.operators) == {NONE}:
            raise ConfigError("`operators` is only none; add one that may stay on an edge")

    def _check_operator(self, name: str) -> None:
        if name != NONE:
            check_candidate(name)

    @property
    def cell_layout(self) -> CellLayout:
        """Its cells, each with edges between its nodes."""
        return replace(super().cell_layout, edges_per_node=EDGES, shared=True)

    @property
    def search_settings(self) -> dict[str, Any]:
        """Cells, channels and candidates; and that few operators stay."""
        return super().search_settings | {"single": True}

    # -- gates -------------------------------------------------------------------------------

    @cached_property
    def gates(self) -> tuple[SharedGate, ...]:
        """Every gate, ordered by kind of cell, node, source and operator."""
        return tuple(
            self._gate(kind, source, node, operator)
            for kind in KINDS
            if self._cells_of(kind)
            for node in range(2, 2 + self.nodes)
            for source in range(node)
            for operator in self.operators
        )

    def _gate(self, kind: str, source: int, node: int, operator: str) -> SharedGate:
        cells = self._cells_of(kind)
        sites = [self._geometry.cells[cell].edge(source) for cell in cells]
        there = operator != NONE
        return SharedGate(
            *(cells[0], source, node, operator, sites[0], kind),
            blocks=tuple(f"cells.{cell}" for cell in cells if there),
            parts=tuple((operator, site) for site in sites if there),
        )

    def _cells_of(self, kind: str) -> tuple[int, ...]:
        reduces = kind == "reduce"
        return tuple(c for c in range(self.cells) if self.is_reduction(c) == reduces)

    @cached_property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Sets of gates that each keep at least one: for a node, all but those of one edge.

        So each node keeps two edges. The first node only has edges from the two inputs, so both
        inputs are read. ``none`` is in no set.
        """
        groups: dict[tuple[int, int, int], list[int]] = {}
        for index, gate in enumerate(self.gates):
            if gate.operator != NONE:
                for source in range(gate.node):
                    if source != gate.source:
                        key = (gate.cell, gate.node, source)
                        groups.setdefault(key, []).append(index)
        return tuple(map(tuple, groups.values()))

    def log10_size(self) -> float:
        """Logarithm of the number of networks: two edges of each node, an operator on each."""
        operators = len(set(self.operators) - {NONE})
        kinds = sum(1 for kind in KINDS if self._cells_of(kind))
        return kinds * sum(
            math.log10(math.comb(node, EDGES) * operators**EDGES)
            for node in range(2, 2 + self.nodes)
        )

    def _find_edge(self, place: str) -> tuple[Sequence[int], int, int]:
        kind, source, node = parse_shared_edge(place)
        if not (2 <= node < 2 + self.nodes and source < node):
            raise ConfigError(
                f"{place!r} is not an edge of a cell of {self.nodes} nodes, numbered from 2"
            )
        return self._cells_of(kind), source, node
