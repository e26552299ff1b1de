"""Taking what was measured of ready-made networks into a new search."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch

from goldnas.errors import ConfigError, TableError, read_message
from goldnas.lut import LatencyTable
from goldnas.resource_names import FLOPS, LATENCY, PARAMETERS, name_latency
from goldnas.resources import Budget, count_flops, count_parameters, parse_budgets
from goldnas.searching.baselines import (
    BASELINES_FILE,
    ZOO_FILE,
    BaselineCounts,
    Counted,
    is_within,
    name_latencies,
)
from goldnas.searching.config import SearchConfig
from goldnas.spaces import SearchSpace
from goldnas.spaces.zoo import describe_ready_made
from goldnas.zoo.file import Measured, Part, Zoo, load_zoo
from goldnas.zoo.networks import build_without_numbers

MOST = 10
"""Networks within the budgets that are counted for a search: each has to be built for it."""


@dataclass(frozen=True)
class MatchedZoo:
    """What was measured under the conditions of a latency table."""

    zoo: Zoo
    part: Part
    """Of its number format."""
    table: str
    """Name of the latency table."""


def match_zoo(path: Path, tables: Sequence[LatencyTable]) -> MatchedZoo:
    """Read what ``pick`` measured, for a search with these latency tables.

    The protocols of the measurements may differ; nothing else may.

    Raises:
        ConfigError: If the search has no table.
        TableError: If the file is missing or damaged, or was measured under other conditions
            than each table.
    """
    tables = [table for table in tables if table.kind == LATENCY]
    if not tables:
        raise ConfigError(
            f"`zoo={str(path)!r}` needs a table of times of the same device, and this search "
            "has no table: give one in `tables`, or leave `zoo` out"
        )
    zoo = load_zoo(path)
    pairs = [(part, table) for part in zoo.parts for table in tables]
    if not pairs:
        raise TableError(f"{path} has no network yet: measure some with `pick()`")
    part, table = min(pairs, key=lambda pair: len(_differences(*pair)))
    if unlike := _differences(part, table):
        raise TableError(
            f"{path} and latency table {table.name} were measured under different conditions: "
            f"{'; '.join(unlike)}. Measure ready-made networks on the device of the table with "
            "`pick()`, into another file"
        )
    return MatchedZoo(zoo, part, table.name)


def _differences(part: Part, table: LatencyTable) -> list[str]:
    """The conditions in which a measurement and a table differ, but for the protocol."""
    same = msgspec.structs.replace(part.conditions, protocol=table.conditions.protocol)
    return [
        f"{name} is {mine}, and {theirs} in the table"
        for name, (mine, theirs) in same.unlike(table.conditions).items()
    ]


def _rows_for(matched: MatchedZoo, size: int) -> list[Measured]:
    return [
        row for row in matched.part.rows if isinstance(row, Measured) and row.image_size == size
    ]


def count_baselines(
    matched: MatchedZoo,
    space: SearchSpace,
    config: SearchConfig,
    tables: Sequence[LatencyTable],
) -> BaselineCounts:
    """Count what the most accurate networks within the budgets compute for other data.

    Args:
        matched: What was measured.
        space: Of the search.
        config: Of the search.
        tables: Of the search.

    Raises:
        ConfigError: If the data has no square images of a size that was measured, or no
            classes.
    """
    path, shape = matched.zoo.path, tuple(space.input_shape)
    if config.task is not None:
        raise ConfigError(
            f"ready-made networks are for classification, and `task={config.task!r}` is "
            "another task: leave `zoo` out"
        )
    if len(shape) != 3 or shape[1] != shape[2]:
        raise ConfigError(
            "ready-made networks are measured for square images, and the inputs of "
            f"{config.data} are {'x'.join(map(str, shape))}: leave `zoo` out"
        )
    channels, size, _ = shape
    budgets = parse_budgets(config.budgets, tables)
    latency = name_latency(matched.table)
    rows = _rows_for(matched, size)
    if not rows:
        raise ConfigError(
            f"{path} has no network for images of {size} pixels, the size of {config.data}: "
            f"measure some with {_advise_pick(matched.zoo, size, latency, budgets)}, or leave "
            "`zoo` out"
        )
    counted: dict[str, Counted] = {}
    left_out: dict[str, str] = {}
    within = 0
    for row in sorted(rows, key=lambda row: -row.accuracy.percent):
        if within == MOST or not row.complete:
            continue
        if not is_within(name_latencies(row, matched.table), budgets):
            continue
        try:
            found = _count(row.network, (channels, size, size), space.classes)
        except Exception as error:  # of the library that has the network, or for want of it
            left_out[row.network] = read_message(error)
            continue
        counted[row.network] = found
        within += is_within({FLOPS: found.flops, PARAMETERS: found.params}, budgets)
    return BaselineCounts(
        table=matched.table,
        precision=matched.part.conditions.precision,
        input_shape=(channels, size, size),
        classes=space.classes,
        networks=counted,
        left_out=left_out,
    )


def _advise_pick(zoo: Zoo, size: int, latency: str, budgets: Sequence[Budget]) -> str:
    limits = [budget.limit for budget in budgets if budget.resource == latency]
    extent = f"budgets=['{limits[0] / 1000:g}ms']" if limits else "exhaustive=True"
    loop = "" if zoo.loop.is_hot else f"loop='{zoo.loop}', "
    return f"`pick(size=[{size}], {extent}, {loop}out={str(zoo.path)!r})`"


def _count(name: str, shape: tuple[int, int, int], classes: int) -> Counted:
    named = describe_ready_made(name, input_shape=shape, classes=classes).settings["network"]
    if named != name:
        raise ConfigError(f"its full name is {named}")
    with torch.random.fork_rng(devices=[]):  # a search is the same with and without it
        module = build_without_numbers(name, shape, classes)
    return Counted(flops=count_flops(module, shape), params=count_parameters(module))


def write_baselines(matched: MatchedZoo, counts: BaselineCounts) -> dict[str, str]:
    """The files of a search's folder, by name."""
    compact = msgspec.json.encode(counts)
    return {
        ZOO_FILE: matched.zoo.to_json(),
        BASELINES_FILE: f"{msgspec.json.format(compact, indent=2).decode()}\n",
    }


def find_unused(
    tables: Sequence[LatencyTable], space: SearchSpace, config: SearchConfig
) -> Path | None:
    """A file of ready-made networks beside a latency table, which a search could be given."""
    if config.task is not None or tuple(space.input_shape[1:]) != 2 * (space.input_shape[-1],):
        return None
    for table in (table for table in tables if table.kind == LATENCY):
        path = table.path.with_name(ZOO_FILE)
        try:
            if path.is_file() and _rows_for(match_zoo(path, [table]), space.input_shape[-1]):
                return path
        except (TableError, OSError):
            continue  # it is something else, or of another device
    return None
