"""The space has the size, the parts and the counts that its literature gives."""

import numpy as np
import pytest
import torch

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.genotypes import read_genotype
from goldnas.resources import Flops, Parameters, compute_costs, count_flops, count_parameters
from goldnas.resources.costs import sum_costs
from goldnas.searching.feasibility import cheapest
from goldnas.spaces import (
    DARTS_OPERATORS,
    GoldImageNetSpace,
    GoldSpace,
    find_space,
    make_space,
)

# Channels, cells; parameters and FLOPs of the network with every operator; of the parts that
# every network has. Counted with two other counters; rounded to 0.001 M and 0.1 MFLOPs where
# not all digits are given.
COUNTS = [
    pytest.param(36, 14, (5_217_526, 777_025_152), (927_766, 163_571_328), id="36-14"),
    pytest.param(36, 20, (7_304_086, 1_096_193_664), (1.363e6, 227.3e6), id="36-20"),
    pytest.param(16, 14, (1_108_986, 172_001_792), (0.185e6, 33.0e6), id="16-14"),
    pytest.param(16, 8, (665_466, 100_928_000), (0.099e6, 20.5e6), id="16-8"),
    pytest.param(24, 14, (2.389e6, 362.0e6), (0.414e6, 73.4e6), id="24-14"),
    pytest.param(20, 14, (1.689e6, 258.3e6), (0.289e6, 51.2e6), id="20-14"),
]


def reference(value: float, rounded_to: float) -> object:
    return value if isinstance(value, int) else pytest.approx(value, abs=rounded_to / 2)


# The genotype s1, the one network that the unofficial implementation of GOLD-NAS publishes
# (github.com/sunsmarterjie/GOLD_NAS, cifar_train/genotypes.py): a mask per cell, whose bit i
# says whether the i-th gate of the cell stays, ordered by node, source and operator.
S1 = (
    *(0x00C66C7, 0xB824CF3, 0x2380CE7, 0x0A20C3C, 0x20CB0BA, 0xA0E167E, 0x22C2EBE),
    *(0x22C38FB, 0x02C2CFE, 0xAAAAAEF, 0x8A4349A, 0xA160EBA, 0x2843499, 0x02C30AA),
)


def every_operator(space: GoldSpace) -> Architecture:
    return space.architecture(space.gates)


def counted(space: GoldSpace, architecture: Architecture) -> tuple[int, int]:
    """Parameters and FLOPs of the built network, which are the sums of those of its parts."""
    network = space.build(architecture)
    parts = list(space.plan(architecture).parts())
    parameters = count_parameters(network)
    flops = count_flops(network, space.input_shape)
    assert parameters == sum_costs(Parameters(), parts)
    assert flops == sum_costs(Flops(), parts)
    return parameters, flops


# -- size --------------------------------------------------------------------------------------


def test_a_cell_has_28_gates_and_the_space_of_the_paper_392() -> None:
    gates = GoldSpace().gates
    assert len(gates) == 392
    assert len({gate.name for gate in gates}) == 392
    for cell in range(14):
        edges = [(g.source, g.node) for g in gates if g.cell == cell]
        assert len(edges) == 28
        assert set(edges) == {(source, node) for node in range(2, 6) for source in range(node)}


@pytest.mark.parametrize(("cells", "log10_size"), [(14, 117.486), (20, 167.837)])
def test_number_of_networks_is_that_of_the_paper(cells: int, log10_size: float) -> None:
    assert GoldSpace(cells=cells).log10_size() == pytest.approx(log10_size, abs=5e-4)


def test_a_search_keeps_an_operator_of_every_node_and_a_reader_of_every_input() -> None:
    space = GoldSpace(cells=2)
    found = {frozenset(space.gates[index].name for index in group) for group in space.groups}
    expected = set()
    for cell in range(2):
        gates = [gate for gate in space.gates if gate.cell == cell]
        for node in range(2, 6):
            expected.add(frozenset(gate.name for gate in gates if gate.node == node))
        for source in range(2):
            expected.add(frozenset(gate.name for gate in gates if gate.source == source))
    assert found == expected
    assert len(space.groups) == len(expected)


# -- counts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "cells", "all_parts", "fixed_parts"), COUNTS)
def test_counts_of_the_whole_space_are_the_reference_counts(
    channels: int, cells: int, all_parts: tuple[float, ...], fixed_parts: tuple[float, ...]
) -> None:
    space = GoldSpace(cells=cells, channels=channels)
    everything = np.ones(len(space.gates), dtype=bool)
    network = space.build(every_operator(space))
    built = count_parameters(network), count_flops(network, space.input_shape)
    for place, (resource, rounded_to) in enumerate([(Parameters(), 1e3), (Flops(), 1e5)]):
        costs = compute_costs(space, resource)
        assert built[place] == costs.total(everything)
        assert built[place] == reference(all_parts[place], rounded_to)
        assert costs.fixed == sum_costs(resource, space.fixed_parts)
        assert costs.fixed == reference(fixed_parts[place], rounded_to)


@pytest.mark.parametrize(
    ("channels", "all_parts", "fixed_parts"),
    [
        (36, (5.80e6, 621e6), (1.51e6, 151e6)),
        (44, (8.42e6, 910e6), None),
        (48, (9.91e6, 1076e6), (2.42e6, 265e6)),
    ],
)
def test_counts_behind_the_imagenet_stem_are_the_reference_counts(
    channels: int, all_parts: tuple[float, ...], fixed_parts: tuple[float, ...] | None
) -> None:
    space = GoldImageNetSpace(channels=channels)
    everything = np.ones(len(space.gates), dtype=bool)
    for place, (resource, rounded_to) in enumerate([(Parameters(), 1e4), (Flops(), 1e6)]):
        costs = compute_costs(space, resource)
        assert costs.total(everything) == reference(all_parts[place], rounded_to)
        if fixed_parts is not None:
            assert costs.fixed == reference(fixed_parts[place], rounded_to)


# For ImageNet FLOPs are known to 0.01 M.
@pytest.mark.parametrize(
    ("name", "space", "parameters", "flops"),
    [
        ("DARTS_V1", "gold", 3_169_414, 500.99e6),
        ("DARTS_V2", "gold", 3_349_342, 528_359_040),
        ("DARTS_V1", "gold-imagenet", 4_510_432, 505.86e6),
        ("DARTS_V2", "gold-imagenet", 4_718_752, 529.91e6),
    ],
)
def test_darts_networks_have_their_known_size(
    name: str, space: str, parameters: int, flops: float
) -> None:
    architecture = read_genotype(name, space=space)
    built = counted(find_space(architecture), architecture)
    assert built == (parameters, reference(flops, 1e4))


def test_the_published_network_has_its_known_size() -> None:
    space = GoldSpace()
    kept = [gate for i, gate in enumerate(space.gates) if S1[i // 28] >> i % 28 & 1]
    places = [gate.place for gate in kept]
    per_cell = [sum(gate.cell == cell for gate in kept) for cell in range(14)]
    assert per_cell == [11, 14, 12, 9, 11, 14, 14, 14, 13, 17, 11, 13, 10, 9]
    assert sum(gate.operator == "sep_conv_3x3" for gate in kept) == 111
    assert sum(gate.operator == "skip_connect" for gate in kept) == 61
    assert sum(places.count(place) == 2 for place in set(places)) == 44
    assert {(gate.cell, gate.node) for gate in kept} == {
        (cell, node) for cell in range(14) for node in range(2, 6)
    }

    parameters, flops = counted(space, space.architecture(kept))
    assert parameters == pytest.approx(3.44e6, abs=0.005e6)
    assert flops == pytest.approx(504.6e6, abs=0.05e6)


def test_the_published_network_comes_back_from_the_notation_it_was_published_in() -> None:
    space = GoldSpace()
    kept = [gate for i, gate in enumerate(space.gates) if S1[i // 28] >> i % 28 & 1]
    gene = [
        [(gate.operator, gate.source, gate.node) for gate in kept if gate.cell == cell]
        for cell in range(14)
    ]
    read = read_genotype(f"Genotype(gene={gene}, concat=range(2, 6))")
    assert read.choices == space.architecture(kept).choices
    built, expected = (find_space(a).build(a) for a in (read, space.architecture(kept)))
    assert repr(built) == repr(expected)


# -- the cheapest network ----------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("cells", "nodes", "operators"), [(1, 2, 2), (2, 2, 1), (1, 3, 1), (1, 3, 2), (1, 1, 3)]
)
def test_the_cheapest_network_is_that_of_a_search_through_all(
    cells: int, nodes: int, operators: int, seed: int
) -> None:
    space = GoldSpace(cells=cells, nodes=nodes, operators=DARTS_OPERATORS[:operators])
    count = len(space.gates)
    generator = np.random.default_rng(seed)
    costs = generator.integers(0, 8, count).astype(float)
    networks = np.arange(2**count)[:, None] >> np.arange(count) & 1 == 1
    for places in places_to_cover(space):
        networks = networks[networks[:, places].any(axis=1)]
    active = networks[generator.integers(len(networks))] | (generator.random(count) < 0.5)

    chosen = cheapest(space, costs, active)

    among = networks[~networks[:, ~active].any(axis=1)]
    assert costs[chosen].sum() == (among @ costs).min()
    assert (among == chosen).all(axis=1).any()


def places_to_cover(space: GoldSpace) -> list[list[int]]:
    """The gates of each node, and those that read each input of each cell."""
    groups: dict[tuple[int, str], list[int]] = {}
    for index, gate in enumerate(space.gates):
        groups.setdefault((gate.cell, f"node {gate.node}"), []).append(index)
        if gate.source in (0, 1):
            groups.setdefault((gate.cell, f"input {gate.source}"), []).append(index)
    return list(groups.values())


# -- what nobody reads -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "source", "dead"),
    [
        pytest.param(1, 0, {"cells.1.preprocess0"}, id="input"),
        pytest.param(2, 1, {"cells.2.preprocess1", "cells.1"}, id="input-and-cell"),
        pytest.param(
            0,
            2,
            {"cells.0.operators.0_2_skip_connect", "cells.0.operators.1_2_sep_conv_3x3"},
            id="node",
        ),
    ],
)
def test_what_nobody_reads_is_neither_built_nor_counted_nor_missed(
    cell: int, source: int, dead: set[str]
) -> None:
    """No operator of this cell reads this source."""
    space = GoldSpace(cells=3, channels=4, nodes=2, input_shape=(1, 8, 8), normal_concat=(3,))
    reads = {gate for gate in space.gates if (gate.cell, gate.source) == (cell, source)}
    whole = space.build(every_operator(space)).eval()
    for gate in reads:  # and nothing else: what they read is still there
        del whole.cells[str(gate.cell)].operators[gate.key]
    architecture = space.architecture(gate for gate in space.gates if gate not in reads)
    network = space.build(architecture).eval()

    assert dead <= {name for name, _ in whole.named_modules()}
    assert not dead & {name for name, _ in network.named_modules()}
    assert counted(space, architecture)[0] < count_parameters(whole)
    assert network.load_state_dict(whole.state_dict(), strict=False).missing_keys == []
    images = torch.randn(2, 1, 8, 8)
    assert torch.equal(network(images), whole(images))


# -- what is refused ---------------------------------------------------------------------------

SMALL = GoldSpace(cells=1, channels=4, nodes=2, input_shape=(1, 8, 8))
SKIPS = {"cell0.0-2": ("skip_connect",), "cell0.1-3": ("skip_connect",)}


@pytest.mark.parametrize(
    "choices",
    [{}, {"cell0.0-2": ("skip_connect",)}, SKIPS | {"cell0.1-3": ()}],
    ids=["empty", "missing", "without operators"],
)
def test_a_node_without_an_operator_is_named(choices: dict[str, tuple[str, ...]]) -> None:
    with pytest.raises(ConfigError, match="node 3 of cell 0 has no operator"):
        SMALL.build(SMALL.architecture_from(choices))


@pytest.mark.parametrize(
    "place",
    [
        *("", "cell0", "cell0.0", "cell.0-2", "cell0.a-2", "cell0-0.2", "cell0.0-2-3"),
        *("cell1.0-2", "cell-1.0-2", "cell0.0-4", "cell0.2-2", "cell0.3-2", "cell0.-1-2"),
        "cell0.0-1",  # into an input
        *("0.0-2", "cell00.0-2", "cell0.0-2 "),  # a second name for an edge
    ],
)
def test_what_is_no_edge_is_refused(place: str) -> None:
    architecture = SMALL.architecture_from(SKIPS | {place: ("sep_conv_3x3",)})
    with pytest.raises(ConfigError, match=r"is not an edge of .*; edges look like cell0\.1-3"):
        SMALL.build(architecture)


@pytest.mark.parametrize("operator", ["conv_7x7", "stem_cifar"])
def test_an_operator_that_no_edge_can_hold_is_answered_with_those_it_can(operator: str) -> None:
    architecture = SMALL.architecture_from(SKIPS | {"cell0.0-3": (operator,)})
    for refused in [
        lambda: SMALL.build(architecture),
        lambda: GoldSpace(operators=("skip_connect", operator)),
    ]:
        with pytest.raises(ConfigError, match=f"unknown operator '{operator}'; known: ") as e:
            refused()
        assert all(name in str(e.value) for name in DARTS_OPERATORS)


@pytest.mark.parametrize(
    "settings",
    [
        {"cells": 0},
        {"channels": 5},
        {"classes": 0},
        {"nodes": 0},
        {"input_shape": [3, 32]},
        {"input_shape": [3, 0, 32]},
        {"operators": []},
        {"operators": ["skip_connect", "skip_connect"]},
        {"width": 3},
        {"cells": "many"},
        # An architecture file that was edited by hand may say any of these.
        {"cells": 2.5},
        {"channels": 8.0},
        {"classes": 2.5},
        {"input_shape": [1.5, 8, 8]},
        {"normal_concat": [2, 9]},
        {"reduce_concat": [0, 2]},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_before_anything_is_built(
    settings: dict[str, object],
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_space("gold", **settings)
    assert "\n" not in str(caught.value)


def test_an_unknown_space_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match="unknown search space 'silver'; known: darts, gold, gold-extended, "
    ):
        make_space("silver")
