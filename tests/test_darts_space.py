"""The space of DARTS: two cells that all positions share, two edges for each node."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import goldnas
from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.genotypes import NAMED, read_genotype, write_genotype
from goldnas.resources import Flops, Parameters, compute_costs, count_parameters
from goldnas.resources.costs import sum_costs
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.sampler import BudgetedSampler
from goldnas.searching.strategies import STRATEGIES
from goldnas.spaces import find_space, make_space
from goldnas.supernet import SuperNet
from nightly import at_night
from searches import make_loop, search, settings_of
from simulated_tables import Machine
from workplace import invoke

SMALL: dict[str, Any] = {"cells": 3, "channels": 4, "input_shape": (1, 8, 8)}


def check_rule(choices: Mapping[str, Sequence[str]], *, nodes: int = 4) -> None:
    """Two edges for each node of both cells, one operator on each, none of them ``none``."""
    entering = [f"{place.split('.')[0]} {place.split('-')[1]}" for place in choices]
    assert sorted(entering) == sorted(
        2 * [f"{kind} {node}" for kind in ("normal", "reduce") for node in range(2, 2 + nodes)]
    )
    assert all(len(kept) == 1 and kept != ("none",) for kept in choices.values())


# -- counts ------------------------------------------------------------------------------------


def test_the_search_network_is_as_large_as_that_of_the_authors() -> None:
    """1.930618 M parameters: what their search logs."""
    space = make_space("darts")
    network = space.build(space.architecture(space.gates))
    assert (space.cells, space.channels, len(space.gates)) == (8, 16, 2 * 14 * 8)
    assert count_parameters(network) == 1_930_618
    costs = compute_costs(space, Flops(space.build_part))
    assert costs.fixed + costs.gates.sum() == 300_255_744
    assert space.log10_size() == pytest.approx(18.03, abs=0.01)  # their 10^18


@pytest.mark.parametrize(
    ("name", "parameters", "flops"),
    [("DARTS_V1", 3_169_414, 500_987_520), ("DARTS_V2", 3_349_342, 528_359_040)],
)
def test_a_genotype_is_one_entry_for_each_edge_of_two_cells(
    name: str, parameters: int, flops: int
) -> None:
    architecture = read_genotype(name, space="darts")
    check_rule(architecture.choices)
    space = find_space(architecture)
    assert (architecture.settings["cells"], architecture.settings["channels"]) == (20, 36)
    parts = Counter(space.plan(architecture).parts())
    assert sum_costs(Parameters(), parts.elements()) == parameters
    assert sum_costs(Flops(), parts.elements()) == flops
    whole = read_genotype(name)  # the same network, with an entry for each of its 20 cells
    assert Counter(find_space(whole).plan(whole).parts()) == parts


# -- genotypes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMED)
def test_a_genotype_is_written_and_read_at_any_size(name: str) -> None:
    small = read_genotype(name, space="darts", **SMALL)
    text = write_genotype(small)
    assert read_genotype(text, space="darts", **SMALL).fingerprint == small.fingerprint
    whole = read_genotype(text, space="darts")
    assert whole.fingerprint == read_genotype(name, space="darts").fingerprint


def test_what_is_no_genotype_is_not_written() -> None:
    with pytest.raises(ConfigError, match="the cells of a network of"):
        write_genotype(read_genotype("DARTS_V1"))
    whole = make_space("darts", **SMALL)
    with pytest.raises(ConfigError, match="node 2 of the normal cell has 14 operators"):
        write_genotype(whole.architecture(whole.gates))


@pytest.mark.parametrize(
    "choices",
    [
        {"cell0.0-2": ["skip_connect"]},
        {"normal.0-9": ["skip_connect"]},
        {"normal.2-2": ["skip_connect"]},
        {"normal.0-2": ["none"]},
    ],
)
def test_what_is_no_network_of_the_space_is_refused(choices: dict[str, Any]) -> None:
    space = make_space("darts", **SMALL)
    with pytest.raises(ConfigError):
        space.build(Architecture(space="darts", settings=space.settings, choices=choices))


def test_a_cell_needs_more_than_none() -> None:
    with pytest.raises(ConfigError, match="is only none"):
        make_space("darts", operators=("none",))


# -- gates -------------------------------------------------------------------------------------


def test_cells_of_a_kind_share_their_gates_and_none_takes_its_share_alone() -> None:
    space = make_space("darts", **SMALL | {"cells": 8})
    supernet = SuperNet(space, relaxation="softmax")
    assert len(supernet.network.cells["0"].operators) == 14 * 7
    with torch.no_grad():
        for index, gate in enumerate(space.gates):
            if gate.name == "normal.0-2.none":
                supernet.alpha[index] = 100.0
    gates = {
        gate.name: v for gate, v in zip(space.gates, supernet.gates().tolist(), strict=True)
    }
    assert gates["normal.0-2.sep_conv_3x3"] < 1e-6
    assert gates["normal.1-2.sep_conv_3x3"] == gates["reduce.0-2.none"] == 1 / 8
    state = supernet.network_state()
    normal, other, reduction = (state[f"cells.{cell}.gates"] for cell in (0, 1, 2))
    torch.testing.assert_close(normal, other)
    assert not torch.equal(normal, reduction)
    index = [gate.name for gate in space.gates].index("normal.1-2.sep_conv_5x5")
    supernet.prune([index])
    sizes = [len(cell.operators) for cell in supernet.network.cells.values()]
    assert sizes == [97, 97, 98, 97, 97, 98, 97, 97]


def test_the_cut_is_that_of_the_authors(tmp_path: Path) -> None:
    """By node the two edges whose best operator, none aside, has the most; on each the best."""
    loop = make_loop(
        tmp_path / "a",
        **settings_of("darts1") | {"space": "darts", "cells": 3, "budgets": (), "single": True},
    )
    strategy, space = loop.strategy, loop.strategy.session.space
    random = np.random.default_rng(0)
    alpha = random.normal(size=len(space.gates)).astype("float32")
    is_none = np.array([gate.operator == "none" for gate in space.gates])
    alpha[is_none] += 2  # which would win almost everywhere
    with torch.no_grad():
        strategy.learner.supernet.alpha.copy_(torch.as_tensor(alpha))
    expected: dict[str, list[str]] = {}
    for kind in ("normal", "reduce"):
        for node in range(2, 6):
            best = []
            for source in range(node):
                place = f"{kind}.{source}-{node}"
                edge = {
                    g.operator: v
                    for g, v in zip(space.gates, alpha, strict=True)
                    if g.place == place
                }
                share = np.exp(list(edge.values())) / np.exp(list(edge.values())).sum()
                found = dict(zip(edge, share, strict=True))
                del found["none"]
                name = max(found, key=lambda operator: found[operator])
                best.append((found[name], place, name))
            expected |= {place: [name] for _, place, name in sorted(best)[-2:]}
    strategy.finish()
    (network,) = goldnas.load_run(tmp_path / "a").front
    kept = {place: list(names) for place, names in network.architecture.choices.items()}
    assert kept == expected


# -- searches ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", [n if n == "gold" else pytest.param(n, marks=at_night) for n in STRATEGIES]
)
def test_every_strategy_ends_with_two_edges_for_each_node(name: str, tmp_path: Path) -> None:
    few = {"cells": 3, "settings": {"nodes": 2}, "budgets": ("70kFLOPs",)}
    settings = settings_of(name) | {"space": "darts"} | few
    run = search(tmp_path / "a", **settings)
    assert run.config.single
    assert run.best.resources["FLOPs"] <= 70e3
    for network in run.front:
        check_rule(network.architecture.choices, nodes=2)
    assert run.best.build()


def test_random_networks_keep_the_rule_and_differ() -> None:
    feasibility = build_feasibility(make_space("darts", **SMALL), ["90kFLOPs"], single=True)
    sampler = BudgetedSampler(feasibility, seed=0)
    drawn = [sampler.draw() for _ in range(20)]
    for mask in drawn:
        kept = (gate for gate, on in zip(feasibility.space.gates, mask, strict=True) if on)
        check_rule(feasibility.space.architecture(kept).choices)
        assert 0.97 <= sampler.use(mask) <= 1
    changed = [int((a & ~b).sum()) for a, b in pairwise(drawn)]
    assert np.mean(changed) > 4  # of 16: one that hardly moves is no random baseline


def test_a_table_has_no_row_of_none_and_bounds_what_is_drawn(tmp_path: Path) -> None:
    space = make_space("darts", **SMALL)
    table = Machine("board").table(space, tmp_path / "board.json")
    assert {row.operator for row in table.rows} == {name for name, _ in space.rows()}
    assert "none" not in {row.operator for row in table.rows}
    feasibility = build_feasibility(space, ["0.05ms"], [table])
    sampler = BudgetedSampler(feasibility, seed=0)
    mask = sampler.draw()
    assert 0.97 <= sampler.use(mask) <= 1
    assert 48.5 <= feasibility.costs["latency@board"].total(mask) <= 50
    kept = (gate for gate, on in zip(space.gates, mask, strict=True) if on)
    check_rule(space.architecture(kept).choices)


def test_its_report_has_a_graph_of_each_cell(tmp_path: Path) -> None:
    command = (
        "search --space darts --set nodes=2 --data digits --cells 3 --channels 4 --single "
        "--strategy one-shot --epochs 1 --batch-size 512 --auxiliary-weight 0 --out"
    )
    code, _, stderr = invoke(*command.split(), tmp_path / "a")
    assert code == 0, stderr
    page = (tmp_path / "a" / "report.html").read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    assert data["cells"]["names"] == data["parts"] == ["normal", "reduce"]
    assert data["cells"]["reductions"] == [False, True]
