"""The gates' gradient of DARTS, and what its relaxation and its cut leave."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from goldnas.searching.strategies.darts import second_order_gradient
from goldnas.spaces import GoldSpace
from goldnas.supernet import SuperNet
from nightly import at_night
from searches import search

STEP, MOMENTUM, DECAY = 0.1, 0.9, 3e-4


class Toy:
    """Two losses of five weights and three gates, in double precision."""

    def __init__(self, curved: bool) -> None:
        torch.manual_seed(0)
        self.w = torch.randn(5, dtype=torch.float64, requires_grad=True)
        self.alpha = torch.randn(3, dtype=torch.float64, requires_grad=True)
        self.velocity = torch.randn(5, dtype=torch.float64)
        self.mixing = torch.randn(3, 5, dtype=torch.float64)
        self.curved = curved

    def train_loss(self, w: Tensor, alpha: Tensor) -> Tensor:
        features = self.mixing @ w
        if self.curved:
            features = torch.tanh(features)
        return (torch.sigmoid(alpha) * features).sum() ** 2 + (features**2 @ alpha)

    def validation_loss(self, w: Tensor, alpha: Tensor) -> Tensor:
        return torch.exp(0.1 * (self.mixing @ w) * torch.sigmoid(alpha)).sum()

    def exact(self) -> Tensor:
        """By autograd, through the step of the weights."""
        gradient = torch.autograd.grad(
            self.train_loss(self.w, self.alpha), self.w, create_graph=True
        )[0]
        step = MOMENTUM * self.velocity + gradient + DECAY * self.w
        loss = self.validation_loss(self.w - STEP * step, self.alpha)
        return torch.autograd.grad(loss, self.alpha)[0]

    def approximate(self) -> Tensor:
        return second_order_gradient(
            [self.w],
            self.alpha,
            train=lambda: self._leave(self.train_loss),
            validate=lambda: self._leave(self.validation_loss),
            step_size=STEP,
            momenta=[self.velocity],
            momentum=MOMENTUM,
            weight_decay=DECAY,
        )

    def _leave(self, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.w.grad = self.alpha.grad = None
        loss(self.w, self.alpha).backward()


def test_second_order_gradient_is_that_of_autograd() -> None:
    """The loss is a square in the weights, so that the difference quotient is exact."""
    toy = Toy(curved=False)
    torch.testing.assert_close(toy.approximate(), toy.exact(), rtol=1e-9, atol=1e-9)


def test_second_order_gradient_is_close_where_the_loss_is_curved() -> None:
    toy = Toy(curved=True)
    torch.testing.assert_close(toy.approximate(), toy.exact(), rtol=1e-3, atol=1e-5)


def test_second_order_gradient_is_not_that_of_first_order() -> None:
    toy = Toy(curved=False)
    first = torch.autograd.grad(toy.validation_loss(toy.w, toy.alpha), toy.alpha)[0]
    assert (toy.approximate() - first).abs().max() > 0.01


def test_weights_are_put_back_to_the_bit() -> None:
    toy = Toy(curved=True)
    before = toy.w.detach().clone()
    toy.approximate()
    assert torch.equal(toy.w, before)


def test_operators_of_an_edge_compete_and_those_of_others_do_not() -> None:
    space = GoldSpace(cells=2, channels=4, input_shape=(1, 8, 8), classes=10)
    net = SuperNet(space, relaxation="softmax")
    with torch.no_grad():
        net.alpha[0] = 1.0
    gates = net.gates()
    edges = net.edge_sums @ gates
    torch.testing.assert_close(edges, torch.ones_like(edges))
    assert gates[0] > 0.5
    assert gates[2:].tolist() == pytest.approx([0.5] * (len(gates) - 2))
    net.prune([0])
    assert net.gates()[:2].tolist() == [0.0, 1.0]
    net.prune([1])  # an edge without an operator
    assert net.gates()[:2].tolist() == [0.0, 0.0]
    net.gates().sum().backward()
    assert net.alpha.grad is not None
    assert net.alpha.grad.isfinite().all()


@pytest.mark.parametrize("strategy", ["one-shot", "darts1"])
def test_edge_rule_leaves_two_edges_and_one_operator_each(
    tmp_path: Path, strategy: str
) -> None:
    levels = 2 if strategy == "darts1" else 1
    run = search(
        tmp_path / "a",
        strategy=strategy,
        levels=levels,
        edge_rule=True,
        budgets=("200kFLOPs",),
        epochs=1,
    )
    (end,) = (network for network in run.front if "end" in network.reasons)
    choices = end.architecture.choices
    assert max(len(operators) for operators in choices.values()) == 1
    nodes = [
        place.rpartition("-")[0].split(".")[0] + place.rpartition("-")[2] for place in choices
    ]
    assert max(map(nodes.count, nodes)) <= 2


@at_night
def test_the_cut_is_logged_with_the_accuracy_before_and_after(tmp_path: Path) -> None:
    run = search(tmp_path / "a", strategy="one-shot", batch_size=32)
    assert run.best.meets_budgets
    *_, epoch = (event for event in run.read_events() if event["event"] == "epoch")
    cuts = [event for event in run.read_events() if event["event"] == "cut"]
    assert cuts[0]["live_operators"] < epoch["live_operators"] == 2 * 28
    # All held-out digits are looked at: it is the accuracy of the whole super-network.
    assert cuts[0]["accuracy_before"] == epoch["validation_accuracy"]
    assert cuts[0]["accuracy_after"] != cuts[0]["accuracy_before"]
