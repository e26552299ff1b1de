"""Rows that are equal where measurements never are: copies."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

from goldnas.lut.lint.findings import Finding
from goldnas.lut.schema import Failed, Interpolated, Measured, ModelTiming, Row
from goldnas.lut.table import LatencyTable

# Two measurements may share a value: clocks tick, and values are rounded. Without the times
# that they were worked out from, more than this many rows, and this share, are no coincidence,
# and neither is a value with this many digits.
_COINCIDENCES, _COINCIDENT_SHARE = 2, 0.05
_ROUND_DIGITS, _TELLING_DIGITS = 5, 7

_Signature = tuple[float, float, float, tuple[ModelTiming, ...]]


def find_copies(rows: Sequence[Row]) -> Iterator[Finding]:
    """Rows that are those of another operator or site of the same table."""
    measured: dict[_Signature, str] = {}
    interpolated = defaultdict(list)
    for row in rows:
        key = row.key
        if isinstance(row, Measured) and row.timings:
            first = measured.setdefault(_signature(row), key)
            if first != key:
                yield Finding("copied", key, f"every number is that of {first}")
        elif isinstance(row, Interpolated) and _digits(row.latency_us) >= _TELLING_DIGITS:
            interpolated[row.latency_us].append(key)
    for latency_us, keys in interpolated.items():
        if len(keys) > 1:
            others = ", ".join(keys[1:4])
            yield Finding("repeated", keys[0], f"{latency_us:.6g} us is also that of {others}")


def find_copies_from(other: LatencyTable, rows: Sequence[Row]) -> Iterator[Finding]:
    """Rows that another device's table has, to the last digit."""
    theirs = {row.key: _signature(row) for row in other.rows if not isinstance(row, Failed)}
    alike = [
        row
        for row in rows
        if not isinstance(row, Failed)
        and theirs.get(row.key) == _signature(row)
        and (_signature(row)[3] or _digits(row.latency_us) >= _ROUND_DIGITS)
    ]
    certain = any(_signature(row)[3] for row in alike)
    if certain or len(alike) > max(_COINCIDENCES, _COINCIDENT_SHARE * len(rows)):
        for row in alike:
            found = f"{row.latency_us:g} us, and all else, is what {other.path} has"
            yield Finding("copied-from", row.key, found)


def _signature(row: Measured | Interpolated) -> _Signature:
    if isinstance(row, Interpolated):
        return row.latency_us, 0.0, 0.0, ()
    return row.latency_us, row.interval_us, row.isolated_us, row.timings


def _digits(latency_us: float) -> int:
    return len(f"{latency_us:.12g}".partition("e")[0].replace(".", "").strip("0"))
