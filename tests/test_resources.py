"""Budgets are read as they are meant, and costs are sums of parts."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from goldnas.errors import ConfigError, TableError
from goldnas.lut import Failed, LatencyTable
from goldnas.resources import (
    Budget,
    Costs,
    Flops,
    Latency,
    Parameters,
    Resource,
    compute_costs,
    parse_budget,
)
from goldnas.resources.costs import sum_costs
from goldnas.site import Site
from goldnas.spaces import GoldSpace
from goldnas.units import format_amount

MakeTable = Callable[..., LatencyTable]
UNITS = ("FLOPs", "kFLOPs", "MFLOPs", "GFLOPs", "params", "kparams", "Mparams", "Gparams")
UNITS += ("us", "ms", "s", "uJ", "mJ", "J", "B", "kB", "MB", "GB")
SPACE = GoldSpace(cells=3, channels=4, nodes=2, input_shape=(1, 8, 8), classes=3)


# -- budgets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "resource", "limit"),
    [
        ("600FLOPs", "FLOPs", 600),
        ("600kFLOPs", "FLOPs", 600e3),
        ("600MFLOPs", "FLOPs", 600e6),
        ("1.5GFLOPs", "FLOPs", 1.5e9),
        ("1234params", "params", 1234),
        ("12kparams", "params", 12e3),
        ("2.5Mparams", "params", 2.5e6),
        ("1Gparams", "params", 1e9),
        ("250us", "latency@pi5", 250),
        ("5ms", "latency@pi5", 5000),
        ("0.5s", "latency@pi5", 500_000),
        ("5ms@pi5", "latency@pi5", 5000),
        ("600 MFLOPs", "FLOPs", 600e6),
        ("  .5ms@pi5  ", "latency@pi5", 500),
    ],
)
def test_a_budget_is_a_number_and_a_unit(text: str, resource: str, limit: float) -> None:
    budget = parse_budget(text, ["pi5"])
    assert budget == Budget(resource, pytest.approx(limit, rel=1e-12), text)


@pytest.mark.parametrize("table", ["pi5", "t4", "orin-nano_2.1", "my table"])
def test_a_latency_names_one_of_several_tables(table: str) -> None:
    tables = ["pi5", "t4", "orin-nano_2.1", "my table"]
    assert parse_budget(f"5ms@{table}", tables).resource == f"latency@{table}"


@pytest.mark.parametrize(
    "text", ["5", "5MiB", "5mB", "5Mflops", "5MFLOPS", "5Ms", "5m", "5M", "5Kparams"]
)
def test_an_unknown_unit_is_answered_with_the_known_ones(text: str) -> None:
    with pytest.raises(ConfigError, match=rf"(unknown|no) unit.*{text}.*; known units: ") as e:
        parse_budget(text, ["pi5"])
    assert str(e.value).split("known units: ")[1].split(", ") == list(UNITS)


@pytest.mark.parametrize(
    "text", ["", "MFLOPs", "manyMFLOPs", "1.2.3ms", "1,5ms", "nanms", "ms"]
)
def test_a_budget_without_a_number_shows_how_one_looks(text: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"budget '{text}' .*; write, for example, 600MFLOPs"
    ):
        parse_budget(text, ["pi5"])


@pytest.mark.parametrize(
    "text",
    [
        *("0MFLOPs", "-5ms", "-0.0params"),
        pytest.param("9" * 310 + "FLOPs", id="infinite"),
        pytest.param("9" * 305 + "GFLOPs", id="infinite with its prefix"),
    ],
)
def test_a_budget_is_positive_and_finite(text: str) -> None:
    with pytest.raises(ConfigError, match="must be a positive, finite amount"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("text", "tables", "message"),
    [
        ("5ms", [], "budget '5ms' needs a latency table; measure one, as with `profile("),
        ("5ms@pi5", [], "needs a latency table"),
        ("5ms", ["pi5", "t4"], "must name one of the latency tables: 5ms@pi5, 5ms@t4"),
        ("5ms@nano", ["pi5"], "must name one of the latency tables: 5ms@pi5"),
        ("5ms@PI5", ["pi5"], "must name one of the latency tables: 5ms@pi5"),
        ("5MFLOPs@pi5", ["pi5"], "names a latency table, but is not a latency"),
    ],
)
def test_a_latency_without_its_table_is_refused(
    text: str, tables: list[str], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        parse_budget(text, tables)


@pytest.mark.parametrize(
    ("resource", "amount", "text"),
    [
        ("FLOPs", 777_025_152, "777 MFLOPs"),
        ("FLOPs", 1_096_193_664, "1.096 GFLOPs"),
        ("FLOPs", 999, "999 FLOPs"),
        ("FLOPs", 0, "0 FLOPs"),
        ("params", 5_217_526, "5.218 Mparams"),
        ("params", 1000, "1 kparams"),
        ("latency@pi5", 0.25, "0.25 us"),
        ("latency@pi5", 1250, "1.25 ms"),
        ("latency@pi5", 2_500_000, "2.5 s"),
    ],
)
def test_an_amount_is_printed_in_a_unit_that_a_budget_could_be_typed_in(
    resource: str, amount: float, text: str
) -> None:
    assert format_amount(resource, amount) == text
    if amount:
        read = parse_budget(text, ["pi5"])
        assert read.resource == resource
        assert read.limit == pytest.approx(amount, rel=1e-3)


# -- costs -------------------------------------------------------------------------------------


def test_a_total_is_the_fixed_part_and_the_active_gates() -> None:
    costs = Costs("FLOPs", np.array([0.1, 0.2, 0.3, 1e17]), fixed=10.0)
    assert costs.total(np.zeros(4, dtype=bool)) == 10.0
    assert costs.total(np.array([True, False, True, False])) == pytest.approx(10.4)
    assert costs.total(np.ones(4, dtype=bool)) == pytest.approx(1e17)
    # To the last bit, whatever the order: budgets are compared with it.
    many = Costs("FLOPs", np.array([1e16, 1.0, -1e16, 1.0]), fixed=0.0)
    assert many.total(np.ones(4, dtype=bool)) == 2.0


@pytest.mark.parametrize("resource", [Flops(), Parameters()], ids=["FLOPs", "params"])
def test_costs_of_a_space_are_those_of_its_parts(resource: Resource) -> None:
    costs = compute_costs(SPACE, resource)
    assert costs.name == resource.name
    assert costs.gates.tolist() == [resource.cost(g.operator, g.site) for g in SPACE.gates]
    kept = np.array([gate.operator == "sep_conv_3x3" for gate in SPACE.gates])
    network = SPACE.architecture(g for g, keep in zip(SPACE.gates, kept, strict=True) if keep)
    assert costs.total(kept) == sum_costs(resource, SPACE.plan(network).parts())


# Of a convolution with C channels on H x H pixels: sep = 2 (C^2 + 9 C), times H^2 for FLOPs.
@pytest.mark.parametrize(
    ("operator", "site", "parameters", "flops"),
    [
        ("sep_conv_3x3", Site(36, 36, 32, 32), 3240, 3240 * 32**2),
        ("sep_conv_5x5", Site(36, 36, 32, 32), 4392, 4392 * 32**2),
        ("dil_conv_3x3", Site(36, 36, 32, 32), 1620, 1620 * 32**2),
        ("sep_conv_3x3", Site(72, 72, 32, 32, 2), 11664, 11664 * 16**2),
        ("skip_connect", Site(36, 36, 32, 32), 0, 0),
        ("skip_connect", Site(72, 72, 32, 32, 2), 72**2, 72**2 * 16**2),
        ("max_pool_3x3", Site(36, 36, 32, 32), 0, 0),
        ("stem_cifar", Site(3, 108, 32, 32), 27 * 108 + 216, 27 * 108 * 32**2),
        (
            *("stem0_imagenet", Site(3, 48, 224, 224, 4)),
            *(27 * 24 + 48 + 216 * 48 + 96, 27 * 24 * 112**2 + 216 * 48 * 56**2),
        ),
        ("stem1_imagenet", Site(48, 48, 56, 56, 2), 432 * 48 + 96, 432 * 48 * 28**2),
        ("classifier", Site(576, 10, 8, 8), 5770, 5760),
    ],
)
def test_parts_cost_what_their_formula_says(
    operator: str, site: Site, parameters: int, flops: int
) -> None:
    assert Parameters().cost(operator, site) == parameters
    assert Flops().cost(operator, site) == flops


# -- latency -----------------------------------------------------------------------------------


def test_latency_of_a_network_is_the_sum_of_its_rows(
    make_table: MakeTable, tmp_path: Path
) -> None:
    table = make_table(tmp_path / "pi5.json", SPACE)
    latency = Latency(table, SPACE)
    assert latency.name == "latency@pi5"
    costs, flops = compute_costs(SPACE, latency), compute_costs(SPACE, Flops())
    active = np.arange(len(SPACE.gates)) % 3 > 0
    parts = len(SPACE.fixed_parts) + active.sum()
    assert costs.total(active) == pytest.approx(parts + flops.total(active) / 1000)


@pytest.mark.parametrize("failed", [False, True])
def test_a_row_without_a_latency_is_named_with_the_command_that_measures_it(
    make_table: MakeTable, tmp_path: Path, failed: bool
) -> None:
    """Absent is not zero."""
    table = make_table(tmp_path / "pi5.json", SPACE)
    gate = SPACE.gates[-1]
    rows = [row for row in table.rows if row.key != f"{gate.operator} {gate.site}"]
    assert len(rows) == len(table.rows) - 1
    if failed:
        rows.append(Failed(operator=gate.operator, site=str(gate.site), error="no such kernel"))
    latency = Latency(replace(table, rows=tuple(rows)), SPACE)
    command = (
        "`profile(space('gold', channels=4, cells=3, input_shape=(1, 8, 8), classes=3, "
        "operators=('skip_connect', 'sep_conv_3x3')), device='cpu', "
    )
    with pytest.raises(TableError, match=f"no latency for {gate.operator} at") as caught:
        compute_costs(SPACE, latency)
    message = str(caught.value)
    assert str(gate.site) in message
    assert command in message
    assert f"out='{table.path}')`" in message
    assert ("no such kernel" in message) == failed
