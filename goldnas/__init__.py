"""Hardware-aware neural architecture search: profile, search under a budget, export, verify."""

__version__ = "0.1.0"
