"""What is left of a network: what it needs, its architecture, its model, the best size."""

import itertools
import json
from collections.abc import Callable, Iterator

import numpy as np
import onnx
import onnxruntime
import pytest
from torch import nn

from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.exporting.narrowed import Narrowed
from goldnas.exporting.onnx import to_onnx
from goldnas.resources import Flops, Parameters, count_flops
from goldnas.resources.costs import sum_costs
from goldnas.searching.widths import Importance, WidthBudgets, build_widths
from goldnas.spaces import FUNCTIONS
from goldnas.spaces.making import find_space, make_shrunk_space
from goldnas.spaces.reference import name_function
from goldnas.spaces.shrunk import ShrunkSpace, Size
from goldnas.spaces.single import FunctionSpace
from nightly import EXAMPLES, at_night
from own_layers import activated, normalised, padded, sloped
from shrinkables import (
    all_grouped,
    attending,
    chain,
    chunked,
    concatenation,
    deciding,
    enlarged,
    flattened,
    grouped,
    learnt,
    mixing,
    normalised_places,
    residual,
    squeezed,
    viewed,
    windowed,
    windows_of_any_width,
)

SHAPE = (1, 8, 8)
NETWORKS: tuple[Callable[..., nn.Module], ...] = (
    *(chain, residual, concatenation, squeezed, chunked, flattened, viewed, grouped, mixing),
    *(attending, enlarged, windowed, activated, normalised, padded, deciding),
    *(windows_of_any_width, normalised_places, sloped),
)
every_network = pytest.mark.parametrize("make", NETWORKS, ids=lambda make: make.__name__)


@pytest.fixture(autouse=True)
def known() -> Iterator[None]:
    """Files that name a function find it, in this module alone."""
    before = dict(FUNCTIONS)
    yield
    FUNCTIONS.clear()
    FUNCTIONS.update(before)


def space_of(make: Callable[..., nn.Module], step: int = 4) -> ShrunkSpace:
    name = name_function(make)
    whole = FunctionSpace(name, FUNCTIONS[name], {"input_shape": SHAPE, "classes": 10})
    return make_shrunk_space(network=json.loads(whole.architecture(()).to_json()), step=step)


def sizes_of(space: ShrunkSpace, count: int = 12) -> list[Size]:
    return [space.whole, space.smallest, *space.draw(count, seed=3)]


# -- what a network needs --------------------------------------------------------------------


@every_network
@pytest.mark.parametrize("step", [4, 5])
def test_sums_over_parts_are_what_is_counted(make: Callable[..., nn.Module], step: int) -> None:
    space = space_of(make, step)
    prices = [Flops(space.build_part), Parameters(space.build_part)]
    for size in sizes_of(space):
        architecture = space.describe(size)
        network = space.build(architecture)
        parts = list(space.plan(architecture).parts())
        flops, parameters = (sum_costs(price, parts) for price in prices)
        assert flops == count_flops(network, SHAPE)
        assert parameters == sum(p.numel() for p in network.parameters())
        assert set(parts) <= {*space.rows()}


@every_network
def test_costs_of_sizes_are_sums_over_parts(make: Callable[..., nn.Module]) -> None:
    space = space_of(make)
    costs = build_widths(space, [])
    for size in sizes_of(space):
        network = space.build(space.describe(size))
        assert costs.total(size) == {
            "FLOPs": count_flops(network, SHAPE),
            "params": sum(p.numel() for p in network.parameters()),
        }


def test_sizes_that_are_drawn_are_of_all_sizes() -> None:
    space = space_of(residual)
    drawn = space.draw(24, seed=0)
    assert len({*drawn}) == 24
    assert drawn == space.draw(24, seed=0) != space.draw(24, seed=1)
    costs = build_widths(space, [])
    shares = sorted(
        costs.total(size)["FLOPs"] / costs.total(space.whole)["FLOPs"] for size in drawn
    )
    assert shares[0] < 0.15 < 0.6 < shares[-1] <= 1
    for size in drawn:
        for group, width in enumerate(size.widths):
            assert width in space.widths(group)
    few = space_of(partial_chain, step=12)
    assert len(few.draw(50, seed=0)) == 4  # there are no others


def partial_chain(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return chain(input_shape, classes)


# -- architectures ---------------------------------------------------------------------------


@every_network
def test_an_architecture_says_what_is_left(make: Callable[..., nn.Module]) -> None:
    space = space_of(make)
    for size in sizes_of(space, 6):
        architecture = space.describe(size)
        read = Architecture.from_json(architecture.to_json())
        assert read == architecture
        assert read.fingerprint == architecture.fingerprint
        assert find_space(read) is space
        assert space.size_of(read) == size
    assert not space.describe(space.whole).choices


def test_what_is_in_a_branch_that_went_has_no_size() -> None:
    space = space_of(residual)
    (inner,) = (i for i, g in enumerate(space.coupling.groups) if g.name == "1.first.0")
    without = (False, True, True)
    widths = list(space.whole.widths)
    widths[inner] = 4
    one, other = Size(tuple(widths), without), Size(space.whole.widths, without)
    assert space.describe(one) == space.describe(other)
    assert space.size_of(space.describe(one)) == other
    assert space.count(space.normalise(one)) == space.count(other)
    assert space.describe(one).choices == {"1": ("identity",)}
    there = Size(tuple(widths), (True, True, True))
    assert space.normalise(there) == there


BAD = {
    "no such place": ({"nowhere": ("4",)}, "nowhere"),
    "a width between": ({"0.0": ("5",)}, "4, 8, 12, 16"),
    "no channels": ({"0.0": ("0",)}, "0.0 cannot have 0"),
    "more than there were": ({"0.0": ("20",)}, "0.0 cannot have 20"),
    "two widths": ({"0.0": ("4", "8")}, "0.0"),
    "no width": ({"0.0": ()}, "0.0 cannot have no channels"),
    "another operator": ({"1": ("conv",)}, "1"),
    "a block that may not go": ({"2": ("identity",)}, "2"),
}


@pytest.mark.parametrize("name", BAD)
def test_other_architectures_are_refused(name: str) -> None:
    choices, told = BAD[name]
    space = space_of(residual)
    whole = space.describe(space.whole)
    bad = Architecture(space=whole.space, settings=whole.settings, choices=choices)
    for use in (space.size_of, space.plan, space.build):
        with pytest.raises(ConfigError, match=told) as refused:
            use(bad)
        assert "\n" not in str(refused.value)


def test_an_architecture_of_another_network_is_refused() -> None:
    space, other = space_of(residual), space_of(chain)
    with pytest.raises(ConfigError):
        space.build(other.describe(other.smallest))
    with pytest.raises(ConfigError):
        space.size_of(space_of(residual, step=8).describe(space.whole))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"step": 0}, "step"),
        ({"step": "8"}, "step"),
        ({"step": 10**9}, "step"),
        ({"depth": 3}, "depth"),
        ({"classes": 9}, "classes 10, not 9"),
        ({"input_shape": [3, 8, 8]}, "input_shape"),
        ({"network": {"space": "nothing"}}, "not an architecture"),
        ({"network": 3}, "not an architecture"),
    ],
)
def test_other_settings_are_refused(changes: dict[str, object], told: str) -> None:
    settings = space_of(chain).settings
    with pytest.raises(ConfigError, match=told):
        make_shrunk_space(**settings | changes)
    with pytest.raises(ConfigError, match="step"):
        make_shrunk_space(network=settings["network"])


@pytest.mark.parametrize(("make", "step"), [(all_grouped, 4), (chain, 16), (chain, 4096)])
def test_a_network_of_which_nothing_may_go_is_refused(
    make: Callable[..., nn.Module], step: int
) -> None:
    with pytest.raises(ConfigError, match="smaller `step`"):
        space_of(make, step)


# -- models ----------------------------------------------------------------------------------


def shapes_of(model: bytes) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Each node, and the shapes of its weights, but for numbers that name shapes."""
    graph = onnx.load_model_from_string(model).graph
    tensors = {t.name: tuple(t.dims) for t in graph.initializer if t.data_type == 1}
    return sorted(
        (node.op_type, [tensors[name] for name in node.input if name in tensors])
        for node in graph.node
    )


OF_ALL_KINDS = [
    residual,
    *(pytest.param(make, marks=at_night) for make in (chain, squeezed, flattened, viewed)),
    mixing,
]


@pytest.mark.parametrize("make", OF_ALL_KINDS, ids=lambda make: make.__name__)
def test_a_model_that_is_cut_is_the_one_that_is_exported(
    make: Callable[..., nn.Module],
) -> None:
    space = space_of(make)
    narrowed = Narrowed(space, 2)
    for size in (
        space.draw(1, seed=1)[0],
        *[space.whole, space.smallest][: 2 * bool(EXAMPLES)],
    ):
        model = narrowed.model(size)
        assert model == narrowed.model(size)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        (given,) = session.run(None, {taken.name: np.zeros((2, *SHAPE), np.float32)})
        assert given.shape == (2, 10)
        assert np.isfinite(given).all()
        network = learnt(lambda size=size: space.build(space.describe(size)))
        exported = to_onnx(network, (2, *SHAPE))
        assert shapes_of(model) == shapes_of(exported)


# -- the best size ---------------------------------------------------------------------------


def all_sizes(space: ShrunkSpace, current: Size) -> list[Size]:
    """Every size that is no larger."""
    widths = [
        [w for w in space.widths(g) if w <= current.widths[g]]
        for g in range(len(current.widths))
    ]
    branches = [(True, False) if there else (False,) for there in current.branches]
    found = itertools.product(itertools.product(*widths), itertools.product(*branches))
    return list(dict.fromkeys(space.normalise(Size(w, b)) for w, b in found))


def draw_importance(space: ShrunkSpace, size: Size, seed: int) -> Importance:
    random = np.random.default_rng(seed)
    return Importance(
        tuple(
            np.concatenate([[0.0], np.cumsum(np.sort(random.exponential(size=width)))])
            for width in size.widths
        ),
        tuple(random.exponential(size=len(size.branches)) * 8),
    )


def loss_of(space: ShrunkSpace, importance: Importance, current: Size, size: Size) -> float:
    """Of what goes: channels of the groups that are there, and branches."""
    lost = 0.0
    for g, width in enumerate(size.widths):
        branch = space.branch_of[g]
        if branch is None or size.branches[branch]:
            lost += float(importance.channels[g][current.widths[g] - width])
    for b, there in enumerate(size.branches):
        if current.branches[b] and not there:
            lost += importance.branches[b]
    return lost


def small_residual(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(*list(residual(input_shape, classes, width=12))[:2], *_head(classes))


def _head(classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, classes))


def within(costs: WidthBudgets, size: Size, limits: dict[str, float]) -> bool:
    total = costs.total(size)
    return all(total[name] <= limit for name, limit in limits.items())


@pytest.mark.parametrize("make", [chain, small_residual, concatenation, squeezed, flattened])
def test_no_size_within_the_limits_loses_less(make: Callable[..., nn.Module]) -> None:
    space = space_of(make)
    costs = build_widths(space, [])
    sizes = all_sizes(space, space.whole)
    whole, least = costs.total(space.whole), costs.total(space.smallest)
    for seed, share in enumerate((0.9, 0.6, 0.3, 0.1, 0.0)):
        importance = draw_importance(space, space.whole, seed)
        for names in (("FLOPs",), ("params",), ("FLOPs", "params")):
            limits = {n: least[n] + share * (whole[n] - least[n]) for n in names}
            found = costs.choose(importance, space.whole, limits)
            assert found is not None
            assert within(costs, found, limits)
            losses = {
                size: loss_of(space, importance, space.whole, size)
                for size in sizes
                if within(costs, size, limits)
            }
            assert losses[found] <= min(losses.values()) + 0.01 * sum(
                values[-1] for values in importance.channels
            )


@pytest.mark.parametrize("make", [small_residual, residual, mixing])
def test_nothing_becomes_larger_and_limits_are_kept(make: Callable[..., nn.Module]) -> None:
    space = space_of(make)
    costs = build_widths(space, [])
    random = np.random.default_rng(0)
    for seed, current in enumerate(space.draw(12, seed=5)):
        now, least = costs.total(current), costs.total(space.smallest)
        share = random.uniform(0.3, 1)
        limits = {n: least[n] + share * (now[n] - least[n]) for n in ("FLOPs", "params")}
        importance = draw_importance(space, current, seed)
        found = costs.choose(importance, current, limits)
        if found is None:
            assert not any(within(costs, size, limits) for size in all_sizes(space, current))
            continue
        assert within(costs, found, limits)
        for g, width in enumerate(found.widths):
            branch = space.branch_of[g]
            assert width <= current.widths[g] or not found.branches[branch]
        pairs = zip(found.branches, current.branches, strict=True)
        assert all(before or not after for after, before in pairs)


def test_the_size_that_is_there_stays_where_it_may() -> None:
    space = space_of(residual)
    costs = build_widths(space, [])
    for current in space.draw(6, seed=2):
        importance = draw_importance(space, current, 0)
        assert costs.choose(importance, current, costs.total(current)) == current


def test_limits_below_the_smallest_have_no_size() -> None:
    space = space_of(chain)
    costs = build_widths(space, [])
    limits = {"FLOPs": costs.total(space.smallest)["FLOPs"] - 1}
    importance = draw_importance(space, space.whole, 0)
    assert costs.choose(importance, space.whole, limits) is None
    assert costs.within(space.smallest, costs.total(space.smallest))


def test_a_budget_that_none_keeps_says_by_how_much() -> None:
    space = space_of(chain)
    least = build_widths(space, []).total(space.smallest)["params"]
    build_widths(space, [f"{least:.0f}params"]).check_feasible()
    with pytest.raises(ConfigError, match=r"cannot be met.* 1 params more"):
        build_widths(space, [f"{least - 1:.0f}params"]).check_feasible()
