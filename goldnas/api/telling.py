"""What a call reports while it runs, if the caller gave no function for it."""

import warnings
from typing import Any

from goldnas.errors import GoldnasWarning


def warn(text: str) -> None:
    """Warn as Python does, with a :class:`goldnas.GoldnasWarning`."""
    warnings.warn(text, GoldnasWarning, stacklevel=2)


def watch(event: str, fields: dict[str, Any]) -> None:
    """Warn of the important events, and ignore the others."""
    if event == "logger_failed":
        warn(f"logger {fields['logger']} failed and is not used any more: {fields['reason']}")
    elif event == "setback":
        warn(
            f"training diverged in step {fields['step']} ({fields['reason']}); it continues "
            f"from step {fields['back_to_step']}, at half the learning rate"
        )


def ignore(*_: Any, **__: Any) -> None:
    """Tell nobody."""
