"""Hardware-aware neural architecture search: profile, search under a budget, export, verify."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goldnas.choice import Choice as Choice

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import :class:`Choice` where it is asked for: it needs torch, and ``--help`` does not."""
    if name == "Choice":
        from goldnas.choice import Choice

        return Choice
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
