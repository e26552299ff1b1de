"""Channels that go together: what is left computes what it did, without what they added."""

import copy
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from goldnas.channels import (
    Coupling,
    compensate,
    cut,
    find_branches,
    find_coupling,
    remove_branches,
)
from goldnas.errors import ConfigError
from goldnas.zoo.networks import build_network
from nightly import EXAMPLES, at_night
from own_layers import (
    activated,
    halved,
    normalised,
    padded,
    scaled,
    sloped,
    standardised,
    turned,
)
from shrinkables import (
    attending,
    branching,
    chain,
    chunked,
    chunks_apart,
    concatenation,
    counting,
    cropped,
    deciding,
    enlarged,
    flattened,
    gated,
    grouped,
    insisting,
    learnt,
    mixing,
    normalised_places,
    numbered,
    pooled_last,
    recurrent,
    residual,
    resized,
    shared,
    silent_first,
    sliced,
    split,
    squeezed,
    tied_to_function,
    unknown,
    viewed,
    viewed_as,
    windowed,
    windows_of_any_width,
)

SHAPE, CLASSES = (1, 8, 8), 10

EXACT: dict[str, tuple[Callable[..., nn.Module], dict[str, int]]] = {
    "chain": (chain, {"0.0": 16, "1.0": 16}),
    "residual": (
        residual,
        {"0.0": 16, "1.first.0": 16, "2.first.0": 32, "2.second.0": 32}
        | {"3.first.0": 32, "4.first.0": 32},
    ),
    "concatenation": (concatenation, {"stem.0": 12, "a.0": 8, "b.0": 16, "last.0": 16}),
    "squeezed": (squeezed, {"0.0": 12, "1.expand.0": 24, "1.down": 8}),
    "chunked": (chunked, {"stem.0": 16, "last.0": 16}),
    "chunks apart": (chunks_apart, {"stem.0": 16, "a.0": 12, "b.0": 8}),
    "split": (split, {"a.0": 12, "b.0": 8}),
    "sliced": (sliced, {"a.0": 16}),
    "cropped": (cropped, {"stem.0": 16, "last.0": 16}),
    "flattened": (flattened, {"0.0": 12, "1.0": 8, "3": 20}),
    "viewed": (viewed, {"stem.0": 8, "first": 20}),
    "viewed as": (viewed_as, {"first": 20}),
    "numbered": (numbered, {"two.0": 12}),
    "grouped": (grouped, {"3.0": 12}),
    "unknown": (unknown, {"last.0": 12}),
    "pooled last": (pooled_last, {}),
    "attending": (attending, {"mixing.first": 32}),
    "enlarged": (enlarged, {"last.0": 16}),
    "windowed": (windowed, {"one.first": 32, "two.first": 24}),
    "normalised places": (normalised_places, {"patches": 12, "first": 16, "second": 20}),
    "insisting": (insisting, {"last.0": 12}),
    "tied to a function": (tied_to_function, {"stem.0": 16}),
    "halved": (halved, {"3.0": 12}),
    "resized": (resized, {"stem.0": 12, "last.0": 8}),
    "gated": (gated, {"stem.0": 12, "down": 8, "last.0": 8}),
    "sloped": (sloped, {"stem": 16, "last.0": 12}),
    "activated": (activated, {"0": 16, "2": 12}),
    "turned": (turned, {}),
    "scaled": (scaled, {}),
    "padded": (padded, {"0": 16, "4": 12}),
    "standardised": (standardised, {}),
    "deciding": (deciding, {"stem.0": 16, "one.0": 12}),
}
"""Networks whose channels go without any other number changing, and those that may go."""


def images(shape: Sequence[int]) -> Tensor:
    return torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))


def draw(coupling: Coupling, seed: int) -> dict[str, np.ndarray]:
    """Some channels of each group, two at least: depthwise, one is like any other."""
    random = np.random.default_rng(seed)
    return {
        group.name: np.sort(
            random.choice(group.size, random.integers(2, group.size + 1), replace=False)
        )
        for group in coupling.groups
    }


def silenced(
    network: nn.Module, coupling: Coupling, kept: Mapping[str, np.ndarray]
) -> nn.Module:
    """The whole network, in which nobody reads the channels that would go."""
    network = copy.deepcopy(network)
    for path, roles in coupling.layers.items():
        if "in" not in roles:
            continue
        for index, group in enumerate(coupling.groups):
            of_group = roles["in"].group == index
            stays = np.isin(roles["in"].channel, kept[group.name])
            layer = network.get_submodule(path)
            layer.weight[:, torch.from_numpy(of_group & ~stays)] = 0.0
    return network


def assert_cut_is_silence(network: nn.Module, shape: Sequence[int], seed: int = 0) -> nn.Module:
    coupling = find_coupling(network, shape)
    kept = draw(coupling, seed)
    wanted = silenced(network, coupling, kept)(images(shape))
    left = copy.deepcopy(network)
    cut(left, coupling, kept)
    found = left(images(shape))
    scale = float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5 * scale)
    sizes = {group.name: len(kept[group.name]) for group in coupling.groups}
    again = find_coupling(left, shape)
    assert {group.name: group.size for group in again.groups} == sizes
    return left


def count(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


# -- channels --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXACT)
def test_what_is_left_computes_what_it_did(name: str) -> None:
    make, groups = EXACT[name]
    network = learnt(lambda: make(SHAPE, CLASSES))
    found = find_coupling(network, SHAPE)
    assert {group.name: group.size for group in found.groups} == groups
    for seed in range(3):
        assert_cut_is_silence(network, SHAPE, seed)


def test_channels_of_normalised_vectors_go_too() -> None:
    """Their mean is then of others; so nothing is equal, but everything fits."""
    network = learnt(lambda: mixing(SHAPE, CLASSES))
    coupling = find_coupling(network, SHAPE)
    sizes = {group.name: group.size for group in coupling.groups}
    assert sizes == {"patches": 16, "one.first": 32, "two.first": 32}
    kept = {"patches": np.array([0, 3, 4, 9]), "two.first": np.arange(5, 12)}
    cut(network, coupling, kept)
    assert network(images(SHAPE)).shape == (3, CLASSES)
    assert network.norm.normalized_shape == (4,)
    assert network.two.first.weight.shape == (7, 4)
    inner = {"one.first": np.array([1, 30])}
    network = learnt(lambda: mixing(SHAPE, CLASSES))
    left = copy.deepcopy(network)
    cut(left, coupling, inner)
    wanted = silenced(network, coupling, {n: np.arange(s) for n, s in sizes.items()} | inner)
    torch.testing.assert_close(left(images(SHAPE)), wanted(images(SHAPE)))


@pytest.mark.parametrize(
    ("make", "groups", "norm"),
    [
        (normalised, {"0.0": 16}, "1"),
        (windows_of_any_width, {"patches": 16, "one.first": 32, "two.first": 24}, "two.norm"),
    ],
)
def test_channels_go_from_layer_normalisations(
    make: Callable[..., nn.Module], groups: dict[str, int], norm: str
) -> None:
    network = learnt(lambda: make(SHAPE, CLASSES))
    coupling = find_coupling(network, SHAPE)
    assert {group.name: group.size for group in coupling.groups} == groups
    cut(network, coupling, {next(iter(groups)): np.array([0, 3, 4, 9])})
    assert network.get_submodule(norm).normalized_shape == (4,)
    assert network(images(SHAPE)).shape == (3, CLASSES)


ZOO = ("resnet18", "mobilenet_v3_small", "densenet121", "shufflenet_v2_x0_5")


@pytest.mark.parametrize("name", ZOO[:2] if not EXAMPLES else ZOO)
def test_channels_of_ready_made_networks_go(name: str) -> None:
    shape = (3, 32, 32)
    network = learnt(lambda: build_network(f"zoo:{name}", shape, CLASSES))
    left = assert_cut_is_silence(network, shape)
    assert count(left) < 0.6 * count(network) or name.startswith("shufflenet")


@at_night
@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "convnext_tiny", "efficientnet_b0", "efficientnet_v2_s", "googlenet"),
        *("inception_v3", "mnasnet0_5", "mobilenet_v2", "regnet_y_400mf", "regnet_x_400mf"),
        *("resnet50", "resnext50_32x4d", "squeezenet1_1", "swin_t", "vgg11_bn", "vit_b_16"),
        *("maxvit_t", "wide_resnet50_2"),
    ],
)
def test_channels_of_any_ready_made_network_go(name: str) -> None:
    side = {"inception_v3": 96, "vit_b_16": 224, "maxvit_t": 224}.get(name, 64)
    network = learnt(lambda: build_network(f"zoo:{name}", (3, side, side), CLASSES))
    kinds = {type(m) for m in network.modules()}
    if nn.LayerNorm not in kinds:
        assert_cut_is_silence(network, (3, side, side))
        return
    coupling = find_coupling(network, (3, side, side))
    assert coupling.groups
    cut(network, coupling, draw(coupling, 0))
    assert network(images((3, side, side))).shape == (3, CLASSES)


def test_numbers_that_stay_are_those_that_were() -> None:
    network = learnt(lambda: chain(SHAPE, CLASSES))
    coupling, left = find_coupling(network, SHAPE), copy.deepcopy(network)
    cut(left, coupling, {"1.0": np.array([2, 3, 11])})
    assert torch.equal(left[1][0].weight, network[1][0].weight[[2, 3, 11]])
    assert torch.equal(left[1][1].running_var, network[1][1].running_var[[2, 3, 11]])
    assert torch.equal(left[2][2].weight, network[2][2].weight[:, [2, 3, 11]])
    assert torch.equal(left[0][0].weight, network[0][0].weight)
    assert all(not p.requires_grad for p in left.parameters())


def test_cutting_again_goes_on_from_what_is_left() -> None:
    network = learnt(lambda: concatenation(SHAPE, CLASSES))
    coupling = find_coupling(network, SHAPE)
    first = {"a.0": np.array([1, 2, 5, 7]), "stem.0": np.arange(0, 12, 2)}
    second = {"a.0": np.array([0, 3]), "last.0": np.arange(7)}
    twice, once = copy.deepcopy(network), copy.deepcopy(network)
    cut(twice, coupling, first)
    cut(twice, coupling.restrict(first), second)
    cut(once, coupling, first | {"a.0": np.array([1, 7]), "last.0": np.arange(7)})
    torch.testing.assert_close(twice(images(SHAPE)), once(images(SHAPE)))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (shared, "'again' has weights and is called 2 times"),
        (recurrent, "'two' reads several tensors as one argument"),
        (branching, "Flow cannot be followed"),
        (counting, "Flow cannot be followed"),
        (lambda *_: nn.Sequential(nn.Identity(), branching(SHAPE, 10)), "'1', a Flow"),
        (lambda shape, classes: chain((3, 8, 8), classes), "fails on an input of 1x8x8"),
    ],
)
def test_a_network_that_cannot_be_followed_is_named(
    make: Callable[..., nn.Module], told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        find_coupling(make(SHAPE, CLASSES), SHAPE)


# -- branches --------------------------------------------------------------------------------


def test_blocks_that_keep_the_shape_are_branches() -> None:
    network = learnt(lambda: residual(SHAPE, CLASSES))
    before = copy.deepcopy(network.state_dict())
    found = find_branches(network, SHAPE)
    assert list(found) == ["1", "3", "4"]
    assert found["1"] == ("1.second.1",)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert list(find_branches(learnt(lambda: squeezed(SHAPE, 10)), SHAPE)) == ["1"]
    assert list(find_branches(learnt(lambda: mixing(SHAPE, 10)), SHAPE)) == ["one", "two"]
    assert not find_branches(learnt(lambda: chain(SHAPE, CLASSES)), SHAPE)
    assert not find_branches(silent_first(SHAPE, CLASSES), SHAPE)
    assert find_branches(learnt(lambda: windowed(SHAPE, 10)), SHAPE) == {
        "one": ("one.write", "one.second"),
        "two": ("two.write", "two.second"),
    }


@pytest.mark.parametrize("make", [residual, squeezed, mixing, windowed])
def test_an_identity_is_what_a_silent_branch_is(make: Callable[..., nn.Module]) -> None:
    network = learnt(lambda: make(SHAPE, CLASSES))
    for path, layers in find_branches(network, SHAPE).items():
        silent, left = copy.deepcopy(network), copy.deepcopy(network)
        for layer in layers:
            for weight in silent.get_submodule(layer).parameters():
                weight.zero_()
        remove_branches(left, [path])
        assert count(left) < count(network)
        torch.testing.assert_close(left(images(SHAPE)), silent(images(SHAPE)))
        assert not torch.equal(left(images(SHAPE)), network(images(SHAPE)))


def test_branches_of_a_ready_made_network() -> None:
    network = learnt(lambda: build_network("zoo:resnet18", (3, 32, 32), CLASSES))
    found = find_branches(network, (3, 32, 32))
    assert list(found) == ["layer1.0", "layer1.1", "layer2.1", "layer3.1", "layer4.1"]


def test_what_is_in_a_branch_that_went_is_cut_no_more() -> None:
    network = learnt(lambda: residual(SHAPE, CLASSES))
    coupling = find_coupling(network, SHAPE)
    first = {"0.0": np.arange(9), "3.first.0": np.arange(4)}
    left = copy.deepcopy(network)
    cut(left, coupling, first)
    remove_branches(left, ["3"])
    second = {"0.0": np.arange(1, 6), "2.second.0": np.arange(10, 30)}
    cut(left, coupling.restrict(first, ["3"]), second)
    assert left(images(SHAPE)).shape == (3, CLASSES)
    assert left[1].first[0].weight.shape[:2] == (16, 5)
    assert left[5][2].in_features == 20


class TwoReaders(nn.Module):
    """A convolution and a linear layer with offsets read the channels of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 4, 3)
        self.last = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        return self.second(x).mean((2, 3)) + self.last(x.mean((2, 3)))


def off_by(network: nn.Module, outputs: Tensor, x: Tensor) -> float:
    """By how much outputs differ, as a share of how much they vary."""
    return float((network(x) - outputs).std() / outputs.std())


def test_channels_that_stay_make_up_for_those_like_them() -> None:
    torch.manual_seed(0)
    network = TwoReaders().eval()
    with torch.no_grad():  # the last four channels are multiples of the first four
        scale = torch.tensor([0.5, 1.0, 2.0, 3.0])
        network.first.weight[4:] = scale[:, None, None, None] * network.first.weight[:4]
        network.first.bias[4:] = scale * network.first.bias[:4]
        x = torch.randn(64, *SHAPE) + 0.5
        coupling = find_coupling(network, SHAPE)
        kept = {"first": np.arange(4)}
        outputs, plain = network(x), copy.deepcopy(network)
        cut(plain, coupling, kept)
        compensate(network, coupling, kept, x.split(16))
        cut(network, coupling, kept)
        assert off_by(plain, outputs, x) > 0.5
        assert off_by(network, outputs, x) < 0.05
        fresh = torch.randn(64, *SHAPE) + 0.5
        assert torch.allclose(network(fresh).mean(0), network(x).mean(0), atol=0.2)


def test_what_is_left_is_nearer_to_what_was() -> None:
    nearer = []
    x = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(0))
    for make in (residual, squeezed, concatenation, chain):
        network = learnt(lambda make=make: make(SHAPE, CLASSES)).eval()
        coupling = find_coupling(network, SHAPE)
        with torch.no_grad():
            outputs = network(x)
            for seed in range(5):
                kept = draw(coupling, seed)
                plain, made_up = copy.deepcopy(network), copy.deepcopy(network)
                compensate(made_up, coupling, kept, x.split(16))
                cut(plain, coupling, kept)
                cut(made_up, coupling, kept)
                nearer.append(off_by(made_up, outputs, x) < off_by(plain, outputs, x))
    assert sum(nearer) >= 0.8 * len(nearer)
