"""The fast training pass computes what the plain one does, and keeps what it says it keeps."""

import copy
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from goldnas.errors import ConfigError
from goldnas.gated_cell import GatedCell
from goldnas.network import Cell
from goldnas.search.config import SearchConfig
from goldnas.search.memory import StepMemory, step_memory
from goldnas.search.run import SearchRun
from goldnas.search.setup import autocast_for, supernet_for
from goldnas.search.start import PreparedSearch
from goldnas.spaces import GoldSpace
from goldnas.spaces.gold import DARTS_OPERATORS
from goldnas.supernet import SuperNet

THROUGHPUT = Path(__file__).parent.parent / "benchmarks" / "search_throughput.py"
CPU = torch.device("cpu")
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
    """Of a whole training loss: both heads, and the pressure."""
    images, labels = batch_for(supernet.space)
    logits, auxiliary = net.train()(images)
    loss = F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels)
    loss = loss + supernet.pressure(torch.linspace(0, 2, len(supernet.alpha)).double())
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


def test_they_are_also_after_a_resumption(tmp_path: Path) -> None:
    config = SearchConfig(
        cells=2, channels=4, budgets=("100kFLOPs",), epochs=3, batch_size=256
    )
    search = PreparedSearch(config, []).start(tmp_path / "a")

    def stop(event: str, fields: dict[str, Any]) -> None:
        if event == "step" and fields["epoch"] == 2:
            raise KeyboardInterrupt

    search.observer = stop
    with pytest.raises(KeyboardInterrupt):
        search.search()
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "a")).supernet.double()
    assert not resumed.active.all()
    assert_same(loss_and_gradients(resumed, resumed), plainly(resumed))


def test_checkpointing_changes_neither_gradients_nor_statistics() -> None:
    space = space_of(operators=DARTS_OPERATORS)
    kept, again = randomised(space), randomised(space, checkpointing=True)
    assert_same(loss_and_gradients(again, again), loss_and_gradients(kept, kept))
    states = kept.state_dict()
    for name, value in again.state_dict().items():
        assert torch.equal(value, states[name]), name


def throughput() -> ModuleType:
    spec = importlib.util.spec_from_file_location("search_throughput", THROUGHPUT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("zeroed", [False, True])
def test_what_the_benchmark_compares_with_computes_the_same(zeroed: bool) -> None:
    """And so is a second way to write the plain path, edge by edge."""
    whole = randomised(space_of())
    less = pruned(copy.deepcopy(whole), 0.6)
    net = throughput().PerOperatorNet(whole)
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


# -- memory ------------------------------------------------------------------------------------


def estimate(config: SearchConfig, supernet: SuperNet) -> StepMemory:
    return step_memory(supernet, CPU, lambda: autocast_for(config, CPU))


def test_the_estimate_leaves_the_super_network_as_it_was() -> None:
    config = SearchConfig(budgets=("1MFLOPs",), checkpointing=True)
    supernet = supernet_for(config, space_of(), CPU)
    before = copy.deepcopy(supernet.state_dict())
    estimate(config, supernet)
    assert all(torch.equal(value, before[n]) for n, value in supernet.state_dict().items())
    cells = [m for m in supernet.modules() if isinstance(m, GatedCell)]
    assert all(cell.checkpointing and not cell._forward_hooks for cell in cells)


def test_the_estimate_falls_as_operators_go_and_with_bf16_and_checkpointing() -> None:
    settings: dict[str, Any] = {"budgets": ("1MFLOPs",)}
    plain = SearchConfig(**settings)
    supernet = supernet_for(plain, space_of(channels=8, input_shape=(3, 16, 16)), CPU)
    full = estimate(plain, supernet)
    half = estimate(SearchConfig(**settings, amp="bf16"), supernet)
    assert 0.4 < half.image_bytes / full.image_bytes < 0.7
    for cell in supernet.modules():
        if isinstance(cell, GatedCell):
            cell.checkpointing = True
    assert estimate(plain, supernet).image_bytes < 0.6 * full.image_bytes
    for cell in supernet.modules():
        if isinstance(cell, GatedCell):
            cell.checkpointing = False
    less = estimate(plain, pruned(supernet, 0.9))
    assert less.image_bytes < 0.5 * full.image_bytes
    assert less.fixed_bytes < full.fixed_bytes


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="asks Linux for its memory")
@pytest.mark.parametrize("share", ["full", "quarter"])
def test_the_estimate_is_what_a_process_grows_by(share: str) -> None:
    module = throughput()
    _, data, feasibility, _ = module.set_up("8,5,128", [], CPU)
    config = SearchConfig(cells=5, channels=8, budgets=("1GFLOPs",))
    supernet = supernet_for(config, data.space, CPU)
    left = supernet.active.numpy()
    supernet.prune(module.to_remove(feasibility, left, module.SHARES[share]))
    expected = estimate(config, supernet).step_bytes(128)
    command = [sys.executable, THROUGHPUT, "--case", "8,5,128", "--peak", "goldnas", share]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert int(result.stdout) == pytest.approx(expected, rel=0.2)


def test_the_largest_batch_is_a_power_of_two_that_fits() -> None:
    memory = StepMemory(fixed_bytes=1000, image_bytes=100)
    assert memory.step_bytes(10) == 2000
    assert memory.largest_batch(free_bytes=10**9, num_images=45_000) == 512
    assert memory.largest_batch(free_bytes=10**9, num_images=100) == 64
    assert memory.largest_batch(free_bytes=2 * (1000 + 6400), num_images=45_000) == 64
    for free in range(1400, 40_000, 500):
        batch_size = memory.largest_batch(free, 45_000)
        assert memory.step_bytes(batch_size) <= 0.9 * free < memory.step_bytes(2 * batch_size)
    with pytest.raises(ConfigError, match=r"two pictures needs .* --checkpointing"):
        memory.largest_batch(free_bytes=1200, num_images=45_000)
