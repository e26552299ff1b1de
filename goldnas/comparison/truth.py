"""Known figures of the networks of a space, as searches are judged by.

Where somebody has trained every network of a space, or many of them, what a search found has a
true figure, and a place among all networks of the same cost.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError, read_message
from goldnas.lut import LatencyTable
from goldnas.resource_names import OPERATORS
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.feasibility import Mask
from goldnas.spaces import STRINGS, SearchSpace

BAND = 0.9
"""Share of a budget from which a network is of the same cost as one that uses it all."""

Figures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """What a true figure is worth, among the networks whose figures are known."""

    value: float
    rank: int
    """Among the networks within the budgets, from 1."""
    percentile: float | None
    """Share, in percent, of the networks at 90 to 100 % of the budget that are worse; None
    where there are none."""
    band_mean: float | None
    """Of those networks: what a random one of them has."""
    optimum: float
    """Within the budgets."""

    @property
    def regret(self) -> float:
        """What the optimum has more."""
        return self.optimum - self.value


@dataclass(frozen=True)
class Truth:
    """A file of architectures and their figures, of which more is better.

    Args:
        path: Of the file.
        columns: Names of the figures.
        lines: Of each network, the architecture as it stands there, and its figures.
    """

    path: Path
    columns: tuple[str, ...]
    lines: tuple[tuple[str, tuple[float, ...]], ...]
    _masks: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict, repr=False)
    """By the call that makes a space."""

    @classmethod
    def read(cls, path: Path) -> "Truth":
        """Read a CSV file: ``architecture``, and a column for each figure.

        Raises:
            ConfigError: If it is not such a file.
        """
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                reader = csv.reader(file)
                header, *rows = [row for row in reader if row]
        except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else read_message(error)
            raise ConfigError(
                f"cannot read {path}: {reason}; `truth` is a CSV file with the columns "
                "architecture and one for each figure"
            ) from None
        if header[:1] != ["architecture"] or len(header) < 2 or not rows:
            raise ConfigError(
                f"{path} has the columns {', '.join(header)} and {len(rows)} networks; `truth` "
                "has the columns architecture and one for each figure, and a network or more"
            )
        return cls(path, tuple(header[1:]), tuple(_read_lines(path, len(header), rows)))

    def masks(self, space: SearchSpace) -> npt.NDArray[np.bool_]:
        """The gates of each network, ``(N, G)``.

        Raises:
            ConfigError: If a line is no network of the space.
        """
        if space.call in self._masks:
            return self._masks[space.call]
        read = STRINGS.get(space.name)
        index = {(gate.place, gate.key): i for i, gate in enumerate(space.gates)}
        masks = np.zeros((len(self.lines), len(space.gates)), dtype=bool)
        for number, (text, _) in enumerate(self.lines):
            try:
                choices = read(text) if read and text[:1] != "{" else _read_choices(text)
                kept = [index[place, key] for place, keys in choices.items() for key in keys]
            except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as error:
                raise ConfigError(
                    f"{self.path}: {text:.80} is no network of space {space.name} "
                    f"({read_message(error)}); give the file of the space that was searched"
                ) from None
            masks[number, kept] = True
        return self._masks.setdefault(space.call, masks)


class Judge:
    """Places networks among those whose figures are known.

    Args:
        truth: The figures.
        space: Of the networks.
        budgets: As they are typed; networks within them count.
        tables: Latency tables that budgets name.

    Raises:
        ConfigError: If the figures are of another space.
    """

    def __init__(
        self,
        truth: Truth,
        space: SearchSpace,
        budgets: Sequence[str],
        tables: Sequence[LatencyTable] = (),
    ) -> None:
        self._truth = truth
        self._space = space
        masks = truth.masks(space)
        feasibility = build_feasibility(space, budgets, tables)
        self._rows = {mask.tobytes(): row for row, mask in enumerate(masks)}
        shares = [
            (costs.fixed + masks @ costs.gates) / budget.limit
            for budget in feasibility.budgets
            if budget.resource != OPERATORS
            for costs in [feasibility.costs[budget.resource]]
        ]
        used = np.max(shares, axis=0) if shares else np.ones(len(masks))
        self.within: npt.NDArray[np.bool_] = used <= 1
        self.band: npt.NDArray[np.bool_] = self.within & (used >= BAND)

    @cached_property
    def figures(self) -> Figures:
        """``(N, columns)``."""
        return np.array([figures for _, figures in self._truth.lines])

    def place(self, architecture: Architecture) -> dict[str, Judgement]:
        """Judge a network within the budgets by each figure; empty if none is known of it."""
        kept = {(p, key) for p, keys in architecture.choices.items() for key in keys}
        mask: Mask = np.array([(g.place, g.key) in kept for g in self._space.gates])
        row = self._rows.get(mask.tobytes())
        if row is None or not self.within[row]:
            return {}
        return {
            name: _judge(column, row, self.within, self.band)
            for name, column in zip(self._truth.columns, self.figures.T, strict=True)
        }


def _judge(column: Figures, row: int, within: Mask, band: Mask) -> Judgement:
    value = column[row]
    others = column[band]
    worse = (others < value).sum() + (others == value).sum() / 2
    return Judgement(
        value=float(value),
        rank=int((column[within] > value).sum()) + 1,
        percentile=float(100 * worse / len(others)) if len(others) else None,
        band_mean=float(others.mean()) if len(others) else None,
        optimum=float(column[within].max()),
    )


def _read_lines(
    path: Path, columns: int, rows: Sequence[Sequence[str]]
) -> Iterator[tuple[str, tuple[float, ...]]]:
    for number, row in enumerate(rows, start=2):
        try:
            figures = tuple(map(float, row[1:]))
        except ValueError:
            figures = ()
        if len(row) != columns or not all(map(np.isfinite, figures)) or not figures:
            raise ConfigError(
                f"{path}, line {number}: {','.join(row):.80} is no architecture with "
                f"{columns - 1} finite numbers; mend or remove the line"
            )
        yield row[0], figures


def _read_choices(text: str) -> Mapping[str, Sequence[str]]:
    """The choices of an architecture in JSON, or of its file."""
    read = json.loads(text)
    return {
        place: [keys] if isinstance(keys, str) else keys
        for place, keys in read.get("choices", read).items()
    }
