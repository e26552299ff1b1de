"""Limits on the size of a space's networks.

Settings come from files, and a function makes a network as a whole. A network with a million
layers would exhaust memory and time before goldnas could refuse it.
"""

from goldnas.errors import ConfigError

MOST_CLASSES = 100_000

MOST_INPUTS = 2**25
"""Numbers of one input: a network of choices is computed once when its space is made."""


def check_whole(name: str, value: object, *, most: int) -> None:
    """Refuse a value that is not a whole number, or out of range.

    Raises:
        ConfigError: Naming the setting and its value.
    """
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
