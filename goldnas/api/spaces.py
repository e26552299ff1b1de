"""Spaces, and whether budgets can be met in them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.api.together import as_list
from goldnas.lut import LatencyTable

if TYPE_CHECKING:
    from torch import nn

    from goldnas.searching.budgets import Limit
    from goldnas.spaces import SearchSpace


def space(space: "str | Callable[..., nn.Module]" = "gold", **settings: Any) -> "SearchSpace":
    """Make a search space.

    Args:
        space: The name of a space (``gold``, ``gold-imagenet``, ``gold-extended``, ``darts``,
            ``mobile``, ``nasbench201``, ``nasbench-macro``). Or a function of yours that
            returns a module with :class:`goldnas.Choice` in it, or the name of such a function,
            ``my_package.my_module:function``.
        settings: Settings of the space: ``cells``, ``channels``, ``input_shape`` ``(C, H, W)``
            in pixels, ``classes``, ``operators`` and so on. For a function, its arguments and
            ``input_shape``.

    Returns:
        The space. ``len(space.gates)`` is the number of operators that a search can keep or
        prune. ``space.log10_size()`` is the base-10 logarithm of the number of networks.

    Raises:
        ConfigError: If there is no such space, or a setting does not fit it.

    Example:
        >>> import goldnas
        >>> space = goldnas.space("gold", cells=3, channels=8, input_shape=(1, 8, 8))
        >>> len(space.gates)
        84
    """
    from goldnas.api.together import name_space
    from goldnas.spaces import make_space

    return make_space(name_space(space), **settings)


def as_space(given: "SearchSpace | Callable[..., nn.Module] | str") -> "SearchSpace":
    """Return a space as it is, or make one from what :func:`space` takes."""
    named: Any = given
    return named if hasattr(given, "gates") else space(named)


@dataclass(frozen=True)
class Feasibility:
    """Whether budgets can be met. It is true if they can.

    Example:
        >>> answer = goldnas.feasible(space, ["60kFLOPs"])
        >>> bool(answer), answer.reason
        (True, '')
        >>> [limit.resource for limit in answer.limits]
        ['FLOPs', 'params']
    """

    limits: "tuple[Limit, ...]"
    """For each resource, what the smallest and the full network need, in FLOPs, parameters and
    microseconds, and its budget."""
    reason: str
    """Why the budgets cannot be met; empty if they can."""

    def __bool__(self) -> bool:
        return not self.reason


def feasible(
    space: "SearchSpace | Callable[..., nn.Module] | str",
    budgets: Sequence[str],
    tables: "Sequence[LatencyTable | str | Path]" = (),
    *,
    single: bool = False,
) -> Feasibility:
    """Find out whether some network of a space meets all budgets, before anything runs.

    Args:
        space: What :func:`goldnas.space` returns or takes.
        budgets: Limits such as ``600MFLOPs``, ``3Mparams`` or ``5ms``; ``6mJ`` by a
            table of energies. With several tables, ``5ms@pi5`` names the table.
        tables: Latency tables of the devices, or their files.
        single: Whether each node, or choice, keeps exactly one operator.

    Raises:
        ConfigError: If a budget is malformed, or names no table.
        TableError: If a table cannot be read, or lacks a row of the space.

    Example:
        >>> import goldnas
        >>> space = goldnas.space("gold", cells=3, channels=8, input_shape=(1, 8, 8))
        >>> bool(goldnas.feasible(space, ["200kFLOPs"]))
        True
        >>> print(goldnas.feasible(space, ["100kFLOPs"]).reason)  # doctest: +ELLIPSIS
        budget 100kFLOPs cannot be met: the smallest network of this space needs 162.6 kFLOPs...
    """
    from goldnas.errors import ConfigError
    from goldnas.searching.budgets import build_feasibility, check_feasible, list_limits
    from goldnas.searching.folder import read_tables

    read = read_tables(as_list("tables", tables))
    said = as_list("budgets", budgets)
    costs = build_feasibility(as_space(space), said, read, single=single)
    reason = ""
    try:
        check_feasible(costs)
    except ConfigError as error:
        reason = str(error)
    return Feasibility(tuple(list_limits(costs)), reason)
