"""The gates of a space of cells, and the names of their edges."""

import re
from dataclasses import dataclass

from goldnas.operators import RegisteredPart as Part
from goldnas.site import Site

# One spelling per edge: no zeros in front, or a network would have several fingerprints.
_EDGE = re.compile(r"cell(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})-(0|[1-9]\d{0,5})", re.ASCII)


def format_edge(cell: int, source: int, node: int) -> str:
    """Name an edge as in architectures: ``cell0.0-2``."""
    return f"cell{cell}.{source}-{node}"


def parse_edge(name: str) -> tuple[int, int, int] | None:
    """Cell, source and node of an edge; None if the name is of something else."""
    match = _EDGE.fullmatch(name)
    if match is None:
        return None
    cell, source, node = map(int, match.groups())
    return cell, source, node


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
        return format_edge(self.cell, self.source, self.node)

    @property
    def name(self) -> str:
        """Name in logs: ``cell0.0-2.skip_connect``."""
        return f"{self.place}.{self.operator}"

    @property
    def blocks(self) -> tuple[str, ...]:
        """The cell, within the network."""
        return (f"cells.{self.cell}",)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Its operator at its site."""
        return ((self.operator, self.site),)

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
