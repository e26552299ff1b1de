"""Known figures of the networks of a space, to judge searches by.

If somebody has trained all or many networks of a space, the result of a search has a true
figure, and a rank among all networks of the same cost.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from goldnas.architecture import Architecture
from goldnas.bounded import read_bounded
from goldnas.errors import ConfigError, count_of, read_message
from goldnas.lut import LatencyTable
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.feasibility import Mask
from goldnas.spaces import STRINGS, SearchSpace

BAND = 0.9
"""Share of a budget from which a network is of the same cost as one that uses it all."""

_ROUNDING = 1e-9
"""Of a share: costs are sums, which depend on their order."""

_LARGEST = 1e100
_MOST_BYTES = 64 * 2**20
_ARCHITECTURE = "architecture"
_FORM = (
    "`truth` must be a CSV file with a column architecture, columns of figures, and networks"
)

Figures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Judgement:
    """The rank of a true figure among the networks with known figures."""

    value: float
    rank: int | None
    """Rank among the networks within the budgets, from 1; None for a network over them."""
    percentile: float | None
    """Percentage of worse networks among those at 90 to 100 % of the budget; None if there are
    no such networks, or the network is over the budgets."""
    band_mean: float | None
    """Mean figure of these networks: the expected figure of a random one."""
    optimum: float | None
    """Best figure within the budgets; None if no network is within them."""

    @property
    def regret(self) -> float | None:
        """The optimum minus the figure; None for a network over the budgets."""
        if self.rank is None or self.optimum is None:
            return None
        return self.optimum - self.value


@dataclass(frozen=True)
class Truth:
    """A file of architectures and their figures; higher figures are better.

    Args:
        path: Path of the file.
        columns: Names of the figures.
        lines: For each network, the number of its line, the text of the architecture, and the
            figures.
    """

    path: Path
    columns: tuple[str, ...]
    lines: tuple[tuple[int, str, tuple[float, ...]], ...]
    _masks: dict[str, npt.NDArray[np.bool_]] = field(default_factory=dict, repr=False)
    """By the call that makes a space."""

    @classmethod
    def read(cls, path: Path, columns: Sequence[str] = ()) -> "Truth":
        """Read a CSV file: ``architecture``, and a column for each figure.

        Args:
            path: Path of the file.
            columns: Columns to read; empty for all.

        Raises:
            ConfigError: If it is not such a file.
        """
        try:
            text = read_bounded(path, _MOST_BYTES).decode("utf-8-sig")
            reader = csv.reader(io.StringIO(text, newline=""))
            rows = [(reader.line_num, row) for row in reader if any(row)]
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            reason = error.strerror if isinstance(error, OSError) else read_message(error)
            raise ConfigError(f"cannot read {path}: {reason}; {_FORM}") from None
        header = [name.strip() for name in rows[0][1]] if rows else []
        figures = [name for name in header if name != _ARCHITECTURE]
        if _ARCHITECTURE not in header or not figures or len(rows) < 2:
            raise ConfigError(
                f"{path} has the columns {', '.join(header) or 'none'}, and "
                f"{count_of(max(len(rows) - 1, 0), 'network')} below them; {_FORM}"
            )
        if "" in header or len({*header}) < len(header):
            raise ConfigError(
                f"{path} has the columns {', '.join(map(repr, header))}: give each column its "
                "own name"
            )
        for name in columns:
            if name not in figures or list(columns).count(name) > 1:
                raise ConfigError(
                    f"`column={name!r}` is given twice, or is not a column of {path}: "
                    f"choose from {', '.join(figures)}, each once"
                )
        chosen = tuple(columns or figures)
        return cls(path, chosen, tuple(_read_lines(path, header, chosen, rows[1:])))

    @cached_property
    def figures(self) -> Figures:
        """``(N, columns)``."""
        return np.array([figures for _, _, figures in self.lines])

    def masks(self, space: SearchSpace) -> npt.NDArray[np.bool_]:
        """The gates of each network, ``(N, G)``.

        Raises:
            ConfigError: If a line is not a network of the space, or two lines are the same
                network.
        """
        if space.call not in self._masks:
            self._masks[space.call] = self._read_masks(space)
        return self._masks[space.call]

    def _read_masks(self, space: SearchSpace) -> npt.NDArray[np.bool_]:
        if space.combinations:
            raise ConfigError(
                f"{self.path} has known networks of a space with widths as a choice, for which "
                "`truth` is not made: give a space without a Width"
            )
        read = STRINGS.get(space.name)
        index = {(gate.place, gate.key): i for i, gate in enumerate(space.gates)}
        masks = np.zeros((len(self.lines), len(space.gates)), dtype=bool)
        first: dict[bytes, int] = {}
        for mask, (number, text, _) in zip(masks, self.lines, strict=True):
            try:
                if read is None or text[:1] == "{":
                    choices = _read_choices(text, space.name)
                else:
                    choices = read(text)
                kept = [(place, key) for place, keys in choices.items() for key in keys]
                unknown = [pair for pair in kept if pair not in index]
                if unknown:
                    place, key = unknown[0]
                    raise ConfigError(f"which has no {key!r} at {place!r}")
                mask[[index[pair] for pair in kept]] = True
                for group in space.groups:
                    if not mask[list(group)].any():
                        node = space.gates[group[0]].node_id
                        raise ConfigError(f"which needs an operator at {node!r}")
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                raise ConfigError(
                    f"{self.path}, line {number}: {_shorten(text)} is not a network of space "
                    f"{space.name} ({read_message(error)}); give a file for the space of the "
                    "search"
                ) from None
            if first.setdefault(mask.tobytes(), number) != number:
                raise ConfigError(
                    f"{self.path}: lines {first[mask.tobytes()]} and {number} are the same, "
                    f"{_shorten(text)}; remove one of them"
                )
        return masks


class Judge:
    """Ranks networks among those with known figures.

    Args:
        truth: The figures.
        space: Space of the networks.
        budgets: Budgets as text; only networks within them count.
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
        self.truth = truth
        self.space = space
        masks = truth.masks(space)
        feasibility = build_feasibility(space, budgets, tables)
        self._rows = {mask.tobytes(): row for row, mask in enumerate(masks)}
        self.amounts: dict[str, Figures] = {
            name: costs.fixed + masks @ costs.gates for name, costs in feasibility.costs.items()
        }
        """``(N,)`` of each resource: what the known networks cost."""
        shares = [self.amounts[b.resource] / b.limit for b in feasibility.budgets]
        used = np.max(shares, axis=0) if shares else np.ones(len(masks))
        self.within: npt.NDArray[np.bool_] = used <= 1 + _ROUNDING
        self.band: npt.NDArray[np.bool_] = self.within & (used >= BAND - _ROUNDING)

    def place(self, architecture: Architecture) -> dict[str, Judgement]:
        """Judge a network by each figure; empty if it has no known figure."""
        kept = {(p, key) for p, keys in architecture.choices.items() for key in keys}
        mask: Mask = np.array([(g.place, g.key) in kept for g in self.space.gates])
        row = self._rows.get(mask.tobytes())
        if row is None:
            return {}
        return {
            name: _judge(column, row, self.within, self.band)
            for name, column in zip(self.truth.columns, self.truth.figures.T, strict=True)
        }


def _judge(column: Figures, row: int, within: Mask, band: Mask) -> Judgement:
    value = column[row]
    others = column[band]
    worse = (others < value).sum() + (others == value).sum() / 2
    return Judgement(
        value=float(value),
        rank=int((column[within] > value).sum()) + 1 if within[row] else None,
        percentile=float(100 * worse / len(others)) if len(others) and within[row] else None,
        band_mean=float(others.mean()) if len(others) else None,
        optimum=float(column[within].max()) if within.any() else None,
    )


def _read_lines(
    path: Path,
    header: Sequence[str],
    columns: Sequence[str],
    rows: Iterable[tuple[int, Sequence[str]]],
) -> Iterator[tuple[int, str, tuple[float, ...]]]:
    """The architecture and the figures of each line."""
    for number, row in rows:
        named = dict(zip(header, row, strict=False))
        try:
            figures = tuple(float(named[name]) for name in columns)
        except (KeyError, ValueError):
            figures = ()
        if len(row) != len(header) or not figures or not all(map(_is_figure, figures)):
            told = _shorten(",".join(row))
            raise ConfigError(
                f"{path}, line {number}: {told} is not an architecture with finite numbers for "
                f"{', '.join(columns)}; correct or remove the line, or choose other columns "
                "with `column`"
            )
        yield number, named[_ARCHITECTURE].strip(), figures


def _is_figure(value: float) -> bool:
    """Whether it is finite, also as a part of a sum; false of NaN."""
    return abs(value) <= _LARGEST


def _shorten(text: str) -> str:
    """The beginning of a text, in one line."""
    return " ".join(text.split())[:80]


def _read_choices(text: str, space: str) -> Mapping[str, Sequence[str]]:
    """The choices of an architecture in JSON, or of its file."""
    read = json.loads(text)
    if "choices" in read and read.get("space", space) != space:
        raise ConfigError(f"but of {read['space']}")
    return {
        place: [keys] if isinstance(keys, str) else keys
        for place, keys in read.get("choices", read).items()
    }
