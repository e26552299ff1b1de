"""The search as a user meets it: budgets kept, runs repeatable, resumable and recorded."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from goldnas.errors import ConfigError, RunError
from goldnas.resources import count_flops, count_parameters
from goldnas.searching.config import SearchConfig
from goldnas.searching.data import dataset_of, search_data
from goldnas.searching.folder import SearchRun
from goldnas.searching.front import Front, FrontNetwork
from goldnas.searching.setup import feasibility_of
from goldnas.searching.start import PreparedSearch
from goldnas.searching.strategies.gold import GradualSearch
from goldnas.spaces import GoldImageNetSpace, GoldSpace
from goldnas.training.evaluate import score
from searches import SMALL, assert_same_results, started
from workplace import invoke

CPU = torch.device("cpu")


def final(front: Front) -> FrontNetwork:
    """The network that training ended with."""
    (network,) = (n for n in front.networks if "end" in n.reasons)
    return network


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> SearchRun:
    search = started(tmp_path_factory.mktemp("runs") / "a")
    search.search()
    return search.run


class StoppedOnPurposeError(Exception):
    """Stands for whatever ends a process."""


@pytest.mark.parametrize("stop_at_step", [1, 5, 6, 9])
def test_a_resumed_search_ends_in_the_same_bits(
    finished: SearchRun, tmp_path: Path, stop_at_step: int
) -> None:
    search = started(tmp_path / "b")

    def stop(event: str, fields: dict[str, Any]) -> None:
        if event == "step" and fields["step"] == stop_at_step:
            raise StoppedOnPurposeError

    search.observer = stop
    with pytest.raises(StoppedOnPurposeError):
        search.search()
    torch.manual_seed(123)  # whatever happened to the global state in between
    resumed = PreparedSearch.resume(SearchRun.open(tmp_path / "b"))
    resumed.search()
    assert_same_results(finished, resumed.run)


def test_the_number_of_loading_processes_changes_nothing(
    finished: SearchRun, tmp_path: Path
) -> None:
    search = started(tmp_path / "b", workers=2)
    search.search()
    assert_same_results(finished, search.run)


def test_another_seed_gives_other_weights(finished: SearchRun, tmp_path: Path) -> None:
    search = started(tmp_path / "b", seed=1)
    search.search()
    assert search.run.front() != finished.front()


@pytest.mark.parametrize("epochs", [1, 2, 4])
@pytest.mark.parametrize(
    "budgets", [("100kFLOPs",), ("120kFLOPs", "8kparams"), ("97kFLOPs", "7.5kparams")]
)
def test_every_budget_holds_after_the_last_epoch_whatever_their_number(
    tmp_path: Path, epochs: int, budgets: tuple[str, ...]
) -> None:
    search = started(tmp_path / "a", epochs=epochs, budgets=budgets)
    front = search.search()
    last = final(front)
    assert last.epoch == epochs - 1
    assert last.meets_budgets
    assert all(last.resources[name] <= limit for name, limit in front.budgets.items())


def test_resources_of_recorded_networks_are_those_of_the_built_modules(
    finished: SearchRun,
) -> None:
    for network in finished.front().networks:
        built = finished.network(network)
        assert network.resources == {
            "FLOPs": count_flops(built, (1, 8, 8)),
            "params": count_parameters(built),
        }


def test_recorded_accuracy_is_that_of_the_saved_weights(finished: SearchRun) -> None:
    data = search_data(finished.config, dataset_of(finished.config), CPU)
    assert finished.conditions["inputs"] == data.normalisation.told()
    for network in finished.front().networks:
        built = finished.network(network)
        assert score(built, data.validation, data.normalisation, CPU) == network.accuracy


def test_the_log_holds_the_accuracy_before_and_after_every_pruning(finished: SearchRun) -> None:
    gates = 2 * 28
    prunings = [event for event in finished.events() if event["event"] == "prune"]
    assert prunings
    for event in prunings:
        assert 0 <= event["accuracy_after"] <= 1
        assert 0 <= event["accuracy_before"] <= 1
        gates -= len(event["operators"])
        assert event["live_operators"] == gates


def test_a_front_that_was_removed_comes_back(finished: SearchRun, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.path, folder)
    (folder / "front.json").unlink()
    search = PreparedSearch.resume(SearchRun.open(folder))
    search.search()
    assert_same_results(finished, SearchRun.open(folder))


def test_the_front_goes_on_below_the_budgets(finished: SearchRun) -> None:
    front = finished.front()
    trained = final(front).resources["FLOPs"]
    beyond = [n.resources["FLOPs"] for n in front.networks if "beyond" in n.reasons]
    shares = sorted((flops / 100e3 for flops in beyond), reverse=True)
    assert len(shares) >= 3
    assert all(s <= limit for s, limit in zip(shares, GradualSearch.BEYOND, strict=False))
    assert max(beyond) < trained
    steps = [event for event in finished.events() if event["event"] == "beyond"]
    assert all(len(event["operators"]) == 1 for event in steps)
    assert front.pick("best").resources["FLOPs"] >= trained


def test_a_search_at_its_end_has_nothing_left_to_do(finished: SearchRun) -> None:
    before = {p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file()}
    again = PreparedSearch.resume(SearchRun.open(finished.path))
    assert again.search() == finished.front()
    assert before == {p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file()}


def test_a_space_decides_what_is_not_given_and_the_folder_says_it(tmp_path: Path) -> None:
    space = GoldImageNetSpace()
    run = started(
        tmp_path / "a", space=space.name, cells=1, channels=None, budgets=("1GFLOPs",)
    ).run
    config = SearchRun.open(run.path).read().config
    assert (config.space, config.cells) == ("gold-imagenet", 1)
    assert (config.channels, config.operators) == (space.channels, space.operators)


def test_a_search_behind_the_imagenet_stem_ends_in_a_network_that_is_exported(
    tmp_path: Path, make_table: Any
) -> None:
    space = GoldImageNetSpace(cells=2, channels=4, input_shape=(1, 8, 8), classes=10)
    table = make_table(tmp_path / "pi5.json", space).path
    settings = (
        "--space gold-imagenet --cells 2 --channels 4 --epochs 1 --batch-size 512 "
        "--auxiliary-weight 0 --train-device cpu --budget 1GFLOPs --budget 1s"
    )
    run, net = tmp_path / "run", tmp_path / "net.onnx"
    code, _, stderr = invoke("search", *settings.split(), "--latency-lut", table, "--out", run)
    assert code == 0, stderr
    code, _, stderr = invoke(
        "export", run, "--out", net, "--python-out", net.with_suffix(".py")
    )
    assert code == 0, stderr
    assert "CellNetwork(\n        stem0_imagenet(1, 4)," in net.with_suffix(".py").read_text()


def test_the_test_set_is_never_looked_at(tmp_path: Path) -> None:
    config = SearchConfig(**SMALL)
    dataset = dataset_of(config)
    unseen: Any = None  # touching it would raise
    data = search_data(config, dataclasses.replace(dataset, test=unseen), CPU)
    run = SearchRun.create(tmp_path / "a", config, {}, [])
    assert GradualSearch(run, data, feasibility_of(config, data.space, []), CPU).search()
    train = len(dataset.train)
    assert data.loader.num_images + len(data.validation) == train


def test_pruned_operators_leave_the_module_and_the_optimiser(tmp_path: Path) -> None:
    search = started(tmp_path / "a")
    search.search()
    live = {id(parameter) for parameter in search.supernet.parameters()}
    optimised = search.weights_optimizer.param_groups[0]["params"]
    assert {id(p) for p in optimised} <= live
    assert {id(p) for p in search.weights_optimizer.state} <= live
    names = {f"{g.cell}.{g.key}" for g in search.supernet.active_gates()}
    modules = {
        f"{cell}.{key}"
        for cell, module in search.supernet.network.cells.items()
        for key in module.operators  # type: ignore[union-attr]
    }
    assert names == modules
    momentum = search.gates_optimizer.state[search.supernet.alpha]["momentum_buffer"]
    assert momentum[~search.supernet.active].eq(0).all()


def test_the_pace_of_the_paper_ends_within_the_budgets_and_records_plateaus(
    tmp_path: Path,
) -> None:
    search = started(
        tmp_path / "a",
        pace="paper",
        epochs=200,
        lambda0=3e-2,
        t0=1,
        budgets=("105kFLOPs",),
        auxiliary_weight=0.0,
    )
    front = search.search()
    assert final(front).meets_budgets
    assert search.epoch < 200
    assert any("plateau" in network.reasons for network in front.networks)


def test_the_pace_of_the_paper_says_when_its_epochs_end_over_budget(tmp_path: Path) -> None:
    search = started(tmp_path / "a", pace="paper", epochs=1)
    with pytest.raises(RunError, match=r"1 epochs ended over budget: 100kFLOPs.*--epochs"):
        search.search()


def test_a_diverging_search_stops_and_keeps_its_last_good_state(tmp_path: Path) -> None:
    search = started(tmp_path / "a")

    def spoil(event: str, fields: dict[str, Any]) -> None:
        if event == "step" and fields["epoch"] == 1:
            with torch.no_grad():
                search.supernet.network.classifier[-1].weight.fill_(float("nan"))  # type: ignore[index]

    search.observer = spoil
    with pytest.raises(RunError, match=r"training diverged.*--learning-rate"):
        search.search()
    state = search.run.checkpoint()
    assert state is not None
    assert state["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in state["supernet"].values())


def test_a_folder_that_is_taken_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"exists: .*--resume"):
        started(tmp_path / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "thesis.txt"]


def test_a_budget_below_the_smallest_network_says_by_how_much(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"smallest network .* needs 35\.\d+ kFLOPs, 15\.\d+ kFLOPs more"
    ):
        started(tmp_path / "a", budgets=("20kFLOPs",))
    assert not (tmp_path / "a").exists()


def test_dominated_networks_are_marked_and_equal_ones_replaced() -> None:
    def network(name: str, accuracy: float, flops: float, reason: str) -> FrontNetwork:
        return FrontNetwork(
            fingerprint=name,
            accuracy=accuracy,
            resources={"FLOPs": flops},
            epoch=0,
            step=0,
            reasons=(reason,),
            meets_budgets=flops <= 2,
        )

    front = Front(budgets={"FLOPs": 2})
    for item in (
        network("aa", 0.9, 3, "plateau"),
        network("bb", 0.5, 2, "met"),
        network("cc", 0.4, 2.5, "plateau"),
        network("bb", 0.6, 2, "end"),
    ):
        front = front.with_network(item)
    assert [(n.fingerprint, n.dominated) for n in front.networks] == [
        ("bb", False),
        ("cc", True),
        ("aa", False),
    ]
    assert front.networks[0].reasons == ("met", "end")
    assert front.pick("best").fingerprint == "bb"
    assert front.pick("3").fingerprint == "aa"
    assert front.pick("a").fingerprint == "aa"
    for wrong in ("x", "4", "0", "", "\u0661"):
        with pytest.raises(RunError, match=rf"no network '{wrong}'.*bb, cc, aa"):
            front.pick(wrong)


def test_latency_of_several_devices_is_budgeted_beside_flops(
    tmp_path: Path, make_table: Any
) -> None:
    space = GoldSpace(cells=2, channels=4, input_shape=(1, 8, 8))
    tables = [
        make_table(tmp_path / "pi5.json", space),
        make_table(tmp_path / "t4.json", space, scale=0.1),
    ]
    config = SearchConfig(
        **SMALL
        | {
            "tables": ("pi5", "t4"),
            "budgets": ("110kFLOPs", "140us@pi5", "1ms@t4"),
            "epochs": 2,
        }
    )
    prepared = PreparedSearch(config, tables)
    prepared.check_feasible()
    front = prepared.start(tmp_path / "a").search()
    last = final(front)
    assert last.resources["latency@pi5"] <= 140
    assert last.resources["latency@t4"] == pytest.approx(last.resources["latency@pi5"] / 10)
    reopened = SearchRun.open(tmp_path / "a")
    assert [table.name for table in reopened.tables] == ["pi5", "t4"]
    assert [budget.limit for budget in reopened.budgets] == [110e3, 140, 1e3]
