"""Rows against the multiply-adds that a machine can do: whether their unit can be right."""

import statistics
from collections.abc import Collection, Iterator, Sequence

from goldnas.lut.lint.findings import Finding
from goldnas.lut.lint.work import bound_macs, count_macs, find_work
from goldnas.lut.schema import Conditions, Valued
from goldnas.site import Site, parse_site

# Multiply-adds per microsecond. No core of a CPU does more, no accelerator does more, and no
# CPU that runs a whole system does less in the row that it does best.
_MOST_PER_CORE, _MOST_PER_ACCELERATOR, _LEAST_PER_CPU = 1e6, 1e9, 100

_CPUS = ("x86_64", "amd64", "aarch64", "arm64")
_PROVIDERS_OF_CPUS = ("CPUExecutionProvider", "XnnpackExecutionProvider")


def check_rates(
    rows: Sequence[Valued], conditions: Conditions, guessed: Collection[str]
) -> Iterator[Finding]:
    """Rows that are faster or slower than any machine.

    A rate that no machine reaches is an error. If the conditions do not say what ran the rows,
    it may have been an accelerator or a microcontroller: then a rate that no processor reaches
    is only a warning.

    Args:
        rows: Of a table of times, with a site and a latency above 0.
        conditions: Conditions of their measurement.
        guessed: Keys of guessed rows. One of them may be close to 0, but not most of them.
    """
    rates = {
        row.key: conditions.batch * macs / row.cost
        for row in rows
        if (macs := count_macs(row.operator, parse_site(row.site)))
    }
    is_cpu = _is_cpu(conditions)
    is_accelerator = conditions.device == "cuda" or conditions.gpu is not None
    if not is_accelerator:
        yield from _slow_findings(rows, conditions, rates, "unit" if is_cpu else "rate")
    most_of_cpu = conditions.threads * _MOST_PER_CORE
    most = most_of_cpu if is_cpu else _MOST_PER_ACCELERATOR
    beyond_cpu = []
    for key, rate in _judged(rates, guessed, most_of_cpu).items():
        if rate > most:
            found = f"{rate:.2g} multiply-adds per us; the possible maximum is {most:.2g}"
            yield Finding("unit", key, found)
        elif rate > most_of_cpu:
            beyond_cpu.append(key)
    if beyond_cpu and not is_accelerator:
        first = beyond_cpu[0]
        found = (
            f"{rates[first]:.2g} multiply-adds per us; {len(beyond_cpu)} of {len(rates)} rows "
            f"exceed {most_of_cpu:.2g}, the maximum of a processor"
        )
        yield Finding("rate", first, found)


def _is_cpu(conditions: Conditions) -> bool:
    """Whether it is certain that a processor ran the rows, and not what is beside it."""
    provider = conditions.backend_options.get("provider", _PROVIDERS_OF_CPUS[0])
    return (
        conditions.device == "cpu"
        and conditions.architecture.lower() in _CPUS
        and provider in _PROVIDERS_OF_CPUS
    )


def _judged(rates: dict[str, float], guessed: Collection[str], most: float) -> dict[str, float]:
    if rates and statistics.median(rates.values()) > most:
        return rates
    return {key: rate for key, rate in rates.items() if key not in guessed}


def _slow_findings(
    rows: Sequence[Valued],
    conditions: Conditions,
    rates: dict[str, float],
    rule: str,
) -> Iterator[Finding]:
    """The row that does best; where no multiply-adds are known, what sites bound them by."""
    if rates:
        best = max(rates, key=lambda key: rates[key])
        if rates[best] < _LEAST_PER_CPU:
            found = f"the fastest row does only {rates[best]:.2g} multiply-adds per us"
            yield Finding(rule, best, found)
        return
    most = [
        conditions.batch * bound_macs(site) / row.cost
        for row in rows
        if isinstance(site := parse_site(row.site), Site) and find_work(row.operator) is None
    ]
    if most and (usual := statistics.median(most)) < _LEAST_PER_CPU:
        found = (
            f"judged by their sites, half of {len(most)} rows do at most {usual:.2g} "
            "multiply-adds per us"
        )
        yield Finding(rule, "rows", found)
