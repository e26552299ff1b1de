"""Reading networks from a CSV file: a measured value and counts of operators in each row.

``latency_ms`` is the latency; or ``energy_mJ`` or ``energy_uJ`` is the energy. Columns named
``name``, ``network`` or ``id``, without a name, or without a single number are labels of the
network; every other column is an operator, and its cells say how often each network has this
operator. An empty cell is an error, because it may mean "none" or "not known".
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from goldnas.bounded import read_bounded
from goldnas.errors import DataError, count_of
from goldnas.lut.formats import VALUE_COLUMNS, find_value_column
from goldnas.lut.lines import BadLineError, read_number, split_csv

_MOST_BYTES = 16 * 2**20
LABELS = ("", "name", "network", "id")
"""Names of columns that never count an operator, in any case."""
_SHORTEST, _LONGEST = 1e-6, 1e9
"""In the unit of the file, as milliseconds: a nanosecond, eleven days. What is beyond is a
mistake, as are such counts."""


@dataclass(frozen=True)
class Networks:
    """Measured networks as counts of operators."""

    path: Path
    names: tuple[str, ...]
    """Names of the networks: their first label, or else their line."""
    labels: tuple[str, ...]
    """Columns that are no operators."""
    operators: tuple[str, ...]
    counts: NDArray[np.float64]
    """``(N, K)``."""
    amounts: NDArray[np.float64]
    """``(N,)``, in microseconds or microjoules."""
    kind: str
    """What was measured: ``latency`` or ``energy``."""

    @classmethod
    def read(cls, path: Path) -> "Networks":
        """Read a CSV file in UTF-8, separated by commas, semicolons or tabs.

        With semicolons or tabs, numbers may have decimal commas.

        Raises:
            DataError: If the file cannot be read, lacks values or operators, or a cell is
                not a valid count or value. The message names the line.
        """
        lines = _lines(path)
        if not lines:
            raise DataError(f"{path} is empty. Give latency_ms and a column per operator")
        (_, header), *rows = lines
        place, name = _check_header(path, header)
        value_column, unit = header[place], VALUE_COLUMNS[name]
        if not rows:
            raise DataError(f"{path} has a header but no networks. Add a line per network")
        for line, row in rows:
            if len(row) != len(header):
                raise DataError(
                    f"{path}, line {line}: has {count_of(len(row), 'cell')}, but the header "
                    f"has {len(header)}. Give each network a cell for every column"
                )
        columns = [[row[index] for _, row in rows] for index in range(len(header))]
        is_label = [
            name.lower() in LABELS
            or (
                index != place
                and any(cells)
                and not any(read_number(cell) is not None for cell in cells)
            )
            for index, (name, cells) in enumerate(zip(header, columns, strict=True))
        ]
        operators = [
            (name, cells)
            for name, cells, label in zip(header, columns, is_label, strict=True)
            if not label and name != value_column
        ]
        if not operators:
            raise DataError(f"{path} has no column of counts. Add one column per operator")
        numbers = [line for line, _ in rows]
        counts = [
            [
                _number(path, line, name, cell, is_count=True)
                for line, cell in zip(numbers, cells, strict=True)
            ]
            for name, cells in operators
        ]
        values = [
            _number(path, line, value_column, cell, is_count=False)
            for line, cell in zip(numbers, columns[place], strict=True)
        ]
        labels = [cells for cells, label in zip(columns, is_label, strict=True) if label]
        return cls(
            path=path,
            names=tuple(
                (labels[0][index] if labels else "") or f"line {line}"
                for index, line in enumerate(numbers)
            ),
            labels=tuple(n for n, label in zip(header, is_label, strict=True) if label),
            operators=tuple(name for name, _ in operators),
            counts=np.array(counts).T,
            amounts=unit.scale * np.array(values),
            kind=unit.kind,
        )

    def count(self, operators: tuple[str, ...]) -> NDArray[np.float64]:
        """Counts of these operators, ``(N, len(operators))``, 0 where there is no column."""
        counts = np.zeros((len(self.counts), len(operators)))
        have = {name: index for index, name in enumerate(self.operators)}
        for index, name in enumerate(operators):
            if name in have:
                counts[:, index] = self.counts[:, have[name]]
        return counts

    def used(self, operators: tuple[str, ...]) -> NDArray[np.bool_]:
        """``(len(operators),)``: which of them any network has."""
        columns = zip(self.operators, self.counts.T, strict=True)
        used = {name for name, counts in columns if counts.any()}
        return np.array([name in used for name in operators])


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """The lines that are not blank, with their numbers, as cells."""
    try:
        text = read_bounded(path, _MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}. Give the path of a CSV file of networks"
        ) from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8 text. Save the file as CSV in UTF-8"
        ) from None
    try:
        return split_csv(text)
    except BadLineError as error:
        raise DataError(
            f"{path}, line {error.line}: {error.problem}. Correct the file"
        ) from None


def _check_header(path: Path, header: list[str]) -> tuple[int, str]:
    """The column with the values: its number, and its name as ``VALUE_COLUMNS`` has it."""
    try:
        found = find_value_column(header)
    except BadLineError as error:
        raise DataError(f"{path}, line 1: {error.problem}") from None
    if found is None:
        listed = ", ".join(header[:5]) + (", ..." if len(header) > 5 else "")
        raise DataError(
            f"{path} has no column latency_ms, only {listed}. Add the latencies as a column of "
            "this name, in milliseconds; or energies, as energy_mJ or energy_uJ"
        )
    for name, times in Counter(header).items():
        if name and times > 1:
            raise DataError(
                f"{path}: {times} columns are named {name!r}. Give each column its own name"
            )
    return found


def _number(path: Path, line: int, name: str, cell: str, *, is_count: bool) -> float:
    """A count, or a value in the unit of its column."""
    value = read_number(cell)
    value = math.nan if value is None else value
    if _SHORTEST <= value <= _LONGEST or (is_count and value == 0):  # false of NaN
        return value
    kind = "a count is 0 or more" if is_count else "it must be a positive number"
    if value > 0:
        kind += f", from {_SHORTEST:g} to {_LONGEST:g}"
    shown = repr(cell) if cell else "empty"
    empty = "; write 0 if the network has none" if not cell and is_count else ""
    raise DataError(
        f"{path}, line {line}: {name} is {shown}, but {kind}{empty}. Correct the line, or "
        "leave the network out"
    )
