"""Hardware-aware neural architecture search: profile, search under a budget, export, verify."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goldnas.choice import Choice as Choice
    from goldnas.task import Task as Task

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import what needs torch where it is asked for: ``--help`` does not need it."""
    if name == "Choice":
        from goldnas.choice import Choice

        return Choice
    if name == "Task":
        from goldnas.task import Task

        return Task
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
