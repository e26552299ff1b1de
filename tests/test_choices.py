"""A function that returns a module with choices is a space, everywhere that one is used."""

import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import goldnas
import own_spaces
from goldnas.errors import StoppedError
from goldnas.exporting.fold import Scaled, fold
from goldnas.exporting.onnx import to_onnx
from goldnas.lut import LatencyTable
from goldnas.lut.lint import lint
from goldnas.operators import find_part, label_part
from goldnas.profiling.calibration import rebuild_space
from goldnas.profiling.check import check_table
from goldnas.profiling.compose import CompositionError, compose_network
from goldnas.profiling.context import make_row_models
from goldnas.profiling.fill import fill_table
from goldnas.profiling.session import Session
from goldnas.resources import Flops, count_flops, count_parameters
from goldnas.resources.costs import compute_costs
from goldnas.searching.folder import SearchRun
from goldnas.site import Shapes, Site, parse_site
from goldnas.spaces import FUNCTIONS, find_space, make_space
from goldnas.supernet import SuperNet
from goldnas.training.memory import step_memory
from searches import assert_same_results, search
from simulated_device import SimulatedDevice
from workplace import invoke

RESIDUAL = make_space(own_spaces.residual)
FULL = RESIDUAL.architecture(RESIDUAL.gates)


# -- what a space is made of -------------------------------------------------------------------


def test_a_candidate_that_passes_its_input_on_is_not_changed_in_place() -> None:
    """A network computes what the search did, where the candidates' outputs were summed."""
    space = make_space(own_spaces.overwriting, input_shape=[1, 8, 8])
    skips = {f"1.{place}": ("skip",) for place in ("first", "second", "third", "kept")}
    nested = {"1.third": ("inner",), "1.third.operators.inner.0": ("skip",)}
    for choices in (skips, skips | nested):
        architecture = goldnas.Architecture(
            space=space.name, settings=space.settings, choices=choices
        )
        gated = space.build(architecture, gated=True).eval()
        plain = space.build(architecture).eval()
        plain.load_state_dict(gated.state_dict(), strict=False)
        images = torch.randn(4, 1, 8, 8)
        torch.testing.assert_close(plain(images), gated(images))
        copying = [n for n, m in plain.named_modules() if getattr(m, "copying", False)]
        assert "1.first" in copying
        assert "1.kept" not in copying
        exported = onnx.load_model_from_string(to_onnx(plain, (1, 1, 8, 8)))
        assert "Identity" not in [node.op_type for node in exported.graph.node]


def test_places_and_parts_are_found() -> None:
    places = {gate.place: gate.parts[0][1] for gate in RESIDUAL.gates}
    assert {place: str(site) for place, site in places.items()} == {
        "blocks.0": "4x8x8->4x8x8",
        "blocks.1": "4x8x8->4x8x8",
        "down": "8x8x8->4x4x4",
    }
    assert {f"{operator} {site}" for operator, site in RESIDUAL.rows()} == {
        "own_spaces:residual/stem 1x8x8->4x8x8",
        "own_spaces:residual/head 4x4x4->10",
        "own_spaces:residual/conv_3x3 4x8x8->4x8x8",
        "own_spaces:residual/conv_5x5 4x8x8->4x8x8",
        "own_spaces:residual/skip 4x8x8->4x8x8",
        "own_spaces:residual/conv 8x8x8->4x4x4",
        "own_spaces:residual/pool 8x8x8->4x4x4",
    }
    assert RESIDUAL.groups == ((0, 1, 2), (3, 4, 5), (6, 7))
    assert RESIDUAL.classes == 10


def test_settings_are_the_arguments_with_their_defaults() -> None:
    assert RESIDUAL.settings == {
        "width": 4,
        "classes": 10,
        "input_shape": [1, 8, 8],
        "rectify": False,
    }
    again = find_space(FULL)
    assert again.settings == RESIDUAL.settings
    assert find_space(FULL) is again  # made once: it calls the function
    assert again.call == (
        "space('own_spaces:residual', input_shape=(1, 8, 8), width=4, classes=10, "
        "rectify=False)"
    )


def test_choices_that_share_a_name_are_one_decision() -> None:
    space = make_space(own_spaces.repeated)
    assert [(gate.place, gate.key, len(gate.parts)) for gate in space.gates] == [
        *(("cell", key, 3) for key in ("conv_1x1", "conv_3x3", "skip")),
        *(("3", key, 1) for key in ("conv", "pool")),
    ]
    assert len(space.rows()) == 2 * 3 + 2 + 2  # three at each of two sizes
    chosen = [gate for gate in space.gates if gate.key in ("conv_3x3", "pool")]
    architecture = space.architecture(chosen)
    assert architecture.choices == {"cell": ("conv_3x3",), "3": ("pool",)}
    kernels = [m.kernel_size[0] for m in space.build(architecture).modules() if is_conv(m)]
    assert kernels == [3, 3, 3, 1, 3]
    flops = compute_costs(space, Flops(space.build_part)).gates[1]
    assert flops == 9 * (2 * 4 * 4 * 64 + 8 * 8 * 16)


def test_a_shared_operator_is_pruned_everywhere_and_has_one_gate() -> None:
    space = make_space(own_spaces.repeated)
    supernet = SuperNet(space)
    names = [name for name, _ in supernet.network.named_parameters()]
    supernet.prune([1])
    gone = set(names) - {name for name, _ in supernet.network.named_parameters()}
    assert {name.rpartition(".operators.")[0] for name in gone} == {"1", "2", "4"}
    images = torch.randn(2, 1, 8, 8)
    loss, _ = supernet(images)
    loss.square().sum().backward()
    assert supernet.alpha.grad is not None
    assert supernet.alpha.grad.count_nonzero() == 4
    network = space.build(space.architecture(supernet.active_gates()), gated=True)
    network.load_state_dict(supernet.network_state())
    logits, _ = supernet.eval()(images)
    assert torch.allclose(network.eval()(images), logits, atol=1e-6)


def is_conv(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d)


def test_lists_reach_the_function_as_tuples_and_any_shape_is_one() -> None:
    space = make_space(own_spaces.flat, sizes=[4, 8], input_shape=[5])
    assert {str(site) for gate in space.gates for _, site in gate.parts} == {"4->8"}
    assert space.classes == 3


def test_registered_operators_share_rows_with_other_spaces() -> None:
    space = make_space(own_spaces.registered, input_shape=[1, 8, 8])
    assert [(g.key, *map(str, part)) for g in space.gates for part in g.parts] == [
        ("conv", "sep_conv_3x3", "4x8x8->4/s1"),
        ("pool", "max_pool_3x3", "4x8x8->4/s1"),
    ]


def test_a_built_network_is_new_each_time_and_knows_its_parts() -> None:
    one, other = (RESIDUAL.build(FULL) for _ in range(2))
    assert not torch.equal(one.stem[1].weight, other.stem[1].weight)
    parts = [part for m in one.modules() if (part := find_part(m)) is not None]
    assert sorted(map(str, parts)) == sorted(map(str, RESIDUAL.plan(FULL).parts()))


def test_choice_is_found_without_torch_being_imported_for_it() -> None:
    code = "import sys, goldnas; assert 'torch' not in sys.modules; goldnas.Choice"
    command = [sys.executable, "-P", "-c", f"{code}; assert 'torch' in sys.modules"]
    assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("text", ["16x32x32->16/s1", "3x32x32->16x16x16", "2x128->64", "5->7"])
def test_sites_of_any_rank_are_text(text: str) -> None:
    assert str(parse_site(text)) == text
    assert isinstance(parse_site(text), Site if "/s" in text else Shapes)


# -- gates -------------------------------------------------------------------------------------


def test_checkpointing_changes_neither_gradients_nor_statistics() -> None:
    """Of candidates that draw random numbers too."""
    images = torch.randn(4, *RESIDUAL.input_shape, generator=torch.Generator().manual_seed(1))
    steps = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        supernet = SuperNet(RESIDUAL, checkpointing=checkpointing)
        for block in supernet.modules():
            if isinstance(block, goldnas.Choice):
                first = next(iter(block.operators))
                block.operators[first] = nn.Sequential(block.operators[first], nn.Dropout(0.5))
        supernet(images)[0].square().sum().backward()
        steps.append(supernet)
    kept, again = (dict(s.named_parameters()) for s in steps)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in kept.values())
    assert all(torch.equal(p.grad, again[name].grad) for name, p in kept.items())
    state = steps[1].state_dict()
    assert all(torch.equal(value, state[n]) for n, value in steps[0].state_dict().items())


def test_checkpointing_needs_less_memory_and_the_estimate_says_so() -> None:
    plain, again = (SuperNet(RESIDUAL, checkpointing=c) for c in (False, True))
    device = torch.device("cpu")
    shape = plain.space.input_shape
    of_plain, of_again = (step_memory(s, shape, device, nullcontext) for s in (plain, again))
    assert of_again.image_bytes < 0.8 * of_plain.image_bytes
    assert all(m.checkpointing for m in again.modules() if isinstance(m, goldnas.Choice))


class Doubled(nn.Sequential):
    """A sequence that is more than its layers."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


def twice(layer: nn.Module) -> nn.Module:
    return nn.Sequential(layer, nn.ReLU(), layer)


@pytest.mark.parametrize(
    ("candidate", "shape", "scaled"),
    [
        (nn.Sequential(nn.ReLU(), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)), (4, 6, 6), False),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, affine=False)), (4, 6, 6), False),
        (nn.Sequential(nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)), (4, 9), False),
        (nn.Conv2d(4, 4, 3, padding=1), (4, 6, 6), False),
        (nn.Sequential(nn.ReLU(), nn.Sequential(nn.Linear(5, 5))), (5,), False),
        (nn.Identity(), (4, 6, 6), True),
        (nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()), (4, 6, 6), True),
        (Doubled(nn.Conv2d(4, 4, 1)), (4, 6, 6), True),
        (twice(nn.Conv2d(4, 4, 1)), (4, 6, 6), True),
        (nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1)), (4, 6, 6), True),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else str(value),
)
def test_a_gate_is_folded_into_what_takes_it_in(
    candidate: nn.Module, shape: tuple[int, ...], scaled: bool
) -> None:
    choice = goldnas.Choice({"one": lambda: candidate, "skip": nn.Identity})
    for module in choice.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.normal_(module.running_mean)
    choice.gates = torch.tensor([0.3, 0.7])
    x = torch.randn(2, *shape)
    result = fold(choice)
    torch.testing.assert_close(result(x), choice.eval()(x))
    assert isinstance(result.operators["one"], Scaled) == scaled


def test_layers_keep_their_numbers_where_others_may_count_them() -> None:
    layers = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    assert [type(layer) for layer in fold(layers)] == [nn.Conv2d, nn.Identity, nn.ReLU]


# -- latency -----------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [[5], [1, 8, 8]], ids=["rank 2", "rank 4"])
def test_the_models_of_every_row_run(shape: list[int]) -> None:
    function = own_spaces.residual if len(shape) == 3 else own_spaces.flat
    space = make_space(function, input_shape=shape)
    for operator, site in space.rows():
        exported = onnx.load_model_from_string(
            to_onnx(space.build_part(operator, site), (2, *site.input_shape))
        )
        found = make_row_models(exported, site, batch=2)
        assert found.method == (
            "chain" if site.input_shape == site.output_shape else "branches"
        )
        for model in found.models.values():
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
            session.run(None, {"input": torch.zeros(2, *site.input_shape).numpy()})


def test_a_row_of_a_sequence_is_fed_by_a_convolution_of_its_rank() -> None:
    pool = label_part(nn.MaxPool1d(2), ("pool", Shapes((3, 8), (3, 4))))
    found = make_row_models(
        onnx.load_model_from_string(to_onnx(pool, (1, 3, 8))), Shapes((3, 8), (3, 4)), batch=1
    )
    for model in found.models.values():
        onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def test_networks_that_only_join_parts_are_put_together() -> None:
    exported = partial(Session(SimulatedDevice()).operator, build=RESIDUAL.build_part)
    network = RESIDUAL.build(FULL)
    whole = onnx.load_model_from_string(to_onnx(network, (1, 1, 8, 8)))
    joined = onnx.load_model_from_string(compose_network(network, exported, (1, 1, 8, 8)))
    kinds = ("Conv", "Concat", "MaxPool", "Gemm")
    counts = [
        [sum(n.op_type == k for n in m.graph.node) for k in kinds] for m in (whole, joined)
    ]
    assert counts[0] == counts[1] == [7, 1, 1, 1]
    rectified = make_space(own_spaces.residual, rectify=True)
    with pytest.raises(CompositionError, match=r"it also calls .*relu"):
        compose_network(
            rectified.build(rectified.architecture(rectified.gates)), exported, (1, 1, 8, 8)
        )


@pytest.mark.parametrize("rectify", [False, True], ids=["joined", "exported whole"])
def test_a_device_is_profiled_for_a_space(rectify: bool, tmp_path: Path) -> None:
    space = make_space(own_spaces.residual, rectify=True) if rectify else RESIDUAL
    session = Session(SimulatedDevice())
    empty = LatencyTable(session.conditions, (), tmp_path / "cpu.json")
    table = fill_table(session, empty, space, networks=2 if rectify else 12)
    assert not table.missing(space.rows())
    again = LatencyTable.load(table.path)
    assert again.rows == tuple(table.sorted_rows())
    if not rectify:
        found = check_table(
            session, again, rebuild_space(again.calibrations[0]), networks=10, seed=1
        )
        assert found.accuracy.mape_percent < 2
    # Visits to a simulated device take no time, and of its system nothing is known.
    assert {finding.rule for finding in lint(table.path)} <= {"unit", "missing-condition"}


# -- searching, training, exporting ------------------------------------------------------------

OPTIONS = (
    "--data digits --space own_spaces:residual --set width=6 --epochs 2 --batch-size 512 "
    "--train-device cpu"
)


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, make_table: Callable[..., LatencyTable]
) -> Path:
    """A search within two budgets of a space of one's own, with one operator per choice."""
    folder = tmp_path_factory.mktemp("own")
    make_table(folder / "cpu.json", make_space("own_spaces:residual", width=6))
    run = folder / "run"
    status, said, errors = invoke(
        *f"search {OPTIONS} --single --budget 60kFLOPs --budget 60us".split(),
        *("--latency-lut", folder / "cpu.json", "--out", run),
    )
    assert status == 0, errors
    assert "operators" in said
    return run


def test_a_search_leaves_one_operator_at_each_choice(found: Path) -> None:
    run = SearchRun.open(found)
    best = run.front().pick("best")
    architecture = run.architecture(best)
    assert [len(kept) for kept in architecture.choices.values()] == [1, 1, 1]
    assert best.resources["operators"] == 3
    network = run.network(best)
    assert best.resources["FLOPs"] == count_flops(network, (1, 8, 8)) <= 60e3
    assert best.resources["params"] == count_parameters(network)
    assert best.resources["latency@cpu"] <= 60


def test_its_network_is_exported_and_verified(found: Path, tmp_path: Path) -> None:
    out = tmp_path / "net.onnx"
    status, said, errors = invoke("export", found, "--out", out)
    assert status == 0, errors
    assert "differ by" in said
    assert re.search(r"verify: \w+ .*FLOPs", said)
    message = "--python-out writes networks of cells"
    status, _, errors = invoke("export", found, "--out", out, "--python-out", tmp_path / "a.py")
    assert (status, message in errors) == (2, True)


@pytest.mark.parametrize("warm", [[], ["--warm"]], ids=["anew", "warm"])
def test_its_network_is_trained(
    found: Path, tmp_path: Path, warm: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "trained"
    short = [
        "--recipe",
        "darts-cifar",
        "--epochs",
        "1",
        "--batch-size",
        "512",
        "--train-device",
        "cpu",
    ]
    status, said, errors = invoke("train", found, "--out", out, *short, *warm)
    assert status == 0, errors
    assert "auxiliary weight 0 for a network without cells" in said
    monkeypatch.delitem(FUNCTIONS, "own_spaces:residual")
    status, said, errors = invoke("evaluate", out, "--space", "own_spaces:residual")
    assert status == 0, errors
    assert " % on the test set" in said
    asked = ("train", found, "--out", tmp_path / "b", "--drop-path", "0.2", *short)
    status, _, errors = invoke(*asked)
    assert (status, "--drop-path is for networks of cells" in errors) == (2, True)


def test_a_search_that_was_stopped_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    """Though its network drops out at random, which a network of cells does not."""
    settings = {
        "space": own_spaces.residual,
        "budgets": ["30kFLOPs"],
        "epochs": 3,
        "batch_size": 512,
        "train_device": "cpu",
    }
    asked = iter([0] * 4 + [15])
    with pytest.raises(StoppedError):
        goldnas.search(out=tmp_path / "halted", stop_signal=lambda: next(asked), **settings)
    resumed = goldnas.load_run(tmp_path / "halted").resume()
    assert_same_results(goldnas.search(out=tmp_path / "whole", **settings), resumed)


def test_gold_leaves_one_operator_per_node(tmp_path: Path) -> None:
    architecture = search(tmp_path / "run", single=True, budgets=(), epochs=2).best.architecture
    nodes = [place.rpartition("-")[2] for place in architecture.choices]
    assert sorted(nodes) == sorted([*"2345"] * 2)
    assert all(len(kept) == 1 for kept in architecture.choices.values())
