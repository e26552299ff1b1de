"""What searches and trainings share: functions, tasks, several processes."""

import hashlib
import inspect
import random
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas import trust
from goldnas.errors import ConfigError, RunError, name_type
from goldnas.reference import computes_the_same, give

if TYPE_CHECKING:
    from goldnas.task import Task
    from goldnas.training.distributed import Ranks


def as_list(name: str, value: Any) -> list[Any]:
    """A list of what was given as a list or a tuple.

    Raises:
        ConfigError: If one value was given by itself.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        shown = repr(value) if isinstance(value, str | Path) else name_type(value)
        raise ConfigError(f"`{name}` must be a list, got {shown}: put it into [ ]")
    return list(value)


def check_own(settings: Any, weights: Any) -> None:
    """Refuse arguments of a function that are no mapping, and weights that are no file.

    Raises:
        ConfigError: Naming what was given.
    """
    if settings is not None and not (
        isinstance(settings, Mapping) and all(isinstance(name, str) for name in settings)
    ):
        raise ConfigError(
            f"`settings` must be a dict of the function's arguments by name, got {settings!r}"
        )
    if weights is not None and not isinstance(weights, str | Path):
        raise ConfigError(
            f"`weights` must be a file or a name, got {name_type(weights)}: save a "
            "state_dict with torch.save"
        )


def refuse_arguments(network: Any, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Say where arguments of a function go, if they were given as settings.

    Args:
        network: A function that makes a network, or anything else.
        given: Settings, by name.
        known: The names of those that there are.

    Raises:
        ConfigError: Naming the first.
    """
    if not callable(network):
        return
    for name, value in given.items():
        if name not in known and name in inspect.signature(network).parameters:
            raise ConfigError(
                f"`{name}` is an argument of the function: give it in "
                f"`settings={{{name!r}: {value!r}}}`"
            )


def name_space(space: "Callable[..., Any] | str") -> str:
    """The name of a function, under which this program finds it; a name as it is."""
    from goldnas.spaces import import_space
    from goldnas.spaces.reference import name_function

    if not isinstance(space, str):
        return name_function(space)
    trust.allow(space)
    import_space(space)
    return space


def name_task(task: "Task | Callable[[], Task] | str | None") -> str | None:
    """The name of a task, under which this program finds it; a name as it is."""
    from goldnas.task import CLASSIFICATION, Task

    if callable(task):
        task = task()
    if isinstance(task, Task):
        if task is CLASSIFICATION:
            return None
        digest = hashlib.sha256(task.name.encode()).hexdigest()
        return give("task", task, digest, same=_are_alike)
    if isinstance(task, str):
        trust.allow(task)
    if task is None or isinstance(task, str):
        return task
    raise ConfigError(
        f"{name_type(task)} is not a `task`: give a goldnas.Task, a function that returns one, "
        "or the name of such a function"
    )


def _are_alike(one: "Task", other: "Task") -> bool:
    """Whether two tasks are the same, or their functions are."""
    pairs = ((getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return all(a == b or computes_the_same(a, b) for a, b in pairs)


_ALONE = threading.RLock()


@contextmanager
def alone() -> Iterator[None]:
    """Be the only search or training of this process, and restore its settings afterwards.

    Raises:
        RunError: If another thread of the process searches or trains: both would draw from
            the same random numbers of torch.
    """
    import numpy as np
    import torch

    if not _ALONE.acquire(blocking=False):
        raise RunError(
            "another thread of this program already searches or trains, and both would use "
            "torch's random numbers: use a separate process for each"
        )
    threads = torch.get_num_threads()
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
        _ALONE.release()


def join_ranks(ranks: "Ranks | None") -> Any:
    """The processes of torchrun, unless they are given."""
    if ranks is not None:
        return nullcontext(ranks)
    from goldnas.training.distributed import init_process_group

    return init_process_group()
