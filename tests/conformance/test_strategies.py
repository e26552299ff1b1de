"""What every registered strategy promises; a new one is tested by being registered."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import goldnas
import own_data
import own_spaces
import strategy_ranks
from forked import SERVER
from goldnas.errors import ConfigError, StoppedError
from goldnas.lut import LatencyTable
from goldnas.resources import count_flops, count_parameters
from goldnas.searching.config import SearchConfig
from goldnas.searching.strategies import STRATEGIES
from goldnas.searching.strategies.registry import OPTIONAL
from loopback import find_free_port
from nightly import EXAMPLES
from searches import LIKE_OTHERS, assert_same_results, search, settings_of, stop_search

OTHERS = {
    "pace": "paper",
    "edge_rule": True,
    "networks": 3,
    "score": "naswot",
    "storage": "sqlite:///x.db",
}
"""A value of each setting that only some strategies have a use for."""
MakeTable = Callable[..., LatencyTable]


@pytest.fixture(scope="module", params=STRATEGIES)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def finished(name: str, tmp_path_factory: pytest.TempPathFactory) -> goldnas.Run:
    """A search at its end."""
    return search(tmp_path_factory.mktemp("runs") / "a", **settings_of(name))


def skip_if_like_others(name: str) -> None:
    if name in LIKE_OTHERS:
        pytest.skip("tried with a strategy that is like it: at night")


def test_it_is_described_and_starts_from_settings_of_its_own(name: str) -> None:
    info = STRATEGIES[name]
    assert info.description
    config = SearchConfig(strategy=name, budgets=("1MFLOPs",))
    assert config.levels == info.levels[0]
    assert config.learning_rate == info.learning_rate
    assert config.gate_learning_rate == info.gate_learning_rate
    assert config.networks == info.networks


def test_settings_that_it_has_no_use_for_are_refused(name: str) -> None:
    assert OTHERS.keys() == OPTIONAL.keys()
    for setting in OPTIONAL.keys() - STRATEGIES[name].takes:
        with pytest.raises(ConfigError, match=setting):
            SearchConfig(strategy=name, budgets=("1MFLOPs",), **{setting: OTHERS[setting]})


def test_the_best_network_meets_all_budgets(finished: goldnas.Run) -> None:
    best = finished.best
    assert finished.finished
    assert best.meets_budgets
    assert all(best.resources[r] <= limit for r, limit in finished.front.budgets.items())
    assert best.accuracy is not None
    assert 0 < best.accuracy <= 1


def test_several_budgets_hold_at_once(
    name: str, tmp_path: Path, make_table: MakeTable, make_energies: MakeTable
) -> None:
    skip_if_like_others(name)
    space = goldnas.space("gold", cells=2, channels=4, input_shape=(1, 8, 8))
    tables = (
        make_table(tmp_path / "time.json", space),
        make_energies(tmp_path / "e.json", space),
    )
    budgets = ("110kFLOPs", "9kparams", "140us", "30uJ")
    settings = settings_of(name) | {"cells": 2, "budgets": budgets, "tables": tables}
    best = search(tmp_path / "a", **settings).best
    assert best.resources["FLOPs"] <= 110e3
    assert best.resources["params"] <= 9e3
    assert best.resources["latency@time"] <= 140
    assert best.resources["energy@e"] <= 30


def test_every_network_builds_with_its_weights_and_costs_what_it_says(
    finished: goldnas.Run,
) -> None:
    for network in finished.front:
        built = network.build()
        assert network.architecture.fingerprint == network.fingerprint
        assert network.resources == {
            "FLOPs": count_flops(built, (1, 8, 8)),
            "params": count_parameters(built),
        }


def test_its_log_begins_with_a_start_and_ends_with_the_end(finished: goldnas.Run) -> None:
    events = finished.read_events()
    assert [events[0]["event"], events[-1]["event"]] == ["start", "end"]
    assert "FLOPs" in events[0]["resources"]
    recorded = {e["fingerprint"] for e in events if e["event"] == "network"}
    assert {network.fingerprint for network in finished.front} <= recorded
    steps = [event["step"] for event in events if "step" in event]
    assert steps == sorted(steps)


@pytest.mark.parametrize("event", ["step", "score"])
def test_a_search_that_was_stopped_ends_in_the_same_bits(
    finished: goldnas.Run, tmp_path: Path, event: str
) -> None:
    name = finished.config.strategy
    skip_if_like_others(name)
    if event == "score" and STRATEGIES[name].networks is None:
        pytest.skip("it scores no networks")
    stop_search(tmp_path / "b", event, 2, **settings_of(name))
    assert_same_results(finished, goldnas.load_run(tmp_path / "b").resume())


def test_a_signal_saves_it_and_it_goes_on(finished: goldnas.Run, tmp_path: Path) -> None:
    skip_if_like_others(finished.config.strategy)
    asked = iter([0, 15])
    folder = tmp_path / "b"
    with pytest.raises(StoppedError) as stopped:
        search(folder, stop_signal=lambda: next(asked), **settings_of(finished.config.strategy))
    assert stopped.value.status == 128 + 15
    assert_same_results(finished, goldnas.load_run(folder).resume())


def test_it_searches_a_function_that_leaves_one_operator_at_each_choice(
    name: str, tmp_path: Path
) -> None:
    skip_if_like_others(name)
    best = search(
        tmp_path / "a",
        space=own_spaces.residual,
        single=True,
        **settings_of(name) | {"budgets": ("60kFLOPs",), "cells": None, "channels": None},
    ).best
    assert best.meets_budgets
    assert all(len(kept) == 1 for kept in best.architecture.choices.values())


@pytest.mark.parametrize(
    ("space", "budget", "single"),
    [
        (own_spaces.forked, "45kFLOPs", False),
        (own_spaces.forked, "45kFLOPs", True),
        (own_spaces.nesting, "14kFLOPs", True),
    ],
    ids=["empty", "empty, single", "nested, single"],
)
def test_it_searches_a_space_whose_choices_may_be_empty_or_nested(
    name: str, space: Callable[..., nn.Module], budget: str, single: bool, tmp_path: Path
) -> None:
    skip_if_like_others(name)
    if not EXAMPLES and name != "gold" and space is own_spaces.forked and single:
        pytest.skip("the same choices without `single` and nested ones are tried: at night")
    run = search(
        tmp_path / "a",
        space=space,
        single=single,
        **settings_of(name) | {"budgets": (budget,), "cells": None, "channels": None},
    )
    assert run.best.meets_budgets
    for network in run.front:
        built = network.build()
        assert network.resources["FLOPs"] == count_flops(built, (1, 8, 8))
        assert network.resources["params"] == count_parameters(built)
    if single:
        assert all(len(kept) == 1 for kept in run.best.architecture.choices.values())


@pytest.mark.parametrize(
    ("data", "space", "budget"),
    [
        (own_data.lines, own_spaces.spatial, "0.8kFLOPs"),
        (own_data.volumes, own_spaces.spatial, "360kFLOPs"),
        (own_data.tokens, own_spaces.sequential, "0.5kFLOPs"),
    ],
    ids=["1-D", "3-D", "words"],
)
def test_it_searches_inputs_of_any_number_of_dimensions(
    name: str,
    data: Callable[[], object],
    space: Callable[..., nn.Module],
    budget: str,
    tmp_path: Path,
) -> None:
    skip_if_like_others(name)
    if not EXAMPLES and name != "gold" and data is not own_data.lines:
        pytest.skip("every strategy on every kind of input takes its time: at night")
    settings = settings_of(name) | {"data": data, "space": space, "single": True}
    settings |= {"budgets": (budget,), "cells": None, "channels": None, "batch_size": 8}
    whole = search(tmp_path / "a", **settings)
    assert whole.best.meets_budgets
    event = "step" if STRATEGIES[name].networks is None else "score"
    stop_search(tmp_path / "b", event, 1, **settings)
    resumed = goldnas.load_run(tmp_path / "b", data=data, space=space).resume()
    assert_same_results(whole, resumed)
    if name == "gold":  # training and export do not depend on what found the network
        trained = goldnas.train(whole, recipe="short", epochs=1, warm=True)
        assert trained.accuracy is not None
        exported = goldnas.export(trained, out=tmp_path / "net.onnx")
        assert exported.passed


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes came to, by strategy."""
    if os.name == "nt":
        pytest.skip("processes cannot be forked there")
    folder = tmp_path_factory.mktemp("ranks")
    port = find_free_port()
    processes = [
        SERVER.Process(target=strategy_ranks.run_rank, args=(index, port, folder))
        for index in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    return [json.loads((folder / f"{index}.json").read_text()) for index in range(2)]


@pytest.mark.parametrize("name", strategy_ranks.NAMES)
def test_two_processes_decide_and_learn_the_same_into_one_folder(
    name: str, ranks: list[dict[str, Any]]
) -> None:
    first, second = (rank[name] for rank in ranks)
    assert first == second
    assert first["decided"]
    best = goldnas.load_run(first["folder"]).best
    assert best.meets_budgets
    assert best.build()
