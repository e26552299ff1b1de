"""The search as a user meets it: budgets kept, runs repeatable, resumable and recorded."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import goldnas
from goldnas.data import datasets
from goldnas.errors import ConfigError, RunError
from goldnas.resources import count_flops, count_parameters
from goldnas.searching.data import search_data
from goldnas.searching.front import Front, FrontNetwork
from goldnas.searching.pruning import TIGHTER_SHARES
from goldnas.spaces import GoldImageNetSpace, GoldSpace
from goldnas.training.divergence import fingerprint
from goldnas.training.evaluate import score
from goldnas.training.task_data import load_data
from nightly import at_night
from searches import assert_same_results, make_loop, search, stop_search
from workplace import invoke

CPU = torch.device("cpu")


def final(run: goldnas.Run) -> goldnas.Network:
    """The network that training ended with."""
    (network,) = (network for network in run.front if "end" in network.reasons)
    return network


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> goldnas.Run:
    return search(tmp_path_factory.mktemp("runs") / "a")


@pytest.mark.parametrize(
    "stop_at_step", [6, *(pytest.param(n, marks=at_night) for n in (1, 5, 9))]
)
def test_a_resumed_search_ends_in_the_same_bits(
    finished: goldnas.Run, tmp_path: Path, stop_at_step: int
) -> None:
    stop_search(tmp_path / "b", "step", stop_at_step)
    assert_same_results(finished, goldnas.load_run(tmp_path / "b").resume())


@at_night
def test_the_number_of_loading_processes_changes_nothing(
    finished: goldnas.Run, tmp_path: Path
) -> None:
    assert_same_results(finished, search(tmp_path / "b", workers=2))


def test_another_seed_gives_other_weights(tmp_path: Path) -> None:
    one, other = (make_loop(tmp_path / f"{seed}", seed=seed) for seed in (0, 1))
    assert fingerprint(one.learner.module) != fingerprint(other.learner.module)


@at_night
def test_another_seed_is_another_search(finished: goldnas.Run, tmp_path: Path) -> None:
    assert search(tmp_path / "b", seed=1).front.record != finished.front.record


def test_the_budget_holds_after_the_last_epoch(finished: goldnas.Run) -> None:
    last = final(finished)
    assert last.record.epoch == 1
    assert last.meets_budgets
    assert last.resources["FLOPs"] <= finished.front.budgets["FLOPs"] == 100e3


@at_night
@pytest.mark.parametrize("epochs", [1, 2, 4])
@pytest.mark.parametrize(
    "budgets", [("100kFLOPs",), ("120kFLOPs", "8kparams"), ("97kFLOPs", "7.5kparams")]
)
def test_every_budget_holds_after_the_last_epoch_whatever_their_number(
    tmp_path: Path, epochs: int, budgets: tuple[str, ...]
) -> None:
    run = search(tmp_path / "a", epochs=epochs, budgets=budgets)
    last = final(run)
    assert last.record.epoch == epochs - 1
    assert last.meets_budgets
    assert all(last.resources[name] <= limit for name, limit in run.front.budgets.items())


def test_resources_of_recorded_networks_are_those_of_the_built_modules(
    finished: goldnas.Run,
) -> None:
    for network in finished.front:
        built = network.build()
        assert network.resources == {
            "FLOPs": count_flops(built, (1, 8, 8)),
            "params": count_parameters(built),
        }


def test_recorded_accuracy_is_that_of_the_saved_weights(finished: goldnas.Run) -> None:
    data = search_data(finished.config, load_data(finished.config), CPU)
    assert finished.folder.conditions["inputs"] == data.normalisation.as_dict()
    for network in finished.front:
        built = network.build()
        assert score(built, data.validation, data.normalisation, CPU) == network.accuracy


def test_the_log_holds_the_accuracy_before_and_after_every_pruning(
    finished: goldnas.Run,
) -> None:
    gates = 2 * 28
    prunings = [event for event in finished.read_events() if event["event"] == "prune"]
    assert prunings
    for event in prunings:
        assert 0 <= event["accuracy_after"] <= 1
        assert 0 <= event["accuracy_before"] <= 1
        gates -= len(event["operators"])
        assert event["live_operators"] == gates


def test_a_front_that_was_removed_comes_back(finished: goldnas.Run, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(finished.path, folder)
    (folder / "front.json").unlink()
    assert_same_results(finished, goldnas.load_run(folder).resume())


def test_the_front_goes_on_below_the_budgets(finished: goldnas.Run) -> None:
    trained = final(finished).resources["FLOPs"]
    beyond = [n.resources["FLOPs"] for n in finished.front if "beyond" in n.reasons]
    shares = sorted((flops / 100e3 for flops in beyond), reverse=True)
    assert len(shares) >= 3
    assert all(s <= limit for s, limit in zip(shares, TIGHTER_SHARES, strict=False))
    assert max(beyond) < trained
    steps = [event for event in finished.read_events() if event["event"] == "beyond"]
    assert all(len(event["operators"]) == 1 for event in steps)
    assert finished.best.resources["FLOPs"] >= trained


def test_a_search_at_its_end_has_nothing_left_to_do(finished: goldnas.Run) -> None:
    before = {p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file()}
    assert goldnas.load_run(finished.path).resume().front.record == finished.front.record
    assert before == {p: p.read_bytes() for p in finished.path.rglob("*") if p.is_file()}


def test_a_space_decides_what_is_not_given_and_the_folder_says_it(tmp_path: Path) -> None:
    space = GoldImageNetSpace()
    settings = {"space": space.name, "cells": 1, "channels": None, "budgets": ("1GFLOPs",)}
    stop_search(tmp_path / "a", "begin", 1, **settings)
    config = goldnas.load_run(tmp_path / "a").config
    assert (config.space, config.cells) == ("gold-imagenet", 1)
    assert (config.channels, config.operators) == (space.channels, space.operators)


@at_night
@pytest.mark.usefixtures("quick")
def test_a_search_behind_the_imagenet_stem_ends_in_a_network_that_is_exported(
    tmp_path: Path, make_table: Any
) -> None:
    space = GoldImageNetSpace(cells=1, channels=4, input_shape=(1, 8, 8), classes=10)
    table = make_table(tmp_path / "pi5.json", space).path
    settings = (
        "--space gold-imagenet --cells 1 --channels 4 --epochs 1 --batch-size 512 "
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


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[goldnas.Run, dict[str, Any]]:
    """A search that cannot look at the test set, and the fields of its events, by name."""
    unseen: Any = None  # touching it would raise
    dataset = dataclasses.replace(datasets.load_dataset("digits"), test=unseen)
    told: dict[str, Any] = {"images in all": len(dataset.train)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("goldnas.training.task_data.load_dataset", lambda *_, **__: dataset)
        folder = tmp_path_factory.mktemp("watched") / "a"
        run = search(folder, epochs=1, on_event=lambda event, f: told.setdefault(event, f))
    return run, told


def test_the_test_set_is_never_looked_at(watched: tuple[goldnas.Run, dict[str, Any]]) -> None:
    run, told = watched
    assert run.best.meets_budgets
    assert told["ready"]["images"] + told["ready"]["held_out"] == told["images in all"]


def test_pruned_operators_leave_the_module_and_the_optimiser(
    watched: tuple[goldnas.Run, dict[str, Any]],
) -> None:
    """Else memory and time would stay those of the whole super-network."""
    learner = watched[1]["begin"]["loop"].learner
    weights = [name for name, _ in learner.supernet.named_parameters() if name != "alpha"]
    optimised = learner.optimizer.state_dict()
    assert sum(len(group["params"]) for group in optimised["param_groups"]) == len(weights)
    assert len(optimised["state"]) <= len(weights)
    names = {f"{g.cell}.{g.key}" for g in learner.supernet.active_gates()}
    modules = {
        f"{cell}.{key}"
        for cell, module in learner.supernet.network.cells.items()
        for key in module.operators
    }
    assert names == modules


def test_the_pace_of_the_paper_ends_within_the_budgets_and_records_plateaus(
    tmp_path: Path,
) -> None:
    run = search(
        tmp_path / "a",
        pace="paper",
        epochs=200,
        lambda0=3e-2,
        t0=1,
        budgets=("105kFLOPs",),
        auxiliary_weight=0.0,
    )
    assert final(run).meets_budgets
    assert final(run).record.epoch < 199
    assert any("plateau" in network.reasons for network in run.front)


def test_the_pace_of_the_paper_says_when_its_epochs_end_over_budget(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"1 epoch ended over budget: 100kFLOPs.*`epochs`"):
        search(tmp_path / "a", pace="paper", epochs=1)


@at_night
def test_a_diverging_search_stops_and_keeps_its_last_good_state(tmp_path: Path) -> None:
    loops: list[Any] = []

    def spoil(event: str, fields: dict[str, Any]) -> None:
        if event == "begin":
            loops.append(fields["loop"])
        if event == "step" and fields["epoch"] == 1:
            with torch.no_grad():
                loops[0].learner.supernet.network.classifier[-1].weight.fill_(float("nan"))

    with pytest.raises(RunError, match=r"training diverged.*`learning_rate`"):
        search(tmp_path / "a", on_event=spoil)
    state = goldnas.load_run(tmp_path / "a").folder.read_checkpoint()
    assert state is not None
    assert state["epoch"] == 1
    assert all(torch.isfinite(v).all() for v in state["supernet"].values())


def test_a_folder_that_is_taken_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match=r"exists and is not the folder of a search"):
        search(tmp_path / "a")
    assert [path.name for path in tmp_path.rglob("*")] == ["a", "thesis.txt"]


def test_a_budget_below_the_smallest_network_says_by_how_much(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"smallest network .* needs 35\.\d+ kFLOPs, 15\.\d+ kFLOPs more"
    ):
        search(tmp_path / "a", budgets=("20kFLOPs",))
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
    budgets = ("110kFLOPs", "140us@pi5", "1ms@t4")
    last = final(search(tmp_path / "a", tables=tables, budgets=budgets, epochs=1))
    assert last.resources["latency@pi5"] <= 140
    assert last.resources["latency@t4"] == pytest.approx(last.resources["latency@pi5"] / 10)
    reopened = goldnas.load_run(tmp_path / "a")
    assert [table.name for table in reopened.tables] == ["pi5", "t4"]
    assert [budget.limit for budget in reopened.budgets] == [110e3, 140, 1e3]
