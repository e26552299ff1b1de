"""Which network to measure next, and which to choose."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from goldnas.lut.loop import QuantileName
from goldnas.picking.belief import believe
from goldnas.picking.options import Measurable, Option
from goldnas.zoo.file import Measured, Row

Found = Mapping[tuple[str, str], Row]
"""What was measured, by number format and key."""

SURE = 2.6
"""Standard deviations: what can only be with a chance under 0.5 % is taken not to be."""

_FIRST = 4
"""Networks of each number format that are measured before anything is believed."""

_TOGETHER = 3
"""Networks that are measured side by side."""


@dataclass(frozen=True)
class Limits:
    """The limits on a network's cost."""

    latency_us: float | None
    flops: float | None = None
    parameters: float | None = None
    quantile: QuantileName | None = None
    """Of single calls, that is limited; None for the latency of a row as it is."""

    def allow(self, option: Option) -> bool:
        """Whether a network is within the limits that need no measurement; False if unknown."""
        candidate = option.candidate
        for limit, amount in (
            (self.flops, candidate.flops),
            (self.parameters, candidate.parameters),
        ):
            if limit is not None and (amount is None or amount > limit):
                return False
        return True


def _list_fitting(
    options: Iterable[Option], found: Found, limits: Limits
) -> list[tuple[float, Option]]:
    """The measured networks within the limits, with their microseconds."""
    limit_us = np.inf if limits.latency_us is None else limits.latency_us
    return [
        (row.latency_us, option)
        for option in options
        if limits.allow(option)
        and isinstance(row := found.get(option.key), Measured)
        and row.complete
        and row.latency_us <= limit_us
    ]


def choose(options: Iterable[Option], found: Found, limits: Limits) -> Option | None:
    """The most accurate measured network within the limits; of equals, the fastest."""
    fitting = _list_fitting(options, found, limits)
    best = max(fitting, key=lambda one: (one[1].percent, -one[0]), default=None)
    return None if best is None else best[1]


def find_front(options: Iterable[Option], found: Found, limits: Limits) -> list[Option]:
    """The measured networks within the limits that no other beats in latency and accuracy.

    The fastest comes first.
    """
    front: list[Option] = []
    fitting = _list_fitting(options, found, limits)
    for _, option in sorted(fitting, key=lambda one: (one[0], -one[1].percent)):
        if not front or option.percent > front[-1].percent:
            front.append(option)
    return front


def list_needed(
    options: Sequence[Measurable], found: Found, limits: Limits, *, front: bool
) -> list[Measurable]:
    """Networks to measure next; none if the answer is safe.

    First come some networks of different sizes, to predict the others from. Then come networks
    that may be within the limits and more accurate than the best so far, the most promising
    first.

    Args:
        options: All networks.
        found: The measured networks.
        limits: Limits, with at least one on a latency.
        front: Whether to measure every network that may be on the front.
    """
    allowed = [option for option in options if limits.allow(option)]
    unmeasured = [option for option in allowed if option.key not in found]
    for precision in dict.fromkeys(option.precision for option in allowed):
        measured = sum(
            key[0] == precision and isinstance(r, Measured) for key, r in found.items()
        )
        of_format = [option for option in unmeasured if option.precision == precision]
        if measured < _FIRST and of_format:
            return _spread(of_format, _FIRST - measured)
    again = [option for option in allowed if is_open(found.get(option.key), limits)]
    worth = _judge([*unmeasured, *again], allowed, found, limits, front=front)
    ranked = sorted(worth, key=lambda one: -one[0])
    return [option for _, option in ranked[:_TOGETHER]]


def is_open(row: Row | None, limits: Limits) -> bool:
    """Whether its measuring ended, for another limit, before this one could be judged."""
    if not isinstance(row, Measured) or row.complete:
        return False
    return limits.latency_us is None or row.shortest_us <= limits.latency_us


def _spread(options: Sequence[Measurable], count: int) -> list[Measurable]:
    """Networks of different families, from the smallest to one of middling size."""
    by_work = sorted(options, key=lambda option: option.work.flops)
    chosen: list[Measurable] = []
    for share in np.linspace(0, 0.5, _FIRST)[-count:]:
        start = int(share * (len(by_work) - 1))
        families = {option.known.family for option in chosen}
        later = (o for o in by_work[start:] if o.known.family not in families)
        option = next(later, by_work[start])
        if option not in chosen:
            chosen.append(option)
    return chosen


def _judge(
    open_options: Sequence[Measurable],
    allowed: Sequence[Measurable],
    found: Found,
    limits: Limits,
    *,
    front: bool,
) -> list[tuple[float, Measurable]]:
    """The networks that may still change the answer, with their expected gain."""
    best = choose(allowed, found, limits)
    floor = best.percent if best is not None else -1.0
    on_front = find_front(allowed, found, limits) if front else []
    limit_us = limits.latency_us or np.inf
    worth: list[tuple[float, Measurable]] = []
    for precision in dict.fromkeys(option.precision for option in open_options):
        mine = [option for option in open_options if option.precision == precision]
        known = [
            (option.known, row.latency_us)
            for option in allowed
            if option.precision == precision
            and isinstance(row := found.get(option.key), Measured)
        ]
        if not known:
            continue
        networks, latencies = zip(*known, strict=True)
        belief = believe(networks, latencies, [option.known for option in mine])
        chances, shortest = belief.below(limit_us), belief.quantile_us(-SURE)
        for option, chance, shortest_us in zip(mine, chances, shortest, strict=True):
            if shortest_us > limit_us:
                continue
            if option.percent > floor:
                worth.append((1 + chance * (option.percent - floor), option))
            elif front and not any(
                other.percent >= option.percent and found[other.key].latency_us <= shortest_us  # type: ignore[union-attr]
                for other in on_front
            ):
                worth.append((chance, option))
    return worth


@dataclass(frozen=True)
class Unmeasured:
    """How many networks were not measured, by the reason why that is safe."""

    too_slow: int
    """Too slow for the limit, judged by the measured networks."""
    less_accurate: int
    """Less accurate than the choice, which is within the limits."""
    over_other_limits: int
    """Over a limit of FLOPs or parameters."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.too_slow + self.less_accurate + self.over_other_limits


def count_unmeasured(
    options: Sequence[Option], found: Found, limits: Limits, best: Option | None
) -> Unmeasured:
    """Count the unmeasured networks, once :func:`list_needed` returns none."""
    unmeasured = [option for option in options if option.key not in found]
    allowed = [option for option in unmeasured if limits.allow(option)]
    worse = [o for o in allowed if best is not None and o.percent <= best.percent]
    return Unmeasured(
        too_slow=len(allowed) - len(worse),
        less_accurate=len(worse),
        over_other_limits=len(unmeasured) - len(allowed),
    )


def list_runners_up(
    options: Sequence[Option], found: Found, limits: Limits, best: Option | None
) -> list[Option]:
    """More accurate networks within the noise of the latency limit.

    Each has a latency over the limit, but an interval that reaches below the limit.
    """
    if limits.latency_us is None:
        return []
    near = []
    for option in options:
        row = found.get(option.key)
        if (
            isinstance(row, Measured)
            and limits.allow(option)
            and row.shortest_us <= limits.latency_us < row.latency_us
            and (best is None or option.percent > best.percent)
        ):
            near.append(option)
    return sorted(near, key=lambda option: -option.percent)
