"""The parts of one network of cells, and the modules made of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from goldnas.errors import ConfigError
from goldnas.network import Cell, CellNetwork
from goldnas.operators import RegisteredPart as Part
from goldnas.operators import build_operator
from goldnas.spaces.geometry import Geometry
from goldnas.spaces.space import CellLayout

Edge = tuple[int, int, str]
"""Source, node and operator."""


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


def plan_network(
    geometry: Geometry, layout: CellLayout, edges: Sequence[Sequence[Edge]]
) -> NetworkPlan:
    """Find the parts of a network that reach its output, from the last cell to the stem.

    Args:
        geometry: Sites of the network's parts.
        layout: Layout of its cells.
        edges: Edges of each cell, sorted by node.

    Raises:
        ConfigError: If a node that is read has no operator.
    """
    plans: dict[str, CellPlan] = {}
    read = {len(layout.concat) - 1}
    for index in reversed(range(len(layout.concat))):
        if index not in read:
            continue
        cell, live = geometry.cells[index], set(layout.concat[index])
        for node in reversed(range(2, 2 + layout.nodes)):
            sources = {s for s, n, _ in edges[index] if n == node}
            if node in live and not sources:
                raise ConfigError(
                    f"node {node} of cell {index} has no operator; each node needs one"
                )
            live |= sources if node in live else set()
        operators: dict[str, Part] = {}
        for source, node, operator in edges[index]:
            if node in live:
                key = f"{source}_{node}_{operator}"
                while key in operators:  # an operator twice on an edge, as NASNet has
                    key += "+"
                operators[key] = (operator, cell.edge(source))
        pre0, pre1 = cell.preprocess
        plans[str(index)] = CellPlan(
            preprocess=(pre0 if 0 in live else None, pre1 if 1 in live else None),
            operators=tuple(operators.items()),
            concat=layout.concat[index],
        )
        read |= {index - 2} if 0 in live else set()
        read |= {index - 1} if 1 in live else set()
    # Of two stems the second is read as the output of a cell -1 would be.
    stems = geometry.stems if -1 in read else geometry.stems[:1]
    return NetworkPlan(stems, dict(reversed(plans.items())), geometry.classifier)


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
