"""From the settings of a search to its super-network, its costs and its device."""

import contextlib
import platform
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

import goldnas
from goldnas.data.examples import Normalisation
from goldnas.errors import ConfigError
from goldnas.lut import LatencyTable
from goldnas.resource_names import OPERATORS
from goldnas.resources import (
    Budget,
    Costs,
    Flops,
    Latency,
    Parameters,
    Resource,
    costs_of,
    parse_budget,
)
from goldnas.searching.config import SearchConfig, StepSettings
from goldnas.searching.feasibility import Feasibility, Mask, cheapest
from goldnas.searching.strategies import STRATEGIES
from goldnas.spaces import SearchSpace
from goldnas.supernet import SuperNet
from goldnas.units import format_amount


@dataclass(frozen=True)
class Limit:
    """One resource: what the smallest, the current and the full network need of it."""

    resource: str
    smallest: float
    current: float
    full: float
    budget: Budget | None


def supernet_for(config: SearchConfig, space: SearchSpace, device: torch.device) -> SuperNet:
    """The super-network of a search, with fresh weights, on its device."""
    supernet = SuperNet(
        space,
        auxiliary=config.auxiliary_weight > 0 and space.cell_layout is not None,
        checkpointing=config.checkpointing,
        relaxation=STRATEGIES[config.strategy].relaxation,
    )
    # Depthwise convolutions run faster with channels last, forward and backward.
    return supernet.to(device).to(memory_format=torch.channels_last)


def autocast_for(config: StepSettings, device: torch.device) -> AbstractContextManager[object]:
    """The context of a forward pass in the number format of the settings."""
    if config.amp == "off":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def feasibility_of(
    config: SearchConfig, space: SearchSpace, tables: list[LatencyTable]
) -> Feasibility:
    """The costs of a space in every resource, and the budgets.

    Raises:
        ConfigError: If a budget is malformed, given twice, or names no table.
        TableError: If a table lacks a row.
    """
    budgets = [parse_budget(text, [table.name for table in tables]) for text in config.budgets]
    for budget in budgets:
        same = [other.text for other in budgets if other.resource == budget.resource]
        if len(same) > 1:
            raise ConfigError(
                f"budgets {' and '.join(same)} are of one resource; keep the one you need"
            )
    resources: list[Resource] = [
        Flops(space.build_part),
        Parameters(space.build_part),
        *(Latency(table, space) for table in tables),
    ]
    costs = [costs_of(space, resource) for resource in resources]
    if config.single:
        nodes = len({gate.node_id for gate in space.gates})
        budgets.append(Budget(OPERATORS, nodes, "--single"))
        costs.append(Costs(OPERATORS, np.ones(len(space.gates)), fixed=0.0))
    return Feasibility(space, costs, budgets)


def limits(feasibility: Feasibility, active: Mask | None = None) -> list[Limit]:
    """The table that a user sees before training starts.

    Args:
        feasibility: Of the search.
        active: The gates that are left, where a search goes on.
    """
    space = feasibility.space
    everything = np.ones(len(space.gates), dtype=bool)

    def limit(cost: Costs) -> Limit:
        smallest = cheapest(space, cost.gates, everything)
        assert smallest is not None  # without a ceiling there always is one
        budget = next((b for b in feasibility.budgets if b.resource == cost.name), None)
        current = cost.total(everything if active is None else active)
        return Limit(cost.name, cost.total(smallest), current, cost.total(everything), budget)

    return [limit(cost) for cost in feasibility.costs.values()]


def check_feasible(feasibility: Feasibility) -> None:
    """Refuse budgets that no network of the space meets.

    Raises:
        ConfigError: Saying by how much they are missed.
    """
    for limit in limits(feasibility):
        budget = limit.budget
        if budget is not None and limit.smallest > budget.limit:
            raise ConfigError(
                f"budget {budget.text} cannot be met: the smallest network of this space needs "
                f"{format_amount(limit.resource, limit.smallest)}, "
                f"{format_amount(limit.resource, limit.smallest - budget.limit)} more. "
                "Raise the budget, or search with fewer --channels or --cells"
            )
    everything = np.ones(len(feasibility.space.gates), dtype=bool)
    if feasibility.find(everything) is None:
        raise ConfigError(
            f"no network of this space meets "
            f"{', '.join(budget.text for budget in feasibility.budgets)} together, though each "
            "can be met alone. Raise one of them"
        )


def device_named(name: str) -> torch.device:
    """The device to train on.

    Raises:
        ConfigError: If it is unknown or not available: another is never taken instead.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if available[kind]))
    if available.get(name.split(":")[0], False):
        with contextlib.suppress(RuntimeError):  # of a number, like cuda:7, that is not there
            torch.zeros(1, device=name)
            return torch.device(name)
    have = ", ".join(kind for kind, there in available.items() if there)
    raise ConfigError(
        f"cannot train on {name!r}: torch finds {have} here; choose from these, or auto"
    )


def amp_named(name: str, device: torch.device) -> Literal["off", "bf16"]:
    """The number format to train in; ``auto`` is bf16 on a GPU that computes in it, else off.

    Raises:
        ConfigError: If it is unknown, or the device does not have it.
    """
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if name == "off" or (name == "auto" and not fast):
        return "off"
    if name not in ("auto", "bf16"):
        raise ConfigError(f"unknown --amp {name!r}; known: auto, bf16, off")
    if not (fast or device.type == "cpu"):
        raise ConfigError(f"cannot train on {device} with --amp bf16; leave it at auto")
    return "bf16"


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def conditions_of(device: torch.device, ranks: int = 1) -> dict[str, Any]:
    """What a search runs on, for its folder."""
    return {
        "goldnas": goldnas.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "ranks": ranks,
    }


def inputs_of(normalisation: Normalisation, classes: Sequence[str]) -> dict[str, Any]:
    """What networks take and what they tell apart, for the folder."""
    return {"inputs": normalisation.told(), "classes": classes}
