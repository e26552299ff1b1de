"""Costs of operators from latencies of whole networks. Needs no torch."""

from goldnas.lut.fit.additive import AdditiveFit, fit_additive

__all__ = ["AdditiveFit", "fit_additive"]
