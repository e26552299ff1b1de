"""Costs of operators from latencies of whole networks. Needs no torch."""

from goldnas.lut.fit.additive import AdditiveFit, fit_additive
from goldnas.lut.fit.counts import count_parts

__all__ = ["AdditiveFit", "count_parts", "fit_additive"]
