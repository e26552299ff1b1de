"""Whether a latency table deserves trust. Needs no torch."""

from goldnas.lut.lint.file import lint
from goldnas.lut.lint.findings import RULES, Finding

__all__ = ["RULES", "Finding", "lint"]
