"""Choices that keep nothing, or what puts out nothing, and the operators that nobody reads."""

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import goldnas
import own_spaces
from goldnas.errors import ConfigError
from goldnas.exporting.onnx import check_onnx, to_onnx
from goldnas.operators import find_part
from goldnas.profiling.compose import compose_network
from goldnas.profiling.session import Session
from goldnas.profiling.torch_module import to_torch
from goldnas.resources import Flops, compute_costs, count_flops, count_parameters
from goldnas.resources.costs import sum_costs
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.feasibility import Mask, cheapest
from goldnas.searching.sampler import BudgetedSampler
from goldnas.spaces import make_space
from goldnas.spaces.nasbench201 import read_cell
from goldnas.supernet import SuperNet
from searches import search
from simulated_device import SimulatedDevice

SPACE = make_space(own_spaces.forked)
NAMES = [gate.name for gate in SPACE.gates]
EVERYTHING = np.ones(len(NAMES), dtype=bool)
LEFT = {"left": ("skip",), "right": ("none",), "2": ("pool",)}
"""The right way passes nothing on, and nobody reads what is between its choices."""


def architecture(choices: dict[str, tuple[str, ...]]) -> goldnas.Architecture:
    return goldnas.Architecture(space=SPACE.name, settings=SPACE.settings, choices=choices)


def mask_of(*names: str) -> Mask:
    return np.array([name in names for name in NAMES])


def every_mask() -> list[Mask]:
    """Of all networks that the groups of the space allow."""
    masks = (np.array(bits) for bits in itertools.product([False, True], repeat=len(NAMES)))
    return [m for m in masks if all(m[list(group)].any() for group in SPACE.groups)]


def is_linked(mask: Mask) -> bool:
    return SPACE.wiring.is_linked(np.flatnonzero(mask))


# -- one network -------------------------------------------------------------------------------


def test_an_empty_choice_is_left_out_of_architectures_and_one_more_network() -> None:
    assert SPACE.groups == ((2, 3), (6, 7, 8))
    assert 10 ** SPACE.log10_size() == pytest.approx(4 * 3 * 4 * 7 * 4)
    some = SPACE.architecture([gate for gate in SPACE.gates if gate.place in ("left", "2")])
    assert set(some.choices) == {"left", "2"}


def test_what_nobody_reads_is_neither_built_nor_counted() -> None:
    network = SPACE.build(architecture(LEFT))
    kinds = [type(m).__name__ for m in network.modules() if find_part(m) is not None]
    assert kinds == ["Sequential", "Identity", "Sequential", "Identity", "Sequential"]
    flops = 1 * 4 * 9 * 64 + 4 * 8 * 16 + 80  # stem, pool, head
    assert count_flops(network, (1, 8, 8)) == flops
    parts = tuple(SPACE.plan(architecture(LEFT)).parts())
    assert sum_costs(Flops(SPACE.build_part), parts) == flops
    whole = SPACE.build(SPACE.architecture(SPACE.gates)).state_dict()
    assert network.state_dict().keys() < whole.keys()


def test_an_operator_before_an_empty_choice_is_not_read_however_much_it_computes() -> None:
    """As long as the others of its shared decision are not read either."""
    kept = architecture(LEFT | {"right": ("conv_1x1",)})
    assert count_flops(SPACE.build(kept), (1, 8, 8)) == count_flops(
        SPACE.build(architecture(LEFT)), (1, 8, 8)
    )
    read = architecture(LEFT | {"right": ("conv_1x1",), "1.last": ("add",)})
    more = count_flops(SPACE.build(read), (1, 8, 8)) - count_flops(SPACE.build(kept), (1, 8, 8))
    assert more == 2 * 4 * 4 * 64  # the convolution and the one behind it, of the first place


def test_a_cell_of_nasbench201_does_not_count_what_reaches_nothing() -> None:
    text = "|nor_conv_3x3~0|+|skip_connect~0|none~1|+|none~0|none~1|skip_connect~2|"
    network = make_space("nasbench201").build(read_cell(text))
    assert count_flops(network, (3, 32, 32)) == 7_783_040


@pytest.mark.parametrize(
    "choices",
    [
        {"right": ("none",), "2": ("pool",)},
        {"left": ("skip",), "right": ("none",), "2": ("none",)},
        {"right": ("conv_1x1",), "2": ("conv",), "1.last": ("add",)},
    ],
)
def test_a_network_whose_output_knows_nothing_of_its_input_is_refused(
    choices: dict[str, tuple[str, ...]],
) -> None:
    for make in (SPACE.plan, SPACE.build):
        with pytest.raises(ConfigError, match="would not depend on its input"):
            make(architecture(choices))


def test_a_choice_that_has_to_keep_one_cannot_be_left_out() -> None:
    with pytest.raises(ConfigError, match="keeps no candidate at 2"):
        SPACE.plan(architecture({"left": ("skip",), "right": ("none",)}))


def test_an_empty_network_is_exported_without_what_nobody_reads() -> None:
    network = SPACE.build(architecture(LEFT))
    whole = onnx.load_model_from_string(to_onnx(network, (1, 1, 8, 8)))
    kinds = [node.op_type for node in whole.graph.node]
    assert kinds.count("Conv") == 2
    assert not {"Mul", "Add", "ConstantOfShape"} & set(kinds)
    session = Session(SimulatedDevice())
    export = lambda part: session.operator(part, build=SPACE.build_part)  # noqa: E731
    joined = onnx.load_model_from_string(compose_network(network, export, (1, 1, 8, 8)))
    kinds = [node.op_type for node in joined.graph.node]
    assert (kinds.count("Conv"), kinds.count("Add")) == (2, 0)


@pytest.mark.parametrize("dynamic_batch", [False, True])
def test_zeros_that_are_read_are_exported(dynamic_batch: bool) -> None:
    """Beside what is read, in a concatenation."""
    kept = architecture(
        {"right": ("none",), "2": ("pool",), "1.last": ("add",), "3.last": ("join",)}
    )
    network = SPACE.build(kept).eval()
    model = to_onnx(network, (1, 1, 8, 8), dynamic_batch=dynamic_batch)
    shape = (3 if dynamic_batch else 1, 1, 8, 8)
    assert check_onnx(model, network, shape) < 1e-5
    if not dynamic_batch:
        images = torch.randn(shape)
        torch.testing.assert_close(to_torch(model)(images), network(images))


def test_a_zero_has_the_shape_of_the_others_and_no_row() -> None:
    assert not any(gate.parts for gate in SPACE.gates if gate.key == "none")
    choice = SPACE.build(SPACE.architecture(SPACE.gates)).get_submodule("2")
    assert isinstance(choice, goldnas.Choice)
    for key in ("conv", "pool"):
        del choice.operators[key]
    for mode in (True, False):
        assert torch.equal(choice.train(mode)(torch.ones(2, 4, 8, 8)), torch.zeros(2, 8, 4, 4))


class Decides(nn.Module):
    """Its forward goes by a number that a part puts out."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.other = own_spaces.conv(1, 4), own_spaces.conv(1, 4)
        self.choice = goldnas.Choice({"skip": nn.Identity}, optional=True)
        self.head = own_spaces.head(4, 10)
        self.unused = own_spaces.conv(1, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.unused(x)
        y = self.stem(x)
        if self.other(x).sum().item() > 1e9:
            y = 2 * y
        y[:, :2] += 1
        return self.head(y + self.choice(y))


def decides() -> nn.Module:
    return Decides()


def test_what_decides_by_a_number_is_read_and_what_is_overwritten_in_part_too() -> None:
    space = make_space(decides, input_shape=[1, 8, 8])
    names = [name for name, _ in space.build(space.architecture(())).named_parameters()]
    assert {name.split(".")[0] for name in names} == {"stem", "other", "head"}


# -- searches ----------------------------------------------------------------------------------


def test_gates_of_an_empty_choice_are_no_nan_and_gradients_are_finite() -> None:
    supernet = SuperNet(SPACE)
    supernet.prune([NAMES.index("left.conv_3x3"), NAMES.index("left.skip")])
    images = torch.randn(2, 1, 8, 8)
    loss = supernet(images)[0].square().sum() + supernet.penalty(torch.ones(len(NAMES)))
    loss.backward()
    assert supernet.alpha.grad is not None
    assert supernet.alpha.grad.isfinite().all()
    for weights in (supernet.relative_weights(), supernet.normalised_weights()):
        assert weights.isfinite().all()
    kept = mask_of("right.conv_1x1", "1.last.add", "2.conv", "3.last.add")
    with supernet.restrict(torch.from_numpy(kept)):
        assert supernet(images)[0].isfinite().all()


def test_the_cheapest_network_is_linked_and_keeps_nothing_that_nobody_reads() -> None:
    """As all networks say, tried one by one."""

    def is_read(mask: Mask) -> bool:
        unread = SPACE.wiring.unread(np.flatnonzero(mask))
        kept = [gate for gate, keep in zip(SPACE.gates, mask, strict=True) if keep]
        return not any(gate.paths and unread.issuperset(gate.paths) for gate in kept)

    masks = [mask for mask in every_mask() if is_linked(mask) and is_read(mask)]
    for seed in range(5):
        weights = np.random.default_rng(seed).random(len(NAMES))
        least = min(weights[mask].sum() for mask in masks)
        found = cheapest(SPACE, weights, EVERYTHING)
        assert found is not None
        assert weights[found].sum() == pytest.approx(least)


@pytest.mark.parametrize("single", [False, True])
def test_pruning_in_any_order_leaves_a_network(single: bool) -> None:
    feasibility = build_feasibility(SPACE, ["20kFLOPs"], single=single)
    for seed in range(3):
        active = EVERYTHING.copy()
        for index in np.random.default_rng(seed).permutation(len(NAMES)):
            if feasibility.may_prune(active, int(index)):
                active[index] = False
        assert is_linked(active)
        assert feasibility.within(active)
        SPACE.build(SPACE.architecture(SPACE.gates[i] for i in np.flatnonzero(active)))


def test_random_networks_are_linked_and_single_leaves_one_or_none() -> None:
    feasibility = build_feasibility(SPACE, ["40kFLOPs"], single=True)
    sampler = BudgetedSampler(feasibility, 0)
    drawn = [sampler.draw() for _ in range(60)]
    assert all(is_linked(mask) and feasibility.within(mask) for mask in drawn)
    kept = [{NAMES[index].rpartition(".")[0] for index in np.flatnonzero(m)} for m in drawn]
    assert all(len(places) == mask.sum() for places, mask in zip(kept, drawn, strict=True))
    assert {len(places) for places in kept} == {3, 4, 5}


def test_what_a_network_is_said_to_cost_is_what_is_built(tmp_path: Path) -> None:
    """Budgets hold for all operators that are kept; figures are of those that are read."""
    run = search(
        tmp_path / "a",
        space=own_spaces.forked,
        **{"strategy": "random", "networks": 6, "score": None, "epochs": 1, "cells": None},
        **{"budgets": ("60kFLOPs",), "channels": None, "auxiliary_weight": 0.0, "seed": 3},
    )
    space = make_space(own_spaces.forked)
    costs = compute_costs(space, Flops(space.build_part))
    for network in run.front:
        built = network.build()
        assert network.resources["FLOPs"] == count_flops(built, (1, 8, 8))
        assert network.resources["params"] == count_parameters(built)
        keys = {(p, key) for p, some in network.architecture.choices.items() for key in some}
        kept = np.array([(gate.place, gate.key) in keys for gate in space.gates])
        assert network.resources["FLOPs"] <= costs.total(kept) <= 60e3
