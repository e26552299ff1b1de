"""A folded module computes what the module computes, with fewer layers and no gates."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from exported import EXAMPLES, FIXED_STRIDE
from goldnas.exporting.fold import fold
from goldnas.network import Cell
from goldnas.operators import OPERATORS, build_operator
from goldnas.operators.skip import FactorizedReduce
from goldnas.site import Site
from goldnas.spaces import DARTS_OPERATORS, GoldImageNetSpace, GoldSpace

CASES = [
    pytest.param(name, Site(8, 8, 7, 9, stride, affine), id=f"{name}-{stride}-{affine}")
    for name in sorted([*OPERATORS, *EXAMPLES])
    for stride in ([FIXED_STRIDE[name]] if name in FIXED_STRIDE else [1, 2])
    for affine in (False, True)
]


def as_if_trained(module: nn.Module) -> None:
    """Give every normalisation statistics, and every cell gates, that change the output."""
    torch.manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_()
            part.running_var.uniform_(0.2, 3.0)
            for parameter in part.parameters():
                nn.init.uniform_(parameter, -2.0, 2.0)
        elif isinstance(part, Cell) and part.gates is not None:
            part.gates.uniform_(0.05, 0.95)


def largest_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).abs().max() / expected.abs().max()).item()


def assert_folded(module: nn.Module) -> None:
    for part in module.modules():
        if isinstance(part, nn.Sequential):
            for before, after in pairwise(part):
                assert not (isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d))
        elif isinstance(part, FactorizedReduce):
            assert isinstance(part.norm, nn.Identity)
        elif isinstance(part, Cell):
            assert part.gates is None


@pytest.mark.parametrize(("name", "site"), CASES)
def test_a_folded_operator_computes_the_same(name: str, site: Site) -> None:
    operator = build_operator(name, site).double()
    as_if_trained(operator)
    images = torch.randn(2, *site.input_shape, dtype=torch.float64)
    result = fold(operator)
    assert largest_error(result(images), operator.eval()(images)) < 1e-12
    assert_folded(result)


@pytest.mark.parametrize(
    ("name", "site"), [case for case in CASES if case.values[0] not in FIXED_STRIDE]
)
def test_a_gate_moves_into_its_operator(name: str, site: Site) -> None:
    """Also where no normalisation can take it in: pooling in evaluation."""
    operators = {"0_2_a": build_operator(name, site), "0_2_b": build_operator(name, site)}
    cell = Cell(nn.Identity(), None, operators, (2,), gated=True).double()
    as_if_trained(cell)
    images = torch.randn(2, *site.input_shape, dtype=torch.float64)
    result = fold(cell)
    assert largest_error(result(images, images), cell.eval()(images, images)) < 1e-12
    assert_folded(result)


@pytest.mark.parametrize(
    ("kind", "affine", "gated"),
    [
        (GoldSpace, False, False),
        (GoldSpace, False, True),
        (GoldSpace, True, False),
        (GoldSpace, True, True),
        (GoldImageNetSpace, False, True),
    ],
)
def test_a_folded_network_computes_the_same(
    kind: type[GoldSpace], affine: bool, gated: bool
) -> None:
    settings = {"cells": 3, "channels": 4, "input_shape": (1, 9, 9), "nodes": 2}
    space = kind(operators=DARTS_OPERATORS, affine=affine, **settings)
    network = space.build(space.architecture(space.gates), gated=gated)
    as_if_trained(network)
    images = torch.randn(2, 1, 9, 9)
    result = fold(network)
    assert largest_error(result(images), network.eval()(images)) < 1e-5
    assert_folded(result)


def test_the_module_itself_stays_as_it_is() -> None:
    space = GoldSpace(cells=3, channels=4, input_shape=(1, 8, 8))
    network = space.build(space.architecture(space.gates), gated=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fold(network)
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    after = network.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
