"""The loop in which a network is called: back to back, at a rate, or beside busy neighbours."""

import re
from dataclasses import dataclass
from typing import Literal

from goldnas.errors import ConfigError

QuantileName = Literal["p50", "p90", "p99"]

QUANTILES: dict[QuantileName, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
"""Of the single calls of a network in a loop, by the names that budgets use."""

SLOWEST_HZ, FASTEST_HZ = 0.1, 10_000.0
"""Bounds of a rate. At a slower one, the calls that p99 needs would take an hour."""
MOST_NEIGHBOURS = 1024

PATTERN = r"(?:paced:([0-9]{1,5}(?:\.[0-9]{1,6})?)/s|loaded:([0-9]{1,4}))"
"""A loop other than hot, as text."""


@dataclass(frozen=True)
class Loop:
    """How calls follow each other while a network is timed.

    Without a rate and neighbours, calls follow each other at once on a machine that does
    nothing else: ``hot``.

    Example:
        >>> from goldnas.lut import Loop
        >>> Loop.parse("paced:15/s").rate_hz
        15.0
        >>> str(Loop(neighbours=2))
        'loaded:2'
    """

    rate_hz: float | None = None
    """Calls a second, with idle gaps between them; None for calls that follow at once."""
    neighbours: int = 0
    """Processes beside, each of which keeps a core busy."""

    @classmethod
    def parse(cls, text: str) -> "Loop":
        """Read ``hot``, ``paced:15/s`` (or ``paced:0.5/s``), or ``loaded:2``.

        Raises:
            ConfigError: If it is none of them, or a number is out of bounds.
        """
        if text == "hot":
            return cls()
        match = re.fullmatch(PATTERN, text) if isinstance(text, str) else None
        if match is None:
            raise ConfigError(
                f"`loop={text!r}` is not a loop: give hot (calls that follow at once), "
                "paced:15/s (15 calls a second) or loaded:2 (beside 2 busy processes)"
            )
        if match[1] is not None:
            rate_hz = float(match[1])
            if not SLOWEST_HZ <= rate_hz <= FASTEST_HZ:
                raise ConfigError(
                    f"`loop={text!r}`: the rate must be from {SLOWEST_HZ:g} to {FASTEST_HZ:g} "
                    "calls a second"
                )
            return cls(rate_hz=rate_hz)
        if not 1 <= int(match[2]) <= MOST_NEIGHBOURS:
            raise ConfigError(
                f"`loop={text!r}`: the busy processes must be from 1 to {MOST_NEIGHBOURS}"
            )
        return cls(neighbours=int(match[2]))

    @property
    def is_hot(self) -> bool:
        """Whether calls follow at once on a machine that does nothing else."""
        return self == Loop()

    def __str__(self) -> str:
        """As :meth:`parse` reads it."""
        if self.rate_hz is not None:
            return f"paced:{self.rate_hz:.10g}/s"
        return f"loaded:{self.neighbours}" if self.neighbours else "hot"

    def describe(self) -> str:
        """In words: ``at 15 calls a second``."""
        if self.rate_hz is not None:
            return f"at {self.rate_hz:g} calls a second"
        if self.neighbours:
            beside = "process" if self.neighbours == 1 else "processes"
            return f"beside {self.neighbours} busy {beside}"
        return "one after the other"

    def explain(self, quantile: str = "", *, measured: bool = False) -> str:
        """What a latency is of in this loop, in words.

        Args:
            quantile: ``p50``, ``p90`` or ``p99``; by default what a budget without one means.
            measured: Whether it was measured: a prediction of p90 or p99 is an upper bound.
        """
        if self.is_hot:
            return "the undisturbed latency: p25 over visits of p10 of their calls"
        bound = "" if measured or quantile in ("", "p50") else "an upper bound of "
        return f"{bound}{quantile or 'p50'} of single calls, {self.describe()}"
