"""One active set and one normaliser per node, wherever the gates are read."""

import math
from collections import Counter

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from goldnas.auxiliary_head import Quarters
from goldnas.resources import (
    Budget,
    Costs,
    Flops,
    Parameters,
    compute_costs,
    count_flops,
    count_parameters,
)
from goldnas.searching.config import SearchConfig
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.schedules import AlgorithmOneSchedule, GateWeights
from goldnas.spaces import GoldSpace
from goldnas.supernet import SuperNet

SPACE = GoldSpace(cells=2, channels=4, input_shape=(1, 8, 8), classes=3)
GATES = range(len(SPACE.gates))
IMAGES = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def rest_covers(left: npt.NDArray[np.bool_], index: int) -> bool:
    """Whether every node, and every input of a cell, stays covered without this gate."""
    return all(index not in g or left[list(g)].sum() > 1 for g in SPACE.groups)


def pruned_at_random(seed: int, count: int = 30) -> SuperNet:
    """A super-network in the middle of a search: random gates, half of the operators gone."""
    torch.manual_seed(seed)
    supernet = SuperNet(SPACE)
    with torch.no_grad():
        supernet.alpha.normal_(0.0, 2.0)
        for _ in range(2):
            supernet(torch.randn(4, 1, 8, 8))  # statistics that change the output
    left = np.ones(len(GATES), dtype=bool)
    for index in np.random.default_rng(seed).permutation(len(GATES)):
        if rest_covers(left, index) and left.sum() > len(GATES) - count:
            left[index] = False
    supernet.prune(np.flatnonzero(~left).tolist())
    return supernet


def nodes_of(supernet: SuperNet) -> dict[tuple[int, int], list[int]]:
    """The active gates that enter each node, read from the modules and nothing else."""
    nodes: dict[tuple[int, int], list[int]] = {}
    for index, gate in enumerate(supernet.space.gates):
        if gate.key in supernet.network.cells[str(gate.cell)].operators:
            nodes.setdefault((gate.cell, gate.node), []).append(index)
    return nodes


def gates_of(supernet: SuperNet) -> list[float]:
    return [1 / (1 + math.exp(-alpha)) for alpha in supernet.alpha.tolist()]


def weights_of(supernet: SuperNet) -> GateWeights:
    with torch.no_grad():
        return GateWeights(
            normalised=supernet.normalised_weights().double().numpy(),
            relative=supernet.relative_weights().double().numpy(),
        )


# -- one normaliser per node, in all four places -----------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_a_node_sum_to_one_over_its_active_operators(seed: int) -> None:
    supernet = pruned_at_random(seed)
    weights, sigma = weights_of(supernet), gates_of(supernet)
    nodes = nodes_of(supernet)
    assert len(nodes) == 8
    expected = np.zeros(len(GATES))
    for active in nodes.values():
        expected[active] = [sigma[i] / sum(sigma[k] for k in active) for i in active]
        assert weights.normalised[active].sum() == pytest.approx(1, abs=1e-6)
        assert weights.relative[active].mean() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(weights.normalised, expected, atol=1e-6)
    count = {i: len(active) for active in nodes.values() for i in active}
    expected *= [count.get(i, 0) for i in GATES]
    np.testing.assert_allclose(weights.relative, expected, atol=1e-5)
    assert ((weights.normalised > 0) == supernet.active.numpy()).all()


def test_the_share_of_an_operator_depends_on_all_that_enter_its_node_and_on_no_other() -> None:
    """On every node and edge: not just on the first edge of a node."""
    supernet = pruned_at_random(0)
    node_of = {i: node for node, active in nodes_of(supernet).items() for i in active}
    before = weights_of(supernet).normalised
    alpha = supernet.alpha.detach().clone()
    for index in GATES:
        with torch.no_grad():
            supernet.alpha.copy_(alpha)
            supernet.alpha[index] += 1.0
        changed = np.flatnonzero(weights_of(supernet).normalised != before)
        mates = [i for i in node_of if index in node_of and node_of[i] == node_of[index]]
        assert changed.tolist() == (mates if len(mates) > 1 else [])


@pytest.mark.parametrize("seed", range(3))
def test_the_cost_is_that_of_a_plain_loop_over_nodes(seed: int) -> None:
    supernet = pruned_at_random(seed).double()
    costs = np.random.default_rng(seed).exponential(size=len(GATES))
    sigma, expected = gates_of(supernet), 0.0
    for active in nodes_of(supernet).values():
        total = sum(sigma[i] for i in active)
        for i in active:
            share = sigma[i] / total
            expected += costs[i] * math.log(1 + len(active) * share)
    penalty = supernet.penalty(torch.from_numpy(costs)).item()
    assert penalty == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_a_node_is_the_sum_of_its_active_operators_times_their_gates(seed: int) -> None:
    supernet = pruned_at_random(seed).eval()
    outputs: dict[tuple[str, str], Tensor] = {}
    cells: dict[str, Tensor] = {}
    for cell, module in supernet.network.cells.items():
        module.register_forward_hook(lambda m, i, out, c=cell: cells.update({c: out}))
        for key, operator in module.operators.items():
            operator.register_forward_hook(
                lambda m, i, out, c=cell, k=key: outputs.update({(c, k): out})
            )
    supernet(IMAGES)
    sigma = gates_of(supernet)
    nodes = nodes_of(supernet)
    assert len(outputs) == sum(map(len, nodes.values()))
    for (cell, node), active in nodes.items():
        expected = sum(sigma[i] * outputs[str(cell), SPACE.gates[i].key] for i in active)
        torch.testing.assert_close(cells[str(cell)].chunk(4, dim=1)[node - 2], expected)


@pytest.mark.parametrize("seed", range(2))
def test_a_weak_operator_is_pruned_on_whatever_edge_it_is(seed: int) -> None:
    """The pace sees the shares that the cost sees; none of a node's edges is left out."""
    supernet = pruned_at_random(seed, count=20 * seed)
    active = supernet.active.numpy().copy()
    one_less = Budget("operators", active.sum() - 1, "one less")
    costs = Costs("operators", np.ones(len(GATES)), 0.0)
    feasibility = Feasibility(SPACE, [costs], [one_less])
    for index in np.flatnonzero(active):
        with torch.no_grad():
            supernet.alpha.zero_()
            supernet.alpha[index] = -9.0
        schedule = AlgorithmOneSchedule(
            SearchConfig(budgets=("1MFLOPs",)), feasibility, 1, len(GATES)
        )
        chosen = schedule.choose(0, weights_of(supernet), active)
        assert chosen == ([index] if rest_covers(active, index) else [])


@pytest.mark.parametrize("seed", range(2))
def test_counts_after_pruning_are_those_of_what_is_left(seed: int) -> None:
    """Computed, counted by the costs, and counted on the network built afresh: all equal."""
    supernet = pruned_at_random(seed).eval()
    network = SPACE.build(SPACE.architecture(supernet.active_gates()))
    active = supernet.active.numpy()
    flops = count_flops(network, SPACE.input_shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        supernet(IMAGES[:1])
    assert counter.get_total_flops() / 2 == flops
    assert compute_costs(SPACE, Flops()).total(active) == flops
    parameters = count_parameters(network)
    assert count_parameters(supernet.network) == parameters
    assert compute_costs(SPACE, Parameters()).total(active) == parameters


# -- the cost's mathematics --------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "gates"), [(14, 392), (20, 560)])
def test_the_uniform_term_starts_at_ln_2_per_gate_and_ends_at_ln_2_per_node(
    cells: int, gates: int
) -> None:
    space = GoldSpace(cells=cells, channels=2, input_shape=(1, 8, 8), classes=2)
    supernet = SuperNet(space)
    ones = torch.ones(gates)
    assert supernet.penalty(ones).item() == pytest.approx(gates * math.log(2), rel=1e-6)
    first = {(gate.cell, gate.node): i for i, gate in reversed([*enumerate(space.gates)])}
    supernet.prune(set(range(gates)) - set(first.values()))
    assert supernet.penalty(ones).item() == pytest.approx(4 * cells * math.log(2), rel=1e-6)


def test_equal_costs_press_nothing_at_the_uniform_point() -> None:
    supernet = SuperNet(SPACE).double()
    (gradient,) = torch.autograd.grad(supernet.penalty(torch.ones(len(GATES))), supernet.alpha)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-15, rtol=0)


def test_at_the_uniform_point_what_costs_more_than_the_mean_of_its_node_goes_down() -> None:
    """The closed form: K / 2S (cost - mean cost) by a gate, times its slope, a quarter."""
    supernet = pruned_at_random(0).double()
    with torch.no_grad():
        supernet.alpha.zero_()
    costs = torch.rand(len(GATES), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(supernet.penalty(costs), supernet.alpha)
    expected = torch.zeros_like(gradient)
    for active in nodes_of(supernet).values():
        expected[active] = 0.25 * (costs[active] - costs[active].mean())
    torch.testing.assert_close(gradient, expected, atol=1e-15, rtol=1e-12)


def test_the_weaker_of_two_is_pressed_down_and_the_stronger_up() -> None:
    supernet = SuperNet(SPACE)
    with torch.no_grad():
        supernet.alpha[::2] = 0.5
        supernet.alpha[1::2] = -0.5
    supernet.penalty(torch.ones(len(GATES))).backward()
    assert supernet.alpha.grad is not None
    assert (supernet.alpha.grad[::2] < 0).all()  # descent raises it
    assert (supernet.alpha.grad[1::2] > 0).all()


def test_scaling_all_gates_of_a_node_changes_neither_cost_nor_shares() -> None:
    supernet = pruned_at_random(0).double()
    costs = torch.rand(len(GATES), dtype=torch.float64)
    before, shares = supernet.penalty(costs).item(), weights_of(supernet).normalised
    with torch.no_grad():
        for factor, active in enumerate(nodes_of(supernet).values(), 1):
            gates = torch.sigmoid(supernet.alpha[active])
            supernet.alpha[active] = torch.logit(gates * factor / 9)
    assert supernet.penalty(costs).item() == pytest.approx(before, rel=1e-12)
    np.testing.assert_allclose(weights_of(supernet).normalised, shares, rtol=1e-12)


def test_the_gradient_of_the_cost_is_its_finite_difference() -> None:
    supernet = pruned_at_random(1).double()
    costs = torch.rand(len(GATES), dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda alpha: supernet.penalty(costs), supernet.alpha)


# -- pruning -----------------------------------------------------------------------------------


def test_a_pruned_operator_leaves_the_module_tree_and_its_parameters_are_returned() -> None:
    supernet = SuperNet(SPACE)
    index = next(i for i in GATES if SPACE.gates[i].name == "cell1.2-5.sep_conv_3x3")
    operator = supernet.network.cells["1"].operators["2_5_sep_conv_3x3"]
    others = len(list(supernet.modules())) - len(list(operator.modules()))
    removed = supernet.prune([index])
    assert {id(p) for p in removed} == {id(p) for p in operator.parameters()}
    assert len(removed) == 4
    assert len(list(supernet.modules())) == others
    assert operator not in set(supernet.modules())
    assert not {id(p) for p in removed} & {id(p) for p in supernet.parameters()}
    assert SPACE.gates[index] not in supernet.active_gates()
    assert len(supernet.active_gates()) == len(GATES) - 1


def test_a_pruned_operator_is_not_computed_and_every_other_once() -> None:
    supernet = SuperNet(SPACE).eval()
    calls: Counter[str] = Counter()
    for gate in SPACE.gates:
        module: nn.Module = supernet.network.cells[str(gate.cell)].operators[gate.key]
        module.register_forward_hook(lambda m, i, out, name=gate.name: calls.update([name]))
    supernet(IMAGES)
    assert calls == Counter({gate.name: 1 for gate in SPACE.gates})
    calls.clear()
    supernet.prune(range(1, len(GATES), 2))
    supernet(IMAGES)
    assert calls == Counter({gate.name: 1 for gate in SPACE.gates[::2]})


def test_a_pruned_gate_is_zero_and_gets_no_gradient_from_loss_or_cost() -> None:
    supernet = pruned_at_random(0).train()
    pruned = ~supernet.active
    assert (supernet.gates()[pruned] == 0).all()
    assert (supernet.gates()[~pruned] > 0).all()
    logits, _ = supernet(IMAGES)
    loss = F.cross_entropy(logits, torch.tensor([0, 1, 2, 0]))
    (loss + supernet.penalty(torch.rand(len(GATES)))).backward()
    assert supernet.alpha.grad is not None
    assert supernet.alpha.grad.isfinite().all()
    assert (supernet.alpha.grad[pruned] == 0).all()
    assert (supernet.alpha.grad[~pruned] != 0).all()


@pytest.mark.parametrize("alpha", [-20.0, 0.0, 20.0])
def test_the_last_operator_of_a_node_has_all_of_its_share(alpha: float) -> None:
    """So that no threshold ever prunes it."""
    supernet = SuperNet(SPACE)
    last = [i for i in GATES if (SPACE.gates[i].source, SPACE.gates[i].node) == (1, 3)]
    mates = [i for i in GATES if SPACE.gates[i].node == 3 and i not in last[::2]]
    supernet.prune(mates)
    with torch.no_grad():
        supernet.alpha.fill_(alpha)
    weights = weights_of(supernet)
    assert weights.normalised[last[::2]].tolist() == [1.0, 1.0]
    assert weights.relative[last[::2]].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("seed", range(2))
def test_the_network_that_is_left_computes_what_the_search_computed_to_the_last_bit(
    seed: int,
) -> None:
    supernet = pruned_at_random(seed).eval()
    network = SPACE.build(SPACE.architecture(supernet.active_gates()), gated=True).eval()
    assert not torch.equal(network(IMAGES), supernet(IMAGES)[0])
    network.load_state_dict(supernet.network_state())
    assert torch.equal(network(IMAGES), supernet(IMAGES)[0])


def test_saved_weights_do_not_change_when_the_search_goes_on() -> None:
    supernet = pruned_at_random(0)
    state = supernet.network_state()
    before = {name: value.clone() for name, value in state.items()}
    with torch.no_grad():
        supernet.alpha.add_(1.0)
        for parameter in supernet.network.parameters():
            parameter.zero_()
    assert all(torch.equal(state[name], before[name]) for name in before)


# -- the auxiliary head ------------------------------------------------------------------------


@pytest.mark.parametrize("height", [1, 2, 3, 7, 8])
@pytest.mark.parametrize("width", [1, 2, 5, 8])
def test_quarters_are_the_adaptive_pooling_of_any_size(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, dtype=torch.double, requires_grad=True)
    expected = nn.AdaptiveAvgPool2d(2)(x)
    torch.testing.assert_close(Quarters()(x), expected, rtol=0, atol=1e-15)
    weight = torch.randn_like(expected)
    gradients = [torch.autograd.grad(y, x, weight) for y in (Quarters()(x), expected)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-15)


@pytest.mark.parametrize("input_shape", [(1, 7, 9), (1, 28, 28), (3, 32, 32)])
def test_the_auxiliary_head_fits_any_image_and_is_for_training_only(
    input_shape: tuple[int, int, int],
) -> None:
    space = GoldSpace(cells=3, channels=2, nodes=2, input_shape=input_shape, classes=5)
    supernet = SuperNet(space, auxiliary=True)
    images = torch.randn(2, *input_shape)
    assert [logits.shape for logits in supernet.train()(images)] == [(2, 5), (2, 5)]
    assert supernet.eval()(images)[1] is None
    assert SuperNet(space).train()(images)[1] is None
    assert not any("auxiliary" in name for name in supernet.network_state())
