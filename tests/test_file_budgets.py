"""Budgets of the exported file: its bytes, and the peak memory of its activations."""

import signal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

import goldnas
from goldnas.comparison.quantities import Sample
from goldnas.comparison.rows import compare
from goldnas.comparison.runs import ComparedRun
from goldnas.errors import ConfigError, RunError
from goldnas.exporting.file_costs import FileBytes, PartPeak, count_file
from goldnas.exporting.onnx import describe_network, to_onnx
from goldnas.exporting.peak_memory import find_peak, peak_activation_bytes
from goldnas.exporting.precision import to_precision
from goldnas.lut import Loop
from goldnas.picking.config import PickConfig
from goldnas.picking.pick import read_budgets
from goldnas.ranges import check_resources
from goldnas.resources import parse_budget
from goldnas.searching.budgets import build_feasibility, check_feasible, describe_peaks
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.sampler import BudgetedSampler
from goldnas.searching.widths import build_widths
from goldnas.site import Site
from goldnas.spaces import SearchSpace
from nightly import at_night

SMALL = {"input_shape": (1, 8, 8), "classes": 10}
EVERY = ("bytes", "bytes:fp16", "bytes:int8", "ram", "ram:fp16", "ram:int8")
AS_TYPED = ["1GB", "1GB:fp16", "1GB:int8", "1GB:ram", "1GB:ram:fp16", "1GB:int8:ram"]


# -- budgets as they are typed -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "resource", "limit"),
    [
        ("2MB", "bytes", 2e6),
        ("512kB:ram", "ram", 512e3),
        ("2MB:int8", "bytes:int8", 2e6),
        ("2MB:fp32", "bytes", 2e6),
        ("512 kB:ram:int8", "ram:int8", 512e3),
        ("512kB:int8:ram", "ram:int8", 512e3),
        ("1e3B", "bytes", 1000),
    ],
)
def test_words_say_what_is_counted_and_in_which_format(
    text: str, resource: str, limit: float
) -> None:
    budget = parse_budget(text)
    assert (budget.resource, budget.limit, budget.text) == (resource, limit, text)
    check_resources([resource])


def test_an_export_means_its_own_format() -> None:
    assert parse_budget("2MB", precision="int8").resource == "bytes:int8"
    assert parse_budget("2MB:fp32", precision="int8").resource == "bytes"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2MB:int9", r"unknown word ':int9' in budget '2MB:int9'; known after MB: :ram, :fp32"),
        ("2MB:", "unknown word ':'"),
        ("2MB:int8:fp16", "two formats; keep one"),
        ("2MB:ram:ram", "says a word twice"),
        ("2MB@pi5", "is not a latency or an energy; leave out @pi5"),
        ("5ms@pi5:int8", "unknown word ':int8' .*; known after ms: :p50"),
        ("2Mparams:int8", "unknown word ':int8'"),
    ],
)
def test_a_word_that_a_unit_does_not_know_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_budget(text, ["pi5"])


@pytest.mark.parametrize("name", ["bytes:", "bytes:int9", "ram@pi5", "byte"])
def test_a_file_with_an_unknown_resource_is_refused(name: str) -> None:
    if name == "bytes:":  # the same as fp32, which is never written so
        check_resources([name])
        return
    with pytest.raises(ValueError, match="does not know"):
        check_resources([name])


# -- the definition ----------------------------------------------------------------------------


def test_a_tensor_lives_from_its_producer_to_its_last_reader() -> None:
    steps = [(["x"], ["a"]), (["a", "w"], ["b"]), (["a", "b"], ["c"]), (["c"], ["y"])]
    sizes = {"x": 1, "a": 10, "b": 100, "c": 1000, "y": 10_000}
    # x a | a b | a b c | c y
    assert find_peak(steps, sizes, ["x"], ["y"]) == 11_000
    assert find_peak(steps[:3], sizes, ["x"], ["c"]) == 1110
    assert find_peak(steps[:2], sizes, ["x"], ["b", "x"]) == 111


def graph(nodes: list[onnx.NodeProto], *, weights: tuple[str, ...] = ()) -> bytes:
    """A model from ``x`` to ``y``, float32 of 4 elements, with scalars as weights."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
    tensors = [
        helper.make_tensor(n, TensorProto.UINT8 if n == "z" else TensorProto.FLOAT, [], [1])
        for n in weights
    ]
    made = helper.make_graph(nodes, "main", ends[:1], ends[1:], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)])
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def test_weights_do_not_count_and_nothing_is_computed_in_place() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Add", ["b", "x"], ["y"]),
    ]
    assert peak_activation_bytes(graph(nodes, weights=("w",))) == 3 * 16  # x a b; x b y


def test_in_int8_a_kernel_stores_integers_alone() -> None:
    def node(kind: str, read: str, made: str) -> onnx.NodeProto:
        scaled = [read, "s", "z"] if kind.endswith("Linear") else [read]
        return helper.make_node(kind, scaled, [made])

    nodes = [
        node("QuantizeLinear", "x", "x8"),
        node("DequantizeLinear", "x8", "xf"),
        node("Abs", "xf", "a"),  # stands for a convolution
        node("Relu", "a", "r"),
        node("QuantizeLinear", "r", "r8"),
        node("DequantizeLinear", "r8", "rf"),
        node("Abs", "rf", "b"),
        node("QuantizeLinear", "b", "b8"),
        node("DequantizeLinear", "b8", "y"),
    ]
    # x x8 | x8 r8 | r8 b8 | b8 y
    assert peak_activation_bytes(graph(nodes, weights=("s", "z"))) == 16 + 4


# -- parts and networks ------------------------------------------------------------------------


@cache
def gold() -> SearchSpace:
    return goldnas.space("gold", cells=3, channels=4, nodes=2, **SMALL)


class Chain(nn.Module):
    """Three choices one after the other."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        places: list[nn.Module] = []
        channels = input_shape[0]
        for _ in range(3):
            widths = (4, 16)
            places.append(
                goldnas.Choice(
                    {f"wide_{w}": lambda c=channels, w=w: _block(c, w) for w in widths}
                )
            )
            channels = 8
        self.places = nn.Sequential(*places)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to scores."""
        scores: Tensor = self.classifier(self.places(x).mean((2, 3)))
        return scores


class Branches(nn.Module):
    """Two choices side by side: the output of one waits for that of the other."""

    def __init__(self, input_shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        channels = input_shape[0]
        self.left, self.right = (
            goldnas.Choice({f"wide_{w}": lambda w=w: _block(channels, w) for w in (4, 16)})
            for _ in range(2)
        )
        self.classifier = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to scores."""
        both = torch.cat([self.left(x), self.right(x)], 1)
        scores: Tensor = self.classifier(both.mean((2, 3)))
        return scores


def _block(channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 1), nn.ReLU(), nn.Conv2d(width, 8, 3, padding=1)
    )


@cache
def chain() -> SearchSpace:
    return goldnas.space(Chain, **SMALL)


@cache
def branches() -> SearchSpace:
    return goldnas.space(Branches, **SMALL)


@cache
def costs_of(name: str) -> Feasibility:
    space = {"gold": gold, "chain": chain, "branches": branches}[name]()
    return build_feasibility(space, AS_TYPED, single=name != "gold")


def largest_part() -> str:
    """A budget that each part of the branches keeps alone, and no network."""
    return f"{costs_of('branches').costs['ram'].gates.min():.0f}B:ram"


def random_weights(network: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network


@pytest.mark.parametrize("name", [pytest.param("gold", marks=at_night), "chain"])
def test_parts_tell_most_of_the_bytes_and_least_of_the_memory(name: str) -> None:
    feasibility = costs_of(name)
    space = feasibility.space
    mask = BudgetedSampler(feasibility, seed=1).draw()
    kept = [gate for gate, keep in zip(space.gates, mask, strict=True) if keep]
    architecture = space.architecture(kept)
    metadata = describe_network(architecture.to_json().decode(), {})
    network = random_weights(space.build(architecture, gated=True), seed=0)
    counted = count_file(network, space.input_shape, EVERY, metadata)
    parts = {name: feasibility.costs[name].total(mask) for name in EVERY}
    for resource in EVERY[:3]:
        assert counted[resource] <= parts[resource], resource
    for resource in EVERY[3:]:
        assert parts[resource] <= counted[resource], resource
    if name == "chain":  # nothing is beside a part there, so its peak is the network's
        assert [parts[r] for r in EVERY[3:5]] == [counted[r] for r in EVERY[3:5]]
    assert counted["ram:fp16"] <= counted["ram"]

    other = random_weights(space.build(architecture, gated=True), seed=1)
    exact = to_onnx(other, (1, *space.input_shape), metadata=metadata)
    images = np.random.default_rng(0).normal(size=(4, *space.input_shape)).astype(np.float32)
    sizes = [len(to_precision(exact, p, images=images)) for p in ("fp32", "fp16", "int8")]
    assert [counted[resource] for resource in EVERY[:3]] == sizes  # whatever the weights


class Deciding(nn.Module):
    """Looks at numbers, so that nothing can export it."""

    def forward(self, x: Tensor) -> Tensor:
        """Map a tensor to itself, or to twice itself."""
        return 2 * x if x.sum().item() > 0 else x


def test_a_part_that_cannot_be_exported_is_one_line() -> None:
    site = Site(in_channels=4, height=8, width=8, out_channels=4, stride=1)
    with pytest.raises(ConfigError, match=r"^cannot count what mine at 4x8x8->4/s1 needs .*\Z"):
        PartPeak("fp32", lambda *_: Deciding()).cost("mine", site)


def test_a_part_is_counted_by_hand() -> None:
    site = Site(in_channels=4, height=8, width=8, out_channels=4, stride=1)
    # relu, depthwise and pointwise convolution, twice: an input and an output of 4 x 8 x 8
    assert PartPeak("fp32").cost("sep_conv_3x3", site) == 2 * 4 * 4 * 64
    assert PartPeak("int8").cost("sep_conv_3x3", site) == 2 * 4 * 64
    weights = 2 * (4 * 9 + 4 * 4 + 2 * 4)  # with the bias of each normalisation
    fine, half = (FileBytes(p).cost("sep_conv_3x3", site) for p in ("fp32", "fp16"))
    assert 4 * weights < fine < 4 * weights + 4000
    assert fine - half >= 2 * weights


# -- the search --------------------------------------------------------------------------------


def test_what_does_not_fit_alone_is_never_kept() -> None:
    space = chain()
    gates = costs_of("chain").costs["ram"].gates
    limit = float(np.sort(gates)[2])
    feasibility = build_feasibility(space, [f"{limit:.0f}B:ram"])
    everything = np.ones(len(gates), dtype=bool)
    found = feasibility.find(everything)
    chosen = feasibility.choose(gates, everything, floor=0.97)  # the large are worth the most
    sampler = BudgetedSampler(feasibility, seed=0)
    for mask in (found, chosen, *(sampler.draw() for _ in range(20))):
        assert mask is not None
        assert feasibility.within(mask)
        assert gates[mask].max() <= limit
    assert feasibility.tightened(0.5).find(everything) is not None  # a peak stays as it is
    largest = int(gates.argmax())
    assert feasibility.may_prune(everything, largest)
    assert not feasibility.within(everything)


def test_a_peak_that_no_network_keeps_is_refused() -> None:
    gates = costs_of("chain").costs["ram"].gates
    least = max(gates[list(group)].min() for group in chain().groups)
    check_feasible(build_feasibility(chain(), [f"{least:.0f}B:ram"]))
    with pytest.raises(ConfigError, match=r"cannot be met: the smallest network .* needs"):
        check_feasible(build_feasibility(chain(), [f"{least - 1:.0f}B:ram"]))


def test_bytes_that_no_network_keeps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget 1kB cannot be met: .* needs \S+ kB"):
        check_feasible(build_feasibility(gold(), ["1kB"]))


def test_a_peak_that_parts_do_not_show_is_said_before_the_search() -> None:
    (note,) = describe_peaks(build_feasibility(branches(), [largest_part()]))
    assert f"{largest_part()} is less" in note
    assert describe_peaks(build_feasibility(gold(), ["1GB"])) == []


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Searches for one random network, with budgets that it keeps, and with one it does not."""
    folder = tmp_path_factory.mktemp("runs")
    settings = {
        "space": Branches,
        "single": True,
        "data": "digits",
        "strategy": "random",
        "networks": 1,
        "score": None,
    }
    return {
        "kept": goldnas.search(budgets=["100kB", "1MB:ram"], out=folder / "kept", **settings),
        "over": goldnas.search(
            budgets=[largest_part(), "1MFLOPs"], out=folder / "over", **settings
        ),
    }


def test_what_a_search_promises_is_the_file(runs: dict[str, Any], tmp_path: Path) -> None:
    best = runs["kept"].best
    exported = goldnas.export(best, tmp_path / "net.onnx", budgets=["1B:int8"])
    size = (tmp_path / "net.onnx").stat().st_size
    assert best.resources["bytes"] == size
    by_name = {check.resource: check for check in exported.checks}
    assert by_name["bytes"].measured == by_name["bytes"].predicted == size
    assert by_name["ram"].measured == by_name["ram"].predicted == best.resources["ram"]
    assert [by_name[n].verdict for n in ("bytes", "ram")] == ["PASS", "PASS"]
    assert by_name["bytes:int8"].verdict == "not verified"
    assert "export with `precision='int8'`" in by_name["bytes:int8"].unverified
    assert not exported.failed


def test_a_budget_that_the_file_breaks_fails(runs: dict[str, Any], tmp_path: Path) -> None:
    exported = goldnas.export(
        runs["kept"].best, tmp_path / "net.onnx", precision="fp16", budgets=["1kB"]
    )
    assert exported.failed
    assert exported.summary.startswith("verify: FAIL  bytes:fp16 ")


def test_a_network_over_its_peak_is_never_the_best(runs: dict[str, Any]) -> None:
    run = runs["over"]
    (network,) = run.front
    assert not network.meets_budgets
    assert any(reason.startswith("over ") for reason in network.record.reasons)
    with pytest.raises(RunError, match="no recorded network meets the budgets"):
        _ = run.best


def test_a_comparison_has_a_column_for_them(runs: dict[str, Any]) -> None:
    (row,) = compare([ComparedRun.read(runs["kept"].path, trust=True)]).rows
    for name in ("bytes", "ram"):
        cell = row.cells[name]
        assert isinstance(cell, Sample)
        assert cell.mean == runs["kept"].best.resources[name]


# -- what is refused ---------------------------------------------------------------------------


def test_where_no_file_is_made_such_budgets_are_refused() -> None:
    with pytest.raises(ConfigError, match="budget 2MB is of an exported file"):
        read_budgets(PickConfig(budgets=("10ms", "2MB")), "zoo", Loop())
    space: Any = None
    with pytest.raises(ConfigError, match="budget 1kB:ram is of an exported file"):
        build_widths(space, ["1kB:ram"])


def test_an_interrupt_during_a_count_reaches_the_search() -> None:
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.onnx, "export", _press_and(torch.onnx.export))
            to_onnx(nn.Linear(2, 2), (1, 2))
    finally:
        signal.signal(signal.SIGINT, before)
    assert pressed == [signal.SIGINT]


def _press_and(function: Any) -> Any:
    def pressed(*arguments: Any, **settings: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return function(*arguments, **settings)

    return pressed
