"""Problems of rows: each by itself, against its own times, and among similar rows."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from goldnas.lut.lint.copies import find_copies
from goldnas.lut.lint.findings import Finding
from goldnas.lut.lint.rates import check_rates
from goldnas.lut.lint.siblings import check_siblings
from goldnas.lut.schema import (
    Conditions,
    Failed,
    Measured,
    MeasuringProtocol,
    ModelTiming,
    Row,
    Valued,
)
from goldnas.resource_names import LATENCY
from goldnas.site import Site, parse_site
from goldnas.units import name_base_unit

# Rows and times are rounded when they are written: that much they may be apart.
_ROUNDING, _ROUNDING_US = 0.005, 0.005

# How much longer than the protocol's, or shorter, a visit may be before the unit is wrong.
_VISIT_FACTOR = 30

# Beyond both rows' intervals, a row with less work may be slower by this, and no more: small
# operators differ in how well they fit a vector unit.
_NEIGHBOUR_SHARE, _NEIGHBOUR_US = 0.85, 0.5
_VECTOR = 16

# Every device has kernels that are slow for their size: up to 4 % of the rows of large tables
# of real ones. Of latencies that were dealt out by chance it would be half of the pairs.
_MOST_SLOW, _FEWEST_SLOW = 0.1, 3


def check_rows(
    rows: Sequence[Row], conditions: Conditions | None, fitted: Collection[str] = ()
) -> Iterator[Finding]:
    """All problems of rows that follow the schema.

    Args:
        rows: One per operator and site.
        conditions: Conditions of their measurement, if known.
        fitted: Keys of rows in calibrations. If such a row is interpolated too, its latency
            comes from a fit to whole networks, and may be close to 0.
    """
    measured = [row for row in rows if isinstance(row, Measured)]
    if all(isinstance(row, Failed) for row in rows):
        yield Finding("empty", "rows", f"none of {len(rows)} rows has a latency")
    for row in measured:
        for problem in _own_findings(row, conditions):
            yield Finding(problem[0], row.key, problem[1])
    for other in rows:
        key = other.key
        if isinstance(other, Failed):
            yield Finding("failed", key, other.error)
        elif (
            not isinstance(other, Measured)
            and other.cost == 0
            and other.operator != "skip_connect"  # which leaves a block out
        ):
            yield Finding("free", key, f"its {other.kind} is 0")
    located = [row for row in rows if not isinstance(row, Failed) and row.site and row.cost]
    guessed = {row.key for row in located if not isinstance(row, Measured)} & set(fitted)
    if conditions is not None and conditions.kind == LATENCY:
        yield from check_rates(located, conditions, guessed)
    yield from find_copies(rows)
    certain = [row for row in located if row.key not in guessed]
    yield from _neighbour_findings(certain)
    yield from check_siblings(certain)


def _own_findings(row: Measured, conditions: Conditions | None) -> Iterator[tuple[str, str]]:
    """Rule and finding: a row against its own times, and the protocol."""
    protocol = conditions.protocol if conditions else None
    if not row.timings:
        yield "no-timings", f"latency_us is {row.latency_us:g}, timings is empty"
    for timing in row.timings:
        quantiles = (timing.min_us, timing.p10_us, timing.p25_us, timing.median_us)
        if any(low > high * (1 + 1e-9) for low, high in pairwise(quantiles)):
            yield "quantiles", f"{timing.model}: min, p10, p25, median are {quantiles}"
        if protocol and (problem := _visit_problem(timing, protocol)):
            yield "unit", problem
    expected_us = _worked_out_us(row)
    if expected_us is not None and not _follows(row, expected_us):
        yield (
            "arithmetic",
            f"latency_us is {row.latency_us:g}, its times give {expected_us:.4g}",
        )
    isolated = [timing.p10_us for timing in row.timings if timing.model == "isolated"]
    if isolated and not _equal(row.isolated_us, isolated[0]):
        yield (
            "arithmetic",
            f"isolated_us is {row.isolated_us:g}, its times give {isolated[0]:g}",
        )
    target = protocol.target_percent if protocol else None
    width_percent = 100 * row.interval_us / row.latency_us
    if row.elsewhere:
        left = ", ".join(f"{count} to {other}" for other, count in row.elsewhere.items())
        yield "elsewhere", f"nodes left to other providers: {left}"
    if not row.converged:
        yield "not-converged", f"known only to +-{width_percent:.1f} %"
    elif target and width_percent > 1.1 * target and row.interval_us > _ROUNDING_US:
        yield (
            "converged",
            f"claims +-{target:g} %, but is known only to +-{width_percent:.1f} %",
        )


def _follows(row: Measured, expected_us: float) -> bool:
    """Whether a row's latency is what its times say.

    A difference that cannot be told from nothing, or comes out negative, is written as
    something small above 0.
    """
    if expected_us <= row.interval_us:
        return row.latency_us <= max(expected_us, 0.0) + row.interval_us + _ROUNDING_US
    return _equal(row.latency_us, expected_us)


def _equal(value_us: float, expected_us: float) -> bool:
    return abs(value_us - expected_us) <= _ROUNDING * expected_us + _ROUNDING_US


def _worked_out_us(row: Measured) -> float | None:
    """The row's latency as its method has it, from its times; None where they are missing."""
    times_us = {timing.model: timing.p10_us for timing in row.timings}
    if row.method == "isolated":
        return times_us.get("isolated")
    feeders = {m: us for m, us in times_us.items() if "feeder" in m}
    word = "chain" if row.method == "chain" else "branch"
    own = _slope_us({m: us for m, us in times_us.items() if word in m and m not in feeders})
    return own if own is None or not feeders else own - (_slope_us(feeders) or 0.0)


def _slope_us(times_us: dict[str, float]) -> float | None:
    """Microseconds that one more of an operator adds, by the numbers in two models' names."""
    points = sorted(
        (int(n[0]), us) for m, us in times_us.items() if (n := re.findall(r"\d+", m))
    )
    if len(points) != 2:
        return None
    (few, few_us), (many, many_us) = points
    return (many_us - few_us) / (many - few)


def _visit_problem(timing: ModelTiming, protocol: MeasuringProtocol) -> str | None:
    """A visit ends after its time, or after its least calls if they take longer."""
    calls = timing.calls / timing.visits
    took_ms = calls * timing.median_us / 1000
    visit_ms = protocol.visit_ms
    longer = took_ms > _VISIT_FACTOR * visit_ms and calls > 1.2 * protocol.min_calls
    if longer or took_ms < visit_ms / _VISIT_FACTOR:
        return (
            f"{timing.model}: {calls:.0f} calls of {timing.median_us:g} us make a visit of "
            f"{took_ms:.3g} ms, but a visit of the protocol takes {visit_ms:g} ms"
        )
    return None


def _neighbour_findings(rows: Sequence[Valued]) -> Iterator[Finding]:
    """Pairs of rows in which the row with more work in every respect is clearly faster."""
    # Of two shapes nothing says which way an operator would have more to do.
    sited = [(row, site) for row in rows if isinstance(site := parse_site(row.site), Site)]
    groups: dict[tuple[object, ...], list[tuple[tuple[int, ...], Valued]]]
    groups = defaultdict(list)
    for row, site in sited:
        size = site.height, site.width
        channels = site.in_channels, site.out_channels
        rest = site.stride, site.affine
        groups[row.operator, channels, rest, "a larger image"].append((size, row))
        groups[row.operator, size, rest, "more channels"].append((channels, row))
        if kernel := re.fullmatch(r"(.*_)(\d+)x\2(_.*)?", row.operator):
            groups[kernel[1], kernel[3], site, "a larger kernel"].append(
                ((int(kernel[2]),), row)
            )
    pairs: Counter[str] = Counter()
    slow: Counter[str] = Counter()
    for (*_, what), members in groups.items():
        respect = str(what)
        members.sort(key=lambda member: member[0])
        for (less, small), (more, large) in pairwise(members):
            if all(a <= b for a, b in zip(less, more, strict=True)) and (
                respect != "more channels" or _fits_as_well(less, more)
            ):
                pairs[respect] += 1
                for finding in _order_finding(small, large, respect):
                    slow[respect] += 1
                    yield finding
    for respect, count in slow.items():
        if count >= _FEWEST_SLOW and count > _MOST_SLOW * pairs[respect]:
            found = f"{count} of {pairs[respect]} pairs are faster with {respect}"
            yield Finding("order", "rows", found)


def _fits_as_well(channels: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether the first fill vectors as well as the others; if not they may be slower."""
    return all(
        math.gcd(a, _VECTOR) >= math.gcd(b, _VECTOR)
        for a, b in zip(channels, others, strict=True)
    )


def _order_finding(small: Valued, large: Valued, respect: object) -> Iterator[Finding]:
    least = small.cost - _noise(small)
    most = large.cost + _noise(large)
    # Energies are of any size: a device may take a microjoule for a whole network.
    slack = _NEIGHBOUR_US if small.kind == LATENCY else 0.0
    if most < _NEIGHBOUR_SHARE * least - slack:
        unit = name_base_unit(small.kind)
        found = (
            f"{large.cost:.4g} {unit} with {respect} than {small.key}, which takes "
            f"{small.cost:.4g} {unit}"
        )
        yield Finding("neighbours", large.key, found)


def _noise(row: Valued) -> float:
    return 2 * row.interval_us if isinstance(row, Measured) else 0.1 * row.cost
