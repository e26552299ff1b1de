"""The fast training pass computes what the plain one does, to rounding."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from goldnas.gated_cell import GatedCell
from goldnas.network import Cell
from goldnas.searching.folder import SearchRun
from goldnas.searching.start import PreparedSearch
from goldnas.spaces import DARTS_OPERATORS, GoldSpace
from goldnas.supernet import SuperNet
from nightly import at_night
from scripts import benchmark
from searches import stop_search

TWO = ("skip_connect", "sep_conv_3x3")


def space_of(**settings: Any) -> GoldSpace:
    shape = {"cells": 3, "channels": 4, "input_shape": (2, 9, 8), "classes": 3}
    return GoldSpace(**(shape | settings))


def randomised(space: GoldSpace, **settings: bool) -> SuperNet:
    torch.manual_seed(0)
    supernet = SuperNet(space, auxiliary=True, **settings).double()
    with torch.no_grad():
        supernet.alpha.normal_()
    return supernet


def pruned(supernet: SuperNet, share: float) -> SuperNet:
    """Remove a share of the operators, by chance, and leave every group one."""
    left = np.ones(len(supernet.space.gates), dtype=bool)
    order = np.random.default_rng(0).permutation(len(left))
    for index in order[: round(share * len(left))]:
        if all(index not in g or left[list(g)].sum() > 1 for g in supernet.space.groups):
            left[index] = False
    supernet.prune(np.flatnonzero(~left & supernet.active.numpy()).tolist())
    return supernet


def batch_for(space: GoldSpace, size: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(size, *space.input_shape, dtype=torch.float64, generator=generator)
    return images, torch.arange(size) % space.classes


def loss_and_gradients(net: Any, supernet: SuperNet) -> tuple[Tensor, dict[str, Tensor]]:
    """Of a whole training loss: both heads, and the penalty."""
    images, labels = batch_for(supernet.space)
    logits, auxiliary = net.train()(images)
    loss = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels)
    loss = loss + supernet.penalty(torch.linspace(0, 2, len(supernet.alpha)).double())
    parameters = dict(supernet.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()))
    return loss.detach(), dict(zip(parameters, gradients, strict=True))


def plainly(supernet: SuperNet) -> tuple[Tensor, dict[str, Tensor]]:
    """Operator by operator, as the cell is written to be read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GatedCell, "forward", Cell.forward)
        return loss_and_gradients(supernet, supernet)


def assert_same(
    fast: tuple[Tensor, dict[str, Tensor]], plain: tuple[Tensor, dict[str, Tensor]]
) -> None:
    """The loss and each gradient, to 1e-10 of its norm."""
    pairs = {"loss": (fast[0], plain[0])} | {n: (fast[1][n], plain[1][n]) for n in plain[1]}
    errors = {n: float((a - b).norm() / b.norm()) for n, (a, b) in pairs.items()}
    assert len(errors) > 20
    worst = max(errors, key=lambda name: errors[name])
    assert errors[worst] < 1e-10, worst


@pytest.mark.parametrize("operators", [TWO, DARTS_OPERATORS], ids=["gold", "darts"])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.9])
def test_loss_and_every_gradient_are_those_of_the_plain_path(
    operators: tuple[str, ...], affine: bool, share: float
) -> None:
    supernet = pruned(randomised(space_of(operators=operators, affine=affine)), share)
    other = copy.deepcopy(supernet)
    assert_same(loss_and_gradients(supernet, supernet), plainly(other))
    statistics = dict(other.named_buffers())
    for name, value in supernet.named_buffers():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(value, statistics[name], rtol=1e-12, atol=1e-14)


@at_night
def test_they_are_also_after_a_resumption(tmp_path: Path) -> None:
    settings = {"cells": 2, "channels": 4, "epochs": 3, "batch_size": 256}
    stop_search(tmp_path / "a", "step", 13, **settings)
    loop: Any = PreparedSearch.resume(SearchRun.open(tmp_path / "a"))
    resumed = loop.learner.supernet.double()
    assert not resumed.active.all()
    assert_same(loss_and_gradients(resumed, resumed), plainly(resumed))


def test_checkpointing_changes_neither_gradients_nor_statistics() -> None:
    space = space_of(operators=DARTS_OPERATORS)
    kept, again = randomised(space), randomised(space, checkpointing=True)
    assert_same(loss_and_gradients(again, again), loss_and_gradients(kept, kept))
    states = kept.state_dict()
    for name, value in again.state_dict().items():
        assert torch.equal(value, states[name]), name


@pytest.mark.parametrize("zeroed", [False, True])
def test_what_the_benchmark_compares_with_computes_the_same(zeroed: bool) -> None:
    """And so is a second way to write the plain path, edge by edge."""
    whole = randomised(space_of())
    less = pruned(copy.deepcopy(whole), 0.6)
    net = benchmark("search_throughput").PerOperatorNet(whole)
    net.prune(torch.nonzero(~less.active).flatten().tolist(), zeroed=zeroed)
    parameters = dict(whole.named_parameters())
    images, labels = batch_for(whole.space)
    for expected, found in zip(less.train()(images), net.train()(images), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    F.cross_entropy(net(images)[0], labels).backward()
    loss = F.cross_entropy(less(images)[0], labels)
    loss.backward()
    for name, parameter in less.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                parameters[name].grad, parameter.grad, rtol=1e-8, atol=1e-12
            )
