"""Predicted cost, measured cost and budget of a finished network."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from torch import nn

from goldnas.exporting.file_costs import read_file, resource_of_file
from goldnas.operators import Part, PartBuilder, build_operator
from goldnas.resource_names import is_latency, read_precision, read_table
from goldnas.resources import (
    Budget,
    Flops,
    Parameters,
    Predicted,
    Resource,
    count_flops,
    count_parameters,
)
from goldnas.resources.costs import sum_costs
from goldnas.spaces import SearchSpace
from goldnas.units import format_amount

_FAR_OFF = 1.5
"""Times a prediction, or less than its inverse: what tables are off by is below a tenth."""


@dataclass(frozen=True, slots=True)
class BudgetCheck:
    """One resource of one network: prediction, measurement and budget.

    Amounts are in FLOPs, parameters, microseconds, microjoules or bytes.

    Example:
        >>> from goldnas.resources import parse_budget
        >>> budget = parse_budget("60kFLOPs", [])
        >>> check = goldnas.BudgetCheck("FLOPs", predicted=59e3, measured=59e3, budget=budget)
        >>> check.verdict
        'PASS'
        >>> print(check)
        59 kFLOPs measured, 59 kFLOPs predicted (+0.0 %), budget 60 kFLOPs
    """

    resource: str
    predicted: float
    """Sum over the network's parts, and over its pipeline if there is one. Of bytes and peak
    memory, what the search counted for the network, or else what its parts tell: most of the
    bytes, and least of the memory."""
    measured: float | None
    """Amount of the network as a whole; None if this machine cannot measure it."""
    budget: Budget | None = None
    unverified: str = ""
    """The reason for a missing measurement."""
    limits: tuple[float, float] | None = None
    """Of a quantile of single calls: the true quantile is not below the first with 95 %
    confidence, and not above the second with 95 % confidence. None for other resources."""
    around: float | None = None
    """Of a latency with a pipeline: what of the prediction is the pipeline's, as measured."""

    @property
    def difference(self) -> float | None:
        """Measurement minus prediction, relative to the prediction."""
        if self.measured is None or not self.predicted:
            return None
        return self.measured / self.predicted - 1

    @property
    def verdict(self) -> str:
        """``PASS``, ``FAIL`` or ``not verified`` by measurement; empty without a budget."""
        if self.measured is None:
            return "not verified"
        if self.budget is None:
            return ""
        return "PASS" if self.measured <= self.budget.limit else "FAIL"

    def __str__(self) -> str:
        """Everything but the verdict, in one line."""
        named = read_table(self.resource) or read_precision(self.resource)
        name = f"{self.resource} " if named else ""
        measured = difference = ""
        if self.measured is not None:
            measured = f"{format_amount(self.resource, self.measured)} measured, "
        if self.limits is not None:
            low, high = (format_amount(self.resource, amount) for amount in self.limits)
            measured += f"known as {low} to {high}, "
        if self.difference is not None:
            difference = f" ({100 * self.difference:+.1f} %)"
        budget = unverified = ""
        if self.budget is not None:
            budget = f", budget {format_amount(self.resource, self.budget.limit)}"
        if self.unverified:
            unverified = f", not verified: {self.unverified}"
        predicted = f"{format_amount(self.resource, self.predicted)} predicted"
        if self.around is not None:
            predicted += f", {format_amount(self.resource, self.around)} of it for the pipeline"
        return f"{name}{measured}{predicted}{difference}{budget}{unverified}"


def check_budgets(
    network: nn.Module,
    parts: Sequence[Part],
    input_shape: tuple[int, ...],
    *,
    build: PartBuilder = build_operator,
    budgets: Sequence[Budget] = (),
    predicted: Sequence[Predicted] = (),
    measured_us: Mapping[str, float],
    limits_us: Mapping[str, tuple[float, float]] = MappingProxyType({}),
    around_us: Mapping[str, float] = MappingProxyType({}),
    unverified: Mapping[str, str],
) -> list[BudgetCheck]:
    """Compare prediction, measurement and budget, resource by resource.

    Args:
        network: The finished network; its FLOPs and parameters are counted.
        parts: Parts of the network; predictions are sums over them.
        input_shape: ``(C, H, W)``.
        build: Builds the parts.
        budgets: The budgets; a resource may have several.
        predicted: Latencies and energies by the tables of the devices.
        measured_us: Microseconds of the network on the device of each table, by the name of
            the latency.
        limits_us: For quantiles of single calls, how well they are known; see
            :class:`BudgetCheck`.
        around_us: What a pipeline takes besides the network, by the name of the latency. It is
            added to the prediction.
        unverified: For each other table, the reason for the missing measurement.

    Returns:
        Latencies and energies first, then FLOPs and parameters; one for each budget of a
        resource, or one if it has none.

    Raises:
        TableError: If a table lacks one of the parts.
    """
    costs: list[tuple[Resource, float | None, str]] = []
    for one in predicted:
        reason = unverified.get(one.table.name, "")
        costs.append((one, measured_us.get(one.name), reason))
    costs.append((Flops(build), count_flops(network, input_shape), ""))
    costs.append((Parameters(build), count_parameters(network), ""))
    checks = []
    for resource, measured, reason in costs:
        amount, limits = sum_costs(resource, parts), limits_us.get(resource.name)
        around = around_us.get(resource.name)
        amount += around or 0.0
        check = BudgetCheck(resource.name, amount, measured, None, reason, limits, around)
        asked = [budget for budget in budgets if budget.resource == resource.name]
        checks += [replace(check, budget=budget) for budget in asked] or [check]
    return checks


def check_file(
    model: bytes,
    precision: str,
    space: SearchSpace,
    parts: Sequence[Part],
    budgets: Sequence[Budget],
    described: Mapping[str, Any],
    promised: Mapping[str, float],
) -> list[BudgetCheck]:
    """Compare prediction, exported file and budget, for each budget of what a file tells.

    Args:
        model: The ONNX file.
        precision: Its number format.
        space: The space of the network.
        parts: Parts of the network.
        budgets: All budgets.
        described: What the file says of inputs and classes.
        promised: Amounts that a search counted for this network; for others, the parts tell.
    """
    counted = read_file(model, precision)
    checks = []
    for budget in budgets:
        wanted = read_precision(budget.resource)
        if wanted is None:
            continue
        predicted = promised.get(budget.resource)
        if predicted is None:
            predicted = resource_of_file(budget.resource, space, described).of_parts(parts)
        reason = ""
        if wanted != precision:
            reason = f"the budget is of a file in {wanted}: export with `precision={wanted!r}`"
        measured = counted.get(budget.resource)
        checks.append(BudgetCheck(budget.resource, predicted, measured, budget, reason))
    return checks


def describe_far_off(checks: Iterable[BudgetCheck]) -> list[str]:
    """A line for each latency whose measurement the error of a table does not explain."""
    factors = {
        check.resource: 1 + check.difference
        for check in checks
        if is_latency(check.resource) and check.difference is not None
    }
    return [
        f"{name}: measured {factor:.2g} times what was predicted, far beyond the error of a "
        "table: other programs run now, or ran when the table was made. Stop them, and export "
        "again; `goldnas lut check` says whether the table still holds"
        for name, factor in factors.items()
        if not 1 / _FAR_OFF < factor < _FAR_OFF
    ]


def is_over_budget(checks: Iterable[BudgetCheck]) -> bool:
    """Whether a budget is exceeded."""
    return any(check.verdict == "FAIL" for check in checks)


def list_summarised(checks: Sequence[BudgetCheck]) -> list[BudgetCheck]:
    """The checks that the summary is about: those with a budget, or all if none has one."""
    return [check for check in checks if check.budget is not None] or list(checks)


def summary_line(checks: Sequence[BudgetCheck]) -> str:
    """The result in one line, ``verify: PASS  0.412 ms measured, ...``.

    PASS only if every budget was verified and kept.
    """
    budgeted = list_summarised(checks)
    if not any(check.budget for check in budgeted):
        return f"verify: no budget  {'; '.join(map(str, checks))}"
    kept = all(check.verdict == "PASS" for check in budgeted)
    result = "FAIL" if is_over_budget(budgeted) else "PASS" if kept else "INCOMPLETE"
    budgeted.sort(key=lambda check: check.verdict != "FAIL")
    return f"verify: {result}  {'; '.join(map(str, budgeted))}"
