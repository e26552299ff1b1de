"""The networks that a search leaves, from cheap to dear."""

import math
from collections.abc import Mapping
from typing import Literal

import msgspec

from goldnas.errors import RunError
from goldnas.metric import Metric, MetricField, read_metric
from goldnas.ranges import Amounts, Count, Name, Number, Share, check_resources


class FrontNetwork(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One network that a search recorded, with the weights it had then."""

    fingerprint: Name
    accuracy: Share | None
    """Share of the held-out images classified right, never of the test set. None if nothing
    was trained, or the search has a task of your own."""
    metric: MetricField = msgspec.UNSET
    """The metric of the task on the held-out items, if the search has a task of your own."""
    score: Number | None = None
    """The score by which a strategy that samples ranked it; higher is better. The scale is that
    of ``score`` in the settings."""
    resources: Amounts
    """Exact, in FLOPs, parameters, microseconds, microjoules and bytes."""
    epoch: Count
    """Epoch in which it was recorded, counted from 0."""
    step: Count
    """Training steps before it was recorded."""
    reasons: tuple[str, ...]
    """Why it was recorded: ``plateau``, ``met 5ms``, ``end``; ``over 512kB:ram`` where only
    the exported file shows it; ``beyond`` for a network that a
    tighter budget would have left, after little training at its size; ``best of 100``,
    ``not dominated`` or ``random`` for a network that was sampled."""
    meets_budgets: bool
    dominated: bool = False
    """Whether another network is at least as good in accuracy, or the task's metric, and in
    every resource. If nothing was trained, the scores decide."""

    def __post_init__(self) -> None:
        check_resources(self.resources)
        earlier, reason = "met --single", "met single"  # as earlier runs call it, and this one
        if earlier in self.reasons:
            reasons = tuple(reason if one == earlier else one for one in self.reasons)
            msgspec.structs.force_setattr(self, "reasons", reasons)

    @property
    def figure(self) -> Metric | None:
        """Its accuracy, or the task's metric; None if nothing was trained."""
        return read_metric(self.accuracy, self.metric)

    @property
    def merit(self) -> float:
        """The figure by which networks of one run are compared; higher is better.

        It is the accuracy or the task's metric, else the score, else minus infinity.
        """
        if self.figure is not None:
            return self.figure.merit
        return -math.inf if self.score is None else self.score


class Front(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The form of ``front.json``."""

    schema_version: Literal[1] = 1
    budgets: Amounts
    """Limits, in FLOPs, parameters, microseconds, microjoules and bytes."""
    networks: tuple[FrontNetwork, ...] = ()
    """Every recorded network, the cheapest in the first budgeted resource first."""

    def __post_init__(self) -> None:
        check_resources(self.budgets)

    def with_network(self, new: FrontNetwork) -> "Front":
        """Add a network; one of the same architecture is replaced, its reasons kept."""
        others = [n for n in self.networks if n.fingerprint != new.fingerprint]
        for old in self.networks:
            if old.fingerprint == new.fingerprint:
                reasons = tuple(dict.fromkeys([*old.reasons, *new.reasons]))
                new = msgspec.structs.replace(new, reasons=reasons)
        networks = [*others, new]
        first = next(iter(self.budgets))
        networks = sorted(networks, key=lambda n: (n.resources[first], n.fingerprint))
        networks = [
            msgspec.structs.replace(n, dominated=any(_dominates(m, n) for m in networks))
            for n in networks
        ]
        return msgspec.structs.replace(self, networks=tuple(networks))

    def pick(self, which: str) -> FrontNetwork:
        """Choose a network.

        Args:
            which: ``best`` for the most accurate within all budgets, without those recorded
                beyond them. The task's metric, or the score if nothing was trained, replaces
                the accuracy. Or a number of :attr:`networks`, counted from 1. Or a fingerprint
                or the start of one.

        Raises:
            RunError: If there is no such network.
        """
        if which == "best":
            within = [n for n in self.networks if n.meets_budgets and "beyond" not in n.reasons]
            if not within:
                raise RunError(
                    "no recorded network meets the budgets yet: let the search end, or pick a "
                    f"network by number or fingerprint from {self._listed()}"
                )
            return max(within, key=lambda network: network.merit)
        if which.isascii() and which.isdecimal() and len(which) < 8:  # else a fingerprint
            if 1 <= int(which) <= len(self.networks):
                return self.networks[int(which) - 1]
        elif which:
            matching = [n for n in self.networks if n.fingerprint.startswith(which)]
            if len(matching) == 1:
                return matching[0]
        raise RunError(
            f"no network {which!r} in this run: give best, a number from 1 to "
            f"{len(self.networks)}, or a fingerprint of {self._listed()}"
        )

    def _listed(self) -> str:
        return ", ".join(network.fingerprint for network in self.networks) or "none"


def _dominates(a: FrontNetwork, b: FrontNetwork) -> bool:
    """Whether ``a`` is nowhere worse than ``b``, and somewhere better."""
    return dominates((a.merit, a.resources), (b.merit, b.resources))


def dominates(
    a: tuple[float, Mapping[str, float]], b: tuple[float, Mapping[str, float]]
) -> bool:
    """Whether a merit and resources are nowhere worse than others, and somewhere better."""
    left, right = (
        (-merit, *(resources[name] for name in sorted(resources)))
        for merit, resources in (a, b)
    )
    return all(x <= y for x, y in zip(left, right, strict=True)) and left != right
