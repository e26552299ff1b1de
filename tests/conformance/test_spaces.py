"""What every search space promises. A new one is covered the moment it is registered."""

import inspect
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from goldnas.api.together import name_space
from goldnas.architecture import Architecture
from goldnas.cli.lists import shown
from goldnas.exporting.onnx import check_onnx, to_onnx
from goldnas.operators import find_builder, find_part
from goldnas.resources import Flops, Parameters, count_flops, count_parameters
from goldnas.resources.costs import sum_costs
from goldnas.spaces import (
    FUNCTIONS,
    SMALL,
    SPACES,
    Gate,
    GoldSpace,
    SearchSpace,
    find_space,
    make_space,
)
from goldnas.spaces.sampling import draw_architectures
from goldnas.supernet import SuperNet
from workplace import invoke

ODD = {"cells": 3, "channels": 4, "nodes": 2, "input_shape": (2, 17, 12), "classes": 3}
NAMES = sorted(SPACES)
OWN = tuple(f"own_spaces:{name}" for name in ("residual", "repeated", "forked", "nesting"))
OF_FUNCTIONS: dict[str, Mapping[str, Any]] = {name: {} for name in OWN} | SMALL
EVERY = [*NAMES, *OF_FUNCTIONS]
for function in OWN:
    name_space(function)


def odd(name: str, **settings: Any) -> SearchSpace:
    """A small space, of images that no stride divides; settings are of cells, or of all."""
    if name not in OF_FUNCTIONS:
        return make_space(name, **ODD | settings)
    of_all = {key: ODD[key] for key in ("input_shape", "classes")}
    if "affine" in settings and "affine" in inspect.signature(FUNCTIONS[name]).parameters:
        of_all["affine"] = settings["affine"]
    return make_space(name, **of_all | OF_FUNCTIONS[name])


def kept(space: SearchSpace, architecture: Architecture) -> list[int]:
    """The gates of an architecture, by index."""
    alone = [space.architecture([gate]).choices for gate in space.gates]
    return [
        index
        for index, choices in enumerate(alone)
        if all(
            set(keys) <= set(architecture.choices.get(place, ()))
            for place, keys in choices.items()
        )
    ]


def minimal(space: SearchSpace) -> list[int]:
    """Gates of which none can go: each is the last one of some group, or of all ways."""
    left = set(range(len(space.gates)))
    for index in random.Random(0).sample(sorted(left), len(left)):
        linked = space.wiring is None or space.wiring.is_linked(left - {index})
        if linked and all(len(left & set(g)) > 1 for g in space.groups if index in g):
            left.remove(index)
    return sorted(left)


def architectures(space: SearchSpace) -> dict[str, Architecture]:
    """From one operator per group to all of them; of cells two that leave an input unread."""

    def of(gates: Iterable[Gate]) -> Architecture:
        return space.architecture(gates)

    few, many = draw_architectures(space, 2, seed=0)
    unread = (0, 1) if isinstance(space, GoldSpace) else ()
    return {
        "minimal": of(space.gates[index] for index in minimal(space)),
        "few": few,
        "many": many,
        "full": of(space.gates),
        **{f"without input {i}": of(g for g in space.gates if g.source != i) for i in unread},
    }


CASES = [(name, kind) for name in EVERY for kind in architectures(odd(name))]


def images_for(space: SearchSpace, count: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, *space.input_shape, generator=generator)


# -- building ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("cells", "input_shape"),
    [(1, (1, 7, 9)), (2, (3, 30, 30)), (3, (1, 28, 28)), (5, (1, 5, 5))],
)
def test_any_size_of_image_and_number_of_cells_works(
    name: str, cells: int, input_shape: tuple[int, int, int]
) -> None:
    space = make_space(name, cells=cells, channels=4, input_shape=input_shape, classes=3)
    network = space.build(space.architecture(space.gates))
    images = images_for(space, 2)
    for mode in (True, False):
        logits = network.train(mode)(images)
        assert logits.shape == (2, 3)
        assert logits.isfinite().all()
    sites = {str(g.cell): g.site for g in space.gates if (g.source, g.node) == (2, 3)}
    outputs = network.features(images)
    for cell, site in sites.items():
        channels = space.channels_out(int(cell))
        assert outputs[cell].shape == (2, channels, site.height, site.width)


@pytest.mark.parametrize("name", EVERY)
def test_the_super_network_prunes_to_what_is_built(name: str) -> None:
    """To a random network first, and on from it to one operator per group."""
    space = odd(name)
    supernet = SuperNet(space)
    (subset,) = draw_architectures(space, 1, seed=1)
    for left in (set(kept(space, subset)) | set(minimal(space)), set(minimal(space))):
        supernet.prune(set(supernet.active.nonzero().flatten().tolist()) - left)
        architecture = space.architecture(space.gates[index] for index in sorted(left))
        network = space.build(architecture, gated=True)
        network.load_state_dict(supernet.network_state())
        images = images_for(space)
        logits, _ = supernet.eval()(images)
        torch.testing.assert_close(network.eval()(images), logits)


@pytest.mark.parametrize("name", EVERY)
def test_an_architecture_comes_back_from_its_file(name: str, tmp_path: Path) -> None:
    space = odd(name, normal_concat=(3,))
    for kind, architecture in architectures(space).items():
        path = tmp_path / f"{kind}.json"
        architecture.save(path)
        read = Architecture.load(path)
        assert read.to_json() == architecture.to_json()
        assert read.space == name
        assert find_space(read).settings == space.settings
        assert repr(find_space(read).build(read)) == repr(space.build(architecture))


@pytest.mark.parametrize("name", EVERY)
def test_an_exported_network_computes_the_same(name: str) -> None:
    space = odd(name, cells=2)
    (architecture,) = draw_architectures(space, 1, seed=2)
    network = space.build(architecture).eval()
    shape = (1, *space.input_shape)
    assert check_onnx(to_onnx(network, shape), network, shape) < 1e-5


# -- counting ----------------------------------------------------------------------------------


def flops_by_torch(network: nn.Module, space: SearchSpace) -> float:
    """Count with torch's own counter, which counts a multiply-add as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(images_for(space, 1))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", EVERY)
def test_costs_of_the_parts_are_those_of_the_built_network(name: str, affine: bool) -> None:
    """To the last FLOP and parameter, by our counter and by torch's."""
    space = odd(name, affine=affine)
    flops, parameters = Flops(space.build_part), Parameters(space.build_part)
    for architecture in architectures(space).values():
        network = space.build(architecture)
        parts = list(space.plan(architecture).parts())
        assert sum_costs(parameters, parts) == sum(p.numel() for p in network.parameters())
        assert sum_costs(parameters, parts) == count_parameters(network)
        assert sum_costs(flops, parts) == flops_by_torch(network, space)
    assert sum_costs(flops, parts) == count_flops(network, space.input_shape)


@pytest.mark.parametrize("name", EVERY)
def test_a_network_of_a_search_has_the_fixed_parts_and_those_of_its_gates(name: str) -> None:
    space = odd(name)
    found = architectures(space)
    for kind in ("minimal", "few", "many", "full"):
        gates = [space.gates[index] for index in kept(space, found[kind])]
        parts = (part for gate in gates for part in gate.parts)
        expected = Counter([*space.fixed_parts, *parts])
        parts = Counter(space.plan(found[kind]).parts())
        assert parts <= expected  # which operators may have no reader
        assert parts == expected or (space.wiring is not None and kind != "full")


@pytest.mark.parametrize("name", EVERY)
def test_a_latency_table_has_one_row_for_every_part(name: str) -> None:
    space = odd(name)
    rows = space.rows()
    assert len(set(rows)) == len(rows)
    own = f"{name}/"  # the names of what is built by the space alone
    assert all(operator.startswith(own) or find_builder(operator) for operator, _ in rows)
    found = architectures(space)
    for architecture in found.values():
        assert set(space.plan(architecture).parts()) <= set(rows)
    assert set(space.plan(found["full"]).parts()) == set(rows)


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_only_what_reaches_the_output_is_built_and_costs(name: str, kind: str) -> None:
    space = odd(name)
    architecture = architectures(space)[kind]
    network = space.build(architecture)
    outputs: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        if output.requires_grad:  # an identity of zeros has nothing to learn
            output.retain_grad()
        outputs.append(output)

    parts = [module for module in network.modules() if find_part(module) is not None]
    for part in parts:
        part.register_forward_hook(keep)
    logits = network(images_for(space).requires_grad_())
    (logits * torch.randn_like(logits)).sum().backward()
    assert len(outputs) == len(parts) == len(list(space.plan(architecture).parts()))
    assert all(output.grad is not None for output in outputs if output.requires_grad)


# -- telling -----------------------------------------------------------------------------------


def defaults_of(function: Callable[..., object]) -> dict[str, object]:
    return {k: given.default for k, given in inspect.signature(function).parameters.items()}


@pytest.fixture(scope="module")
def listed() -> str:
    """What ``--list-spaces`` shows."""
    code, stdout, _ = invoke("search", "--list-spaces")
    assert code == 0
    return "\n\n" + stdout


@pytest.mark.parametrize("name", [*NAMES, *SMALL])
def test_the_list_of_spaces_tells_what_each_decides(name: str, listed: str) -> None:
    of_cells = name in SPACES
    defaults = vars(SPACES[name]()) if of_cells else defaults_of(FUNCTIONS[name])
    told = " ".join(listed.partition(f"\n\n{name}: ")[2].partition("\n\n")[0].split())
    assert defaults
    assert all(f"{setting} {shown(value)}" in told for setting, value in defaults.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_call_of_a_space_makes_it_again(name: str) -> None:
    space = odd(name, nodes=4)
    assert eval(space.call, {"space": make_space}) == space
