"""The parts of one network of cells, and the modules that are made of them."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from goldnas.network import Cell, CellNetwork
from goldnas.operators import Part, build_operator


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
