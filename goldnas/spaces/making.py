"""Making search spaces: by name, from a function, or from an architecture."""

import json
from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from typing import Any, overload

import torch

from goldnas.architecture import SHRUNK, Architecture
from goldnas.choice import has_choice
from goldnas.errors import ConfigError, read_message
from goldnas.spaces.choice_space import ChoiceSpace
from goldnas.spaces.gold import GoldSpace
from goldnas.spaces.network_function import NetworkFunction, is_json, refuse_setting
from goldnas.spaces.reference import FUNCTIONS, SpaceFunction, is_reference, name_function
from goldnas.spaces.registry import SPACES
from goldnas.spaces.shrunk import ShrunkSpace, check_step
from goldnas.spaces.single import FunctionSpace, SingleSpace
from goldnas.spaces.zoo import ZOO, ZooSpace


@overload
def make_space(space: SpaceFunction, /, **settings: Any) -> ChoiceSpace: ...
@overload
def make_space(space: str, /, **settings: Any) -> GoldSpace | ChoiceSpace | ShrunkSpace: ...
def make_space(
    space: str | SpaceFunction, /, **settings: Any
) -> GoldSpace | ChoiceSpace | ShrunkSpace:
    """Make a search space.

    Args:
        space: Name of a registered space, or of a function that
            :func:`~goldnas.spaces.reference.import_space` has imported. A function itself is
            registered under its name, so that files can refer to it.
        settings: Settings of the space.

    Raises:
        ConfigError: If no space has that name, or a setting is unknown or out of range.
    """
    if not isinstance(space, str):
        return _function_space(name_function(space), settings)
    if space == SHRUNK:
        return make_shrunk_space(**settings)
    if space in FUNCTIONS or is_reference(space):
        return _function_space(space, settings)
    return make_cell_space(space, **settings)


def make_cell_space(name: str, /, **settings: Any) -> GoldSpace:
    """Make a space of cells.

    Raises:
        ConfigError: If no such space has that name, or a setting is unknown or out of range.
    """
    if name not in SPACES:
        registered = {*SPACES, *FUNCTIONS}
        known = ", ".join(sorted(n for n in registered if not is_reference(n)))
        raise ConfigError(f"unknown search space {name!r}; known: {known}")
    takes = [field.name for field in fields(SPACES[name])]
    for key in settings:
        if key not in takes:
            raise refuse_setting(repr(name), key, takes)
    fitted: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in settings.items()
    }
    try:
        return SPACES[name](**fitted)
    except TypeError as error:
        raise ConfigError(
            f"settings of space {name!r} do not fit it: {read_message(error)}"
        ) from None


def find_space(
    architecture: Architecture,
) -> GoldSpace | ChoiceSpace | SingleSpace | ShrunkSpace:
    """Return the space that builds an architecture.

    For a network without choices this is a space that no search accepts.
    """
    if architecture.space == ZOO:
        return _ready_made(json.dumps(architecture.settings))
    if architecture.space == SHRUNK:
        return make_shrunk_space(**architecture.settings)
    function = FUNCTIONS.get(architecture.space)
    if function is not None and not architecture.choices:
        return _whole(architecture.space, function, json.dumps(architecture.settings))
    return make_space(architecture.space, **architecture.settings)


@lru_cache(maxsize=16)
def _whole(name: str, function: SpaceFunction, settings: str) -> ChoiceSpace | FunctionSpace:
    """The space of a function, whose network may have no choices."""
    given = json.loads(settings)
    complete = NetworkFunction(name, function).complete(given)
    with torch.random.fork_rng(devices=[]):
        network = NetworkFunction(name, function).call(complete)
    if has_choice(network):
        return _function_space(name, given)
    return FunctionSpace(name, function, given)


def make_shrunk_space(**settings: Any) -> ShrunkSpace:
    """The space of the sizes of a network, made once.

    Args:
        settings: ``network``, an architecture as a dictionary, and ``step``. Optional are
            ``gated``, and ``input_shape`` and ``classes``, which must equal the network's.

    Raises:
        ConfigError: If a setting is missing, unknown or wrong.
    """
    given = {k: list(v) if isinstance(v, tuple) else v for k, v in settings.items()}
    for name in ("network", "step"):
        if name not in given:
            raise ConfigError(
                f"space {SHRUNK!r} lacks its {name}: make it by shrinking a trained network"
            )
    try:
        network, step = given.pop("network"), check_step(given.pop("step"))
        gated = bool(given.pop("gated", False))
        space = _shrunk(json.dumps(network, sort_keys=True), step, gated)
    except TypeError as error:
        raise ConfigError(
            f"settings of a shrunk network do not fit it: {read_message(error)}"
        ) from None
    for name, value in given.items():
        mine = space.settings.get(name)
        if name not in space.settings:
            raise refuse_setting(repr(SHRUNK), name, space.settings)
        if value != mine:
            raise ConfigError(f"the network has {name} {mine}, not {value}")
    return space


@lru_cache(maxsize=4)
def _shrunk(network: str, step: int, gated: bool) -> ShrunkSpace:
    whole = Architecture.from_json(network)
    return ShrunkSpace(whole, find_space(whole), step, gated=gated)


@lru_cache(maxsize=16)
def _ready_made(settings: str) -> ZooSpace:
    try:
        return ZooSpace(**json.loads(settings))
    except TypeError as error:
        raise ConfigError(
            f"settings of a ready-made network do not fit it: {read_message(error)}"
        ) from None


def _function_space(name: str, settings: Mapping[str, Any]) -> ChoiceSpace:
    """The space of a named function, made once."""
    if name not in FUNCTIONS:
        raise ConfigError(
            f"space {name} is a function, and goldnas runs no function that only a file names: "
            f"name it yourself, with `space({name!r})`, if you trust it"
        )
    settings = {k: v for k, v in settings.items() if v is not None}
    if not is_json(settings):
        return ChoiceSpace(name, FUNCTIONS[name], settings)  # which says what is wrong
    return _made(name, FUNCTIONS[name], json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=16)
def _made(name: str, function: SpaceFunction, settings: str) -> ChoiceSpace:
    return ChoiceSpace(name, function, json.loads(settings))
