"""The operators of a search's networks, and the time or energy of each operator."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from goldnas.architecture import Architecture, find_origin
from goldnas.errors import ConfigError, TableError
from goldnas.lut import LatencyTable
from goldnas.resources import predict_by
from goldnas.searching.config import SearchConfig
from goldnas.spaces import Gate, SearchSpace, import_space, make_space
from goldnas.spaces.space import CellLayout

_EDGE = re.compile(r"(cell\d+|normal|reduce)\.\d+-\d+")
_NUMBERS = re.compile(r"(\d+)")


@dataclass(frozen=True)
class Operator:
    """One candidate at one place."""

    place: str
    """``cell0.0-2``, ``normal.0-2``: an edge of a cell; or the path of a choice."""
    kind: str
    """Its name there."""
    site: str = ""
    """Channels and image that it maps; empty where the space is not at hand."""

    @property
    def name(self) -> str:
        """Name in logs."""
        return f"{self.place}.{self.kind}"

    @property
    def part(self) -> str:
        """The part of the network that it is counted to: its cell, or its choice."""
        match = _EDGE.fullmatch(self.place)
        return match[1] if match else self.place


@dataclass(frozen=True)
class TableCosts:
    """The costs of the space by one latency table, in microseconds or microjoules."""

    table: str
    kind: str
    """``latency`` or ``energy``."""
    operators: tuple[float, ...]
    """Cost of each operator of the space."""
    fixed: tuple[tuple[str, int, float], ...]
    """Parts of every network: name, count and cost in all."""
    calibrated: bool
    """Whether the costs were fitted to whole networks of this space."""


@dataclass(frozen=True)
class SpaceLayout:
    """The space of a search, as far as it can be made here."""

    operators: tuple[Operator, ...]
    groups: tuple[tuple[int, ...], ...]
    """Groups of operators, by number, that each keep one or more; empty if not known."""
    cells: CellLayout | None
    """None if the networks are not of cells."""
    costs: tuple[TableCosts, ...]
    problems: tuple[str, ...]
    """Why something is missing, one line each."""

    @classmethod
    def find(
        cls,
        config: SearchConfig,
        tables: Iterable[LatencyTable],
        networks: Iterable[Architecture],
        pruned: Iterable[str],
        *,
        untrusted: str = "",
    ) -> "SpaceLayout":
        """Take a search apart.

        Args:
            config: Settings of the search.
            tables: Latency tables of the search.
            networks: Recorded networks of the search.
            pruned: Names of removed operators, in case the space cannot be made here.
            untrusted: Why its code may not run; empty if it may.
        """
        networks = list(networks)
        if not networks:
            return cls((), (), None, (), ("no network is recorded yet",))
        try:
            if untrusted:
                raise ConfigError(untrusted)
            space = _space(config, networks[0])
        except ConfigError as error:
            return cls(_listed(networks, pruned), (), None, (), (str(error),))
        operators = tuple(
            Operator(g.place, g.name.removeprefix(f"{g.place}."), _site_of(g))
            for g in space.gates
        )
        costs, problems = [], []
        if space.combinations and tables:
            problems.append(
                "No times or energies of single operators are shown: here they depend on the "
                "widths next to an operator."
            )
        for table in () if space.combinations else tables:
            try:
                costs.append(_costs(table, space))
            except TableError as error:
                problems.append(str(error))
        return cls(operators, space.groups, space.cell_layout, tuple(costs), tuple(problems))

    def mark_kept(self, architecture: Architecture) -> str:
        """A mark for each operator of the space: 1 where a network has it, else 0."""
        has = {(place, kind) for place, kinds in architecture.choices.items() for kind in kinds}
        return "".join("01"[(o.place, o.kind) in has] for o in self.operators)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of operators, in the order of the space."""
        return tuple(dict.fromkeys(operator.kind for operator in self.operators))

    @property
    def parts(self) -> tuple[str, ...]:
        """Cells or choices, in the order of the network."""
        return tuple(dict.fromkeys(operator.part for operator in self.operators))


def _site_of(gate: Gate) -> str:
    """The first place that an operator is at; empty of one that puts out nothing."""
    return next((str(site) for _, site in gate.parts), "")


def _space(config: SearchConfig, architecture: Architecture) -> SearchSpace:
    import_space(find_origin(config.space, config.settings))
    # A network of cells does not say which candidates it was chosen from.
    candidates: Mapping[str, object] = (
        {} if config.operators is None else {"operators": config.operators}
    )
    return make_space(architecture.space, **{**architecture.settings, **candidates})


def _listed(networks: Iterable[Architecture], pruned: Iterable[str]) -> tuple[Operator, ...]:
    """The operators that files name, places in the order of their numbers."""
    found = {
        Operator(place, kind)
        for network in networks
        for place, kinds in network.choices.items()
        for kind in kinds
    }
    found |= {Operator(*name.rpartition(".")[::2]) for name in pruned}

    def order(operator: Operator) -> list[tuple[bool, int, str, str]]:
        pieces = _NUMBERS.split(operator.name)
        # By value, which of a long number Python does not read.
        digits = [p.lstrip("0") if p.isdecimal() else "" for p in pieces]
        return [(p.isdecimal(), len(d), d, p) for p, d in zip(pieces, digits, strict=True)]

    return tuple(sorted(found, key=order))


def _costs(table: LatencyTable, space: SearchSpace) -> TableCosts:
    predicted = predict_by(table, space)
    fixed: dict[str, list[float]] = {}
    for operator, site in space.fixed_parts:
        fixed.setdefault(operator, []).append(predicted.cost(operator, site))
    if predicted.overhead:
        fixed["constant cost of every network"] = [predicted.overhead]
    return TableCosts(
        table=table.name,
        kind=table.kind,
        operators=tuple(
            sum(predicted.cost(*part) for part in gate.parts) for gate in space.gates
        ),
        fixed=tuple((name, len(found), sum(found)) for name, found in fixed.items()),
        calibrated=predicted.calibration is not None,
    )
