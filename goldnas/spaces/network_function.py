"""A function that returns a network: its settings, and calls with settings from files."""

import inspect
import json
import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

import torch
from torch import nn

from goldnas.errors import ConfigError, name_type
from goldnas.reference import explain_error
from goldnas.spaces.limits import MOST_INPUTS
from goldnas.spaces.reference import SpaceFunction
from goldnas.spaces.registry import LATER

OF_DATA = ("input_shape", "classes")
"""Settings that a search takes from its data; a function need not have them."""

OPTIONS = ("channels", "cells", "operators")
"""Settings of spaces that every command has an option for."""


class NetworkFunction:
    """A function that makes the networks of a space.

    Args:
        space: Name of the space, for errors.
        function: Returns a module; takes its settings by keyword.

    Raises:
        ConfigError: If the function has no signature.
    """

    def __init__(self, space: str, function: SpaceFunction) -> None:
        self._space = space
        self._function = function
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):
            raise ConfigError(
                f"the settings of space {space} are unknown; name a function written in Python"
            ) from None
        self._parameters = {
            name: parameter
            for name, parameter in signature.parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        }

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Add the defaults of the function to settings; all in plain JSON values.

        Raises:
            ConfigError: If the function does not take a setting, or lacks one.
        """
        parameters = self._parameters
        settings = {
            name: parameter.default
            for name, parameter in parameters.items()
            if parameter.default is not parameter.empty and is_json(parameter.default)
        }
        for name, value in given.items():
            if name not in parameters and name not in OF_DATA:
                raise refuse_setting(self._space, name, parameters)
            if not is_json(value):
                raise ConfigError(
                    f"setting {name}={value!r} of space {self._space} cannot be saved; give "
                    "numbers, texts, true or false, or lists of them"
                )
            if name in parameters or name == "input_shape":
                settings[name] = value
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in settings:
                raise ConfigError(
                    f"space {self._space} needs a setting {name!r}: give it as "
                    f"`settings={{{name!r}: 'VALUE'}}`"
                )
        self._check_shape(settings.get("input_shape"))
        listed: dict[str, Any] = json.loads(json.dumps(settings))
        for name in LATER.get(self._space, ()):
            if listed[name] == json.loads(json.dumps(parameters[name].default)):
                del listed[name]
        return listed

    def _check_shape(self, shape: Any) -> None:
        if shape is None:
            raise ConfigError(
                f"the input of space {self._space} is unknown: give `input_shape`, as in "
                "`input_shape=(3, 32, 32)`"
            )
        whole = isinstance(shape, list | tuple) and all(type(n) is int and n > 0 for n in shape)
        if not whole or not shape:
            raise ConfigError(
                f"input_shape of space {self._space} must be whole numbers from 1, "
                f"got {shape!r}"
            )
        if math.prod(shape) > MOST_INPUTS:
            raise ConfigError(
                f"an input of space {self._space} may have at most {MOST_INPUTS} numbers, but "
                f"input_shape {shape!r} has more; give a smaller one"
            )

    def call(self, settings: Mapping[str, Any]) -> nn.Module:
        """Make a network.

        Args:
            settings: Complete ones; their lists reach the function as tuples.

        Raises:
            ConfigError: If the function fails, or returns something else.
        """
        arguments = {k: _frozen(v) for k, v in settings.items() if k in self._parameters}
        try:
            # Whatever is asked for around: values of the function's own may be computed.
            with torch.device("cpu"):
                network = self._function(**arguments)
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"space {self._space} cannot be made: {self.describe(error)}"
            ) from error
        if not isinstance(network, nn.Module):
            raise ConfigError(
                f"space {self._space} returns {name_type(network)}, but must return an "
                "nn.Module"
            )
        return network

    def describe(self, error: BaseException) -> str:
        """The message of an error in the function's code, with its line."""
        return explain_error(error, self._function)


def refuse_setting(space: str, name: str, takes: Iterable[str]) -> ConfigError:
    """The error for a setting that a space does not take.

    Args:
        space: Name of the space to show.
        name: Name of the setting.
        takes: The settings that the space takes.
    """
    known = list(takes)
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    # Those of OPTIONS have an option of their own, which backquotes stand for.
    meant = [f"`{one}`" if one in OPTIONS else repr(one) for one in near]
    suggested = f"did you mean {meant[0]}? " if meant else ""
    return ConfigError(
        f"space {space} takes no setting {name!r}; {suggested}it takes: "
        f"{', '.join(known) or 'none'}"
    )


def is_json(value: object) -> bool:
    """Whether a value can be written as JSON."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _frozen(value: Any) -> Any:
    """Lists as tuples, all the way down."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
