"""What sizes of a network cost, and which size is worth the most within budgets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint
from scipy.sparse import csr_array

from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from goldnas.operators import Part
from goldnas.resource_names import read_precision
from goldnas.resources import (
    Budget,
    Flops,
    Parameters,
    Resource,
    list_predicted,
    parse_budgets,
)
from goldnas.searching.budgets import Limit
from goldnas.searching.integer_program import solve
from goldnas.spaces.shrunk import KNOT, ShrunkSpace, Size, Term
from goldnas.units import format_amount

Values = npt.NDArray[np.float64]

_MOST_CANDIDATES = 16
"""Widths of a group that one choice looks at, evenly spread."""

_GAP = 2e-3
"""Relative to the best there is: how good the choice is at least."""


@dataclass(frozen=True)
class Importance:
    """What parts of a network are worth: by how much the loss would rise without them."""

    channels: tuple[Values, ...]
    """Of each group, ``(removed + 1,)``: without so many of the channels that are left, those
    that are worth the least."""
    branches: tuple[float, ...]


class WidthBudgets:
    """What each size costs, and the limits.

    Args:
        space: What is left of a network.
        resources: That are counted, by the costs of its parts.
        budgets: Limits of some of them.
    """

    def __init__(
        self, space: ShrunkSpace, resources: Sequence[Resource], budgets: Sequence[Budget]
    ) -> None:
        self.space = space
        self.budgets = tuple(budgets)
        self.names = tuple(resource.name for resource in resources)
        parts = space.rows()
        self._prices = {
            resource.name: {part: resource.cost(*part) for part in parts}
            for resource in resources
        }
        self._overheads = {resource.name: resource.overhead for resource in resources}

    def total(self, size: Size) -> dict[str, float]:
        """What a network of some size needs, by resource."""
        counts = self.space.count(size)
        return {
            name: self._overheads[name] + fsum(prices[p] * c for p, c in counts.items())
            for name, prices in self._prices.items()
        }

    def within(self, size: Size, limits: Mapping[str, float]) -> bool:
        """Whether a network keeps limits."""
        total = self.total(size)
        return all(total[name] <= limit for name, limit in limits.items())

    def list_limits(self, size: Size | None = None) -> list[Limit]:
        """What a user sees before training starts: the least, what is left, the whole.

        Args:
            size: Of what is left; the whole unless given.
        """
        whole, least = self.total(self.space.whole), self.total(self.space.smallest)
        current = whole if size is None else self.total(size)
        budgets = {budget.resource: budget for budget in self.budgets}
        return [
            Limit(name, least[name], current[name], whole[name], budgets.get(name))
            for name in self.names
        ]

    def check_feasible(self) -> None:
        """Refuse budgets that the smallest network exceeds.

        Raises:
            ConfigError: Saying by how much.
        """
        if missed := self.missed():
            raise ConfigError(f"{missed}. Raise the budget, or give a smaller `step`")

    def missed(self) -> str:
        """Which budget the smallest network exceeds, and by how much; empty if none."""
        least = self.total(self.space.smallest)
        for budget in self.budgets:
            if least[budget.resource] > budget.limit:
                needs = format_amount(budget.resource, least[budget.resource])
                more = format_amount(budget.resource, least[budget.resource] - budget.limit)
                return (
                    f"budget {budget.text} cannot be met: the smallest size of this network "
                    f"needs {needs}, {more} more"
                )
        return ""

    def choose(
        self,
        importance: Importance,
        current: Size,
        limits: Mapping[str, float],
        least: Size | None = None,
    ) -> Size | None:
        """The size within limits that loses the least importance, found exactly.

        A linear integer program. Each group has one of its widths, each branch is there or not.
        A variable for each pair of widths stands for the joint cost of two groups.

        Args:
            importance: Of what is left.
            current: Of the network that is left: nothing becomes larger.
            limits: By resource.
            least: Nothing becomes smaller than here; the smallest unless given.

        Returns:
            None if the program finds no such size among the widths it looks at.
        """
        program = _Program(self.space, importance, current, least or self.space.smallest)
        for name, limit in limits.items():
            program.limit(self._prices[name], limit - self._overheads[name])
        for margin in (0.0, 1e-5, 1e-3):  # the solver may overstep a limit by its tolerance
            size = program.solve(margin)
            if size is None or self.within(size, limits):
                return size
        return None


def build_widths(
    space: ShrunkSpace, budgets: Sequence[str], tables: Sequence[LatencyTable] = ()
) -> WidthBudgets:
    """The costs of all sizes in every resource, and the budgets.

    Args:
        space: What is left of a network.
        budgets: As they are typed: ``600MFLOPs``, ``3Mparams``, ``5ms@pi5``, ``6mJ``.
        tables: Latency tables, whose names the budgets may name.

    Raises:
        ConfigError: If a budget is malformed, or names no table.
        TableError: If a table was not measured for the network.
    """
    parsed = parse_budgets(budgets, tables)
    for budget in parsed:
        if read_precision(budget.resource) is not None:
            raise ConfigError(
                f"budget {budget.text} is of an exported file, whose parts are not counted for "
                "every width: give params, of 4 bytes each in fp32, and check the bytes with "
                "`export(budgets=...)`"
            )
    resources: list[Resource] = [
        Flops(space.build_part),
        Parameters(space.build_part),
        *list_predicted(tables, space, parsed),
    ]
    return WidthBudgets(space, resources, parsed)


@dataclass
class _Cell:
    """Terms that depend on the same decisions, and the variables of their pairs of widths."""

    groups: tuple[int, ...]
    """None, one or two that have a choice."""
    branch: int | None
    terms: list[Term] = field(default_factory=list)
    start: int = 0
    """Of its variables, one for each pair of widths."""


class _Program:
    """A linear integer program over the widths of groups and the branches that are left."""

    def __init__(
        self, space: ShrunkSpace, importance: Importance, current: Size, least: Size
    ) -> None:
        self._space = space
        self._current = space.normalise(current)
        self._least = least
        self._widths = [self._candidates(g) for g in range(len(space.whole.widths))]
        self._losses: list[float] = []
        self._integral: list[bool] = []
        self._rows: list[tuple[dict[int, float], float, float]] = []
        self._limits: list[tuple[dict[int, float], float]] = []
        self._of_group = [self._add_widths(g, importance) for g in range(len(self._widths))]
        self._of_branch = [
            self._variable(-importance.branches[b], integral=True) if there else None
            for b, there in enumerate(current.branches)
        ]
        for number, stays in zip(self._of_branch, least.branches, strict=True):
            if number is not None and stays:
                self._rows.append(({number: 1.0}, 1.0, 1.0))
        self._cells = self._make_cells()

    def _candidates(self, group: int) -> tuple[int, ...]:
        """Widths of a group that are looked at, the current one last."""
        width = self._current.widths[group]
        branch = self._space.branch_of[group]
        if branch is not None and not self._current.branches[branch]:
            return (width,)
        least = self._least.widths[group]
        if branch is not None and not self._least.branches[branch]:
            least = 0  # as long as the branch is there, that is its own
        choices = [w for w in self._space.widths(group) if least <= w <= width]
        if len(choices) <= _MOST_CANDIDATES:
            return tuple(choices)
        places = np.linspace(0, len(choices) - 1, _MOST_CANDIDATES).round().astype(int)
        return tuple(choices[place] for place in places)

    def _variable(self, loss: float, *, integral: bool = False) -> int:
        self._losses.append(loss)
        self._integral.append(integral)
        return len(self._losses) - 1

    def _add_widths(self, group: int, importance: Importance) -> dict[int, int]:
        """A variable for each width of a group, of which one is 1; none without a choice."""
        widths = self._widths[group]
        if len(widths) == 1:
            return {}
        lost = importance.channels[group]
        found = {w: self._variable(float(lost[widths[-1] - w]), integral=True) for w in widths}
        self._rows.append((dict.fromkeys(found.values(), 1.0), 1.0, 1.0))
        return found

    def _make_cells(self) -> list[_Cell]:
        """Bring together what depends on the same decisions, with its variables."""
        cells: dict[tuple[tuple[int, ...], int | None], _Cell] = {}
        for term in self._space.terms:
            branch = term.branch
            if branch is not None and not self._current.branches[branch]:
                continue
            free = sorted({f.group for f in term.factors if self._of_group[f.group]})
            key = tuple(free), branch
            cells.setdefault(key, _Cell(*key)).terms.append(term)
        for cell in cells.values():
            self._link(cell)
        return list(cells.values())

    def _link(self, cell: _Cell) -> None:
        """Tie the variables of a cell to its decisions."""
        there = None if cell.branch is None else self._of_branch[cell.branch]
        if not cell.groups or (len(cell.groups) == 1 and there is None):
            return  # the decisions themselves will do
        axes = [self._widths[group] for group in cell.groups]
        count = int(np.prod([len(axis) for axis in axes]))
        cell.start = len(self._losses)
        for _ in range(count):
            self._variable(0.0)
        numbers = np.arange(cell.start, cell.start + count).reshape([len(a) for a in axes])
        whole = dict.fromkeys(map(int, numbers.ravel()), 1.0)
        if there is not None:
            self._rows.append(({**whole, there: -1.0}, 0.0, 0.0))
        for axis, group in enumerate(cell.groups):
            for place, width in enumerate(axes[axis]):
                chosen = self._of_group[group][width]
                of_width = map(int, numbers.take(place, axis).ravel())
                row = {**dict.fromkeys(of_width, 1.0), chosen: -1.0}
                self._rows.append((row, 0.0 if there is None else -np.inf, 0.0))

    def _add_up(self, price: Mapping[Term, float]) -> tuple[dict[int, float], float]:
        """A sum over terms as coefficients of the variables, and what is fixed of it."""
        row: dict[int, float] = {}
        fixed = 0.0
        step = self._space.step
        for cell in self._cells:
            there = None if cell.branch is None else self._of_branch[cell.branch]
            priced = [(term, price[term]) for term in cell.terms if price[term]]
            if not priced:
                continue
            axes = [self._widths[group] for group in cell.groups]
            total = np.zeros([len(axis) for axis in axes])
            for term, of_term in priced:
                product = np.asarray(of_term)
                for factor in term.factors:
                    if factor.group not in cell.groups:
                        width = self._widths[factor.group][0]
                        product = product * factor.count(width, step)
                        continue
                    axis = cell.groups.index(factor.group)
                    counts = np.array([factor.count(w, step) for w in axes[axis]], float)
                    shape = [1] * len(axes)
                    shape[axis] = len(counts)
                    product = product * counts.reshape(shape)
                total = total + product
            if not cell.groups:
                if there is None:
                    fixed += float(total)
                else:
                    row[there] = row.get(there, 0.0) + float(total)
            elif len(cell.groups) == 1 and there is None:
                for width, amount in zip(axes[0], total, strict=True):
                    chosen = self._of_group[cell.groups[0]][width]
                    row[chosen] = row.get(chosen, 0.0) + float(amount)
            else:
                for number, amount in enumerate(total.ravel(), cell.start):
                    row[number] = row.get(number, 0.0) + float(amount)
        return row, fixed

    def limit(self, prices: Mapping[Part, float], limit: float) -> None:
        """Add a limit to the cost of the network.

        Args:
            prices: Of each part.
            limit: Without what every network costs.
        """
        row, fixed = self._add_up({t: prices[t.part] for t in self._space.terms})
        for part, price in prices.items():
            if price and part[0].startswith("weights beyond "):
                knot = int(part[0].rpartition(" ")[2])
                beyond = self._variable(0.0)
                weights, always = self._add_up({t: t.weights for t in self._space.terms})
                # In units of all weights, so that numbers of the program are of one size.
                unit = max(weights.values(), default=1.0)
                over = {number: value / unit for number, value in weights.items()}
                self._rows.append(({**over, beyond: -1.0}, -np.inf, (knot - always) / unit))
                row[beyond] = price * unit / KNOT
        self._limits.append((row, limit - fixed))

    def solve(self, margin: float) -> Size | None:
        """The best size, with limits that much lower; None if there is none."""
        rows = list(self._rows)
        for row, limit in self._limits:
            scale = max(abs(limit), 1e-300)
            scaled = {number: value / scale for number, value in row.items()}
            rows.append((scaled, -np.inf, limit / scale - margin))
        entries = [(i, j, v) for i, (row, _, _) in enumerate(rows) for j, v in row.items()]
        if not entries:
            return self._current
        at, of, values = zip(*entries, strict=True)
        matrix = csr_array((values, (at, of)), shape=(len(rows), len(self._losses)))
        losses = np.array(self._losses)
        integral = np.array(self._integral)
        solution = solve(
            losses / max(np.abs(losses).max(), 1e-300),
            integrality=integral.astype(float),
            bounds=Bounds(0, np.where(integral, 1.0, np.inf)),
            constraints=LinearConstraint(
                matrix, [lower for _, lower, _ in rows], [upper for _, _, upper in rows]
            ),
            options={"mip_rel_gap": _GAP, "node_limit": 2000},
        )
        return None if solution.x is None else self._read(solution.x)

    def _read(self, values: Values) -> Size:
        widths = [
            max(chosen, key=lambda width: values[chosen[width]])
            if chosen
            else self._widths[g][0]
            for g, chosen in enumerate(self._of_group)
        ]
        branches = [n is not None and bool(values[n] > 0.5) for n in self._of_branch]
        return self._space.normalise(Size(tuple(widths), tuple(branches)))
