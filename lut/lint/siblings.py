"""Rows compared with other rows of their operator and their site."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from goldnas.lut.lint.findings import Finding
from goldnas.lut.lint.work import count_elements, count_macs, count_pointwise, find_work
from goldnas.lut.schema import Measured, Valued
from goldnas.site import Site, parse_site
from goldnas.units import name_base_unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_FEWEST_ROWS = 12
"""For a model of three numbers and its outliers."""

_FEWEST_LIKE = 3
"""Rows of an operator, or of a site, that say what is usual for it."""

_WRONG_UNIT = math.log(60)
"""Rows of one table agree with the model within a factor of ten; units are off by 1,000."""

_UNLIKE, _SIGMAS = math.log(1.4), 8.0
"""A row is unlike its siblings if it is off by both: single sizes do suit a machine better."""


def check_siblings(rows: Sequence[Valued]) -> Iterator[Finding]:
    """Rows that are far from a model of all rows.

    The model of a latency, or an energy, is an overhead, a cost per multiply-add and a cost
    per element moved, times a factor for each operator and one for each site. The factors are
    medians, so one wrong row changes nothing. If an operator's multiply-adds are unknown, two
    models bound them: in one they grow with the elements, in the other like those of a
    pointwise convolution. A row is an outlier if both models say so. Rows with known shapes
    but unknown work are left out.
    """
    rows = [row for row in rows if row.site and isinstance(parse_site(row.site), Site)]
    known = [row for row in rows if find_work(row.operator) is not None]
    other = [row for row in rows if find_work(row.operator) is None]
    yield from _check_group(known, [lambda row, site: count_macs(row.operator, site) or 0])
    yield from _check_group(
        other, [lambda _, site: count_elements(site), lambda _, site: count_pointwise(site)]
    )


def _check_group(
    rows: Sequence[Valued], models: "Sequence[Callable[[Valued, Site], int]]"
) -> Iterator[Finding]:
    """Rows that every model of their multiply-adds says are off, in one direction."""
    if len(rows) < _FEWEST_ROWS:
        return
    import numpy as np

    # With a stride an operator may be another: a skip connection is a convolution then.
    operators = [f"{row.operator} /s{Site.parse(row.site).stride}" for row in rows]
    sites = [row.site for row in rows]
    by_operator, by_site = Counter(operators), Counter(sites)
    crossed = np.array(
        [
            min(by_operator[operator], by_site[site]) >= _FEWEST_LIKE
            for operator, site in zip(operators, sites, strict=True)
        ]
    )
    groups = [_members(operators), _members(sites)]
    offs, limits = [], []
    for count_work in models:
        off = _off_model(rows, count_work)
        for _ in range(10):  # Tukey's median polish
            for members in groups:
                off = _less_medians(off, members)
        offs.append(off)
        limits.append(max(_UNLIKE, _SIGMAS * _sigma(off, crossed, operators, sites)))
    known = len(models) == 1
    for row, operator, is_crossed, *factors in zip(
        rows, operators, crossed.tolist(), *(off.tolist() for off in offs), strict=True
    ):
        log_factor = min(factors, key=abs)
        usual = row.cost / math.exp(log_factor)
        interval = row.interval_us if isinstance(row, Measured) else 0.0
        agreed = min(factors) * max(factors) > 0
        if not agreed or abs(row.cost - usual) <= 3 * interval:
            continue
        unit = name_base_unit(row.kind)
        found = f"{row.cost:.4g} {unit}; similar rows suggest about {usual:.3g} us"
        if abs(log_factor) > _WRONG_UNIT and (known or by_operator[operator] >= _FEWEST_LIKE):
            yield Finding("unit", row.key, found)
        elif is_crossed and abs(log_factor) > max(limits):
            yield Finding("siblings", row.key, found)


def _sigma(
    off: "Floats", crossed: "Bools", operators: Sequence[str], sites: Sequence[str]
) -> float:
    """Standard deviation of what is left, from its median: outliers do not count."""
    import numpy as np

    if not crossed.any():
        return 0.0
    left = int(crossed.sum())
    fitted = len(set(np.array(operators)[crossed])) + len(set(np.array(sites)[crossed])) - 1
    freedom = max(left - fitted, 1)
    return 1.4826 * float(np.median(np.abs(off[crossed]))) * math.sqrt(left / freedom)


def _off_model(rows: Sequence[Valued], count_work: "Callable[[Valued, Site], int]") -> "Floats":
    """Logarithm of each row's cost relative to overhead, multiply-adds and elements."""
    import numpy as np
    from scipy.optimize import least_squares

    costs = np.array([row.cost for row in rows])
    sites = [Site.parse(row.site) for row in rows]
    work = np.array(
        [
            [1.0, count_work(row, site), count_elements(site)]
            for row, site in zip(rows, sites, strict=True)
        ]
    )
    work /= np.maximum(np.median(work, axis=0), 1.0)

    def off(log_costs: "Floats") -> "Floats":
        off: Floats = np.log(costs) - np.log(work @ np.exp(log_costs))
        return off

    start = np.full(3, np.log(np.median(costs) / 3))
    fit = least_squares(off, start, loss="cauchy", f_scale=0.3, max_nfev=200)
    return off(fit.x)


def _members(names: Sequence[str]) -> "list[NDArray[np.intp]]":
    """The places of each name that is there often enough to have a usual value."""
    import numpy as np

    places = defaultdict(list)
    for place, name in enumerate(names):
        places[name].append(place)
    return [np.array(found) for found in places.values() if len(found) >= _FEWEST_LIKE]


def _less_medians(off: "Floats", groups: "Sequence[NDArray[np.intp]]") -> "Floats":
    """Subtract the median of each group."""
    import numpy as np

    rest = off.copy()
    for members in groups:
        rest[members] -= np.median(off[members])
    return rest
