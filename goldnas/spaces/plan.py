"""The gates of a space of cells, the parts of one network, and the modules made of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from goldnas.network import Cell, CellNetwork
from goldnas.operators import RegisteredPart as Part
from goldnas.operators import build_operator
from goldnas.site import Site


@dataclass(frozen=True, slots=True)
class CellGate:
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
    def block(self) -> str:
        """The cell, within the network."""
        return f"cells.{self.cell}"

    @property
    def key(self) -> str:
        """Name of its module within the cell."""
        return f"{self.source}_{self.node}_{self.operator}"

    @property
    def node_id(self) -> tuple[int, int]:
        """The operators that enter one node are summed."""
        return self.cell, self.node

    @property
    def edge_id(self) -> tuple[int, int, int]:
        """Those of one edge compete in DARTS."""
        return self.cell, self.node, self.source


@dataclass(frozen=True, slots=True)
class CellPlan:
    """The parts of one cell of one network."""

    preprocess: tuple[Part | None, Part | None]
    operators: tuple[tuple[str, Part], ...]
    """By key: ``0_2_skip_connect`` goes from state 0 to node 2."""
    concat: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """The parts of one network; cells whose output nobody reads are left out."""

    stems: tuple[Part, ...]
    """One, or two where the first cell reads two resolutions."""
    cells: dict[str, CellPlan]
    classifier: Part

    def parts(self) -> Iterator[Part]:
        """Every part, repeats included."""
        yield from self.stems
        for cell in self.cells.values():
            yield from (part for part in cell.preprocess if part is not None)
            yield from (part for _, part in cell.operators)
        yield self.classifier


def build_plan(plan: NetworkPlan, *, gated: bool = False) -> CellNetwork:
    """Build the modules of a plan."""

    def optional(part: Part | None) -> nn.Module | None:
        return None if part is None else build_operator(*part)

    stem, *second = (build_operator(*part) for part in plan.stems)
    return CellNetwork(
        stem,
        {
            key: Cell(
                optional(cell.preprocess[0]),
                optional(cell.preprocess[1]),
                {name: build_operator(*part) for name, part in cell.operators},
                cell.concat,
                gated,
            )
            for key, cell in plan.cells.items()
        },
        build_operator(*plan.classifier),
        *second,
    )
