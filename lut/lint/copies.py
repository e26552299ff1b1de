"""Copied rows: they are equal, and measurements never are."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from fractions import Fraction

from goldnas.lut.lint.findings import Finding
from goldnas.lut.schema import Failed, Measured, ModelTiming, Row
from goldnas.lut.table import LatencyTable
from goldnas.units import name_base_unit

# Two measurements may share a value: clocks tick, and values are rounded. A value with fewer
# digits than the first says nothing, and two of one table with the second hint at a copy.
_ROUND_DIGITS, _TELLING_DIGITS = 5, 7

_MOST_CHANCE = 1e-4
"""So many equal values are a coincidence, if it is likelier than this."""

_ROUNDING, _PRECISION = 1e-11, 1e-14
"""Relative: what a conversion through text may change in a value; what arithmetic does."""

_MOST_CALLS = 10_000
"""Largest number of calls for which a mean is recognised as one."""

_Signature = tuple[float, float, float, tuple[ModelTiming, ...]]


def find_copies(rows: Sequence[Row]) -> Iterator[Finding]:
    """Rows that copy another operator or site of the same table."""
    measured: dict[_Signature, str] = {}
    interpolated = defaultdict(list)
    for row in rows:
        key = row.key
        if isinstance(row, Measured) and row.timings:
            first = measured.setdefault(_signature(row), key)
            if first != key:
                yield Finding("copied", key, f"every number equals that of {first}")
        elif not isinstance(row, Measured | Failed) and _digits(row.cost) >= _TELLING_DIGITS:
            interpolated[row.cost, name_base_unit(row.kind)].append(key)
    for (cost, unit), found in interpolated.items():
        # Normalisation is part of a convolution when it runs: learnt or not, it is one row.
        keys = list({key.removesuffix("/affine"): key for key in found}.values())
        if len(keys) > 1:
            others = ", ".join(keys[1:4])
            yield Finding("repeated", keys[0], f"{others} also: {cost:.6g} {unit}")


def find_copies_from(other: LatencyTable, rows: Sequence[Row]) -> Iterator[Finding]:
    """Rows that equal those of another device's table to the last digit.

    Rows with equal times are copies. Rows without times count as copies if more of them are
    equal than two devices can have by chance.
    """
    theirs = {row.key: row for row in other.rows if not isinstance(row, Failed)}
    timed, untimed, chances = [], [], 0.0
    for row in rows:
        if isinstance(row, Failed) or (their := theirs.get(row.key)) is None:
            continue
        if isinstance(row, Measured) and isinstance(their, Measured) and row.timings:
            timed += [row] if _signature(row) == _signature(their) else []
        elif (digits := _digits(row.cost)) >= _ROUND_DIGITS:
            # Of two devices that are within a percent of each other, one in so many is equal.
            chances += 10.0 ** (2 - digits)
            untimed += [row] if _equal(row.cost, their.cost) else []
    copies = timed + (untimed if timed or _is_no_coincidence(len(untimed), chances) else [])
    for row in copies:
        unit = name_base_unit(row.kind)
        found = f"{row.cost:g} {unit} is also in {other.path}, to the last digit"
        yield Finding("copied-from", row.key, found)


def _is_no_coincidence(equal: int, expected: float) -> bool:
    """Whether more values are equal than happens by chance, by the bound x^n / n!."""
    if not equal:
        return False
    return equal * math.log(expected) - math.lgamma(equal + 1) < math.log(_MOST_CHANCE)


def _equal(value: float, theirs: float) -> bool:
    return math.isclose(value, theirs, rel_tol=_ROUNDING)


def _signature(row: Measured) -> _Signature:
    return row.latency_us, row.interval_us, row.isolated_us, row.timings


def _digits(cost: float) -> int:
    """How many digits tell a value from others.

    A mean of few calls on a coarse clock has sixteen digits and is one of few values: it is a
    fraction, and those of its numerator count.
    """
    digits = len(f"{cost:.15g}".partition("e")[0].replace(".", "").strip("0"))
    ratio = Fraction(cost).limit_denominator(_MOST_CALLS)
    if digits > _TELLING_DIGITS and math.isclose(cost, ratio, rel_tol=_PRECISION):
        return min(digits, len(str(ratio.numerator)))
    return digits
