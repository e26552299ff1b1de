"""Whether a latency table deserves trust. Needs no torch."""

from goldnas.lut.lint.findings import RULES, Finding
from goldnas.lut.lint.tables import lint

__all__ = ["RULES", "Finding", "lint"]
