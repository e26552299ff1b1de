"""What a search space is to the rest of goldnas."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from torch import nn

from goldnas.architecture import Architecture
from goldnas.operators import Part
from goldnas.site import Site


@dataclass(frozen=True, slots=True)
class Gate:
    """One candidate operator on one edge."""

    cell: int
    source: int
    """State the edge comes from: 0 and 1 are the cell's inputs, 2 on are its nodes."""
    node: int
    """Node the edge enters."""
    operator: str
    site: Site

    @property
    def place(self) -> str:
        """Name of the edge in an architecture: ``cell0.0-2``."""
        return f"cell{self.cell}.{self.source}-{self.node}"

    @property
    def name(self) -> str:
        """Name in logs: ``cell0.0-2.skip_connect``."""
        return f"{self.place}.{self.operator}"

    @property
    def key(self) -> str:
        """Name of its module within the cell."""
        return f"{self.source}_{self.node}_{self.operator}"


class SearchSpace(Protocol):
    """A set of networks that differ in which gates stay open."""

    @property
    def name(self) -> str:
        """Name on the command line and in files."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)`` of the images."""

    @property
    def gates(self) -> tuple[Gate, ...]:
        """Every gate, in a fixed order."""

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Sets of gates, by index, of which a search keeps at least one each."""

    @property
    def fixed_parts(self) -> tuple[Part, ...]:
        """Parts that every network of a search has, repeats included."""

    def rows(self) -> tuple[Part, ...]:
        """The distinct parts: what a latency table must hold."""

    def log10_size(self) -> float:
        """Logarithm of the number of networks."""

    def architecture(self, kept: Iterable[Gate]) -> Architecture:
        """The architecture that keeps these gates' operators."""

    def build(self, architecture: Architecture, *, gated: bool = False) -> nn.Module:
        """Build an architecture with fresh weights."""
