"""How large the networks of a space may be, at most.

Settings come from files, and a function that makes a network makes it whole: one with a million
layers would take the memory and the time before anybody can refuse it.
"""

from goldnas.errors import ConfigError

MOST_CLASSES = 100_000

MOST_INPUTS = 2**25
"""Numbers of one input: a network of choices is computed once when its space is made."""


def check_whole(name: str, value: object, *, most: int) -> None:
    """Refuse what is no whole number, or out of its range.

    Raises:
        ConfigError: Naming the setting and its value.
    """
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigError(f"{name} must be a whole number from 1 to {most}, got {value!r}")
