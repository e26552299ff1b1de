"""``import goldnas`` as a researcher meets it: every example, data in memory, each refusal."""

import doctest
import inspect
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import goldnas
from goldnas.errors import ConfigError, DataError, GoldnasError, RunError
from goldnas.lut.importers import import_table
from goldnas.reference import GIVEN
from goldnas.spaces import FUNCTIONS
from searches import assert_same_results

SMALL: dict[str, Any] = {"epochs": 1, "batch_size": 256, "train_device": "cpu"}
PUBLIC = [name for name in goldnas.__all__ if name != "__version__"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, quick: None) -> tuple[Path, dict[str, Any]]:
    """What the examples begin with: a space, a table, a search, a training, an export."""
    folder = tmp_path_factory.mktemp("examples")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        space = goldnas.space("gold", cells=1, channels=4, input_shape=(1, 8, 8))
        table = goldnas.profile(space, out="lut/cpu.json", networks=4)
        settings = SMALL | {"epochs": 4, "auxiliary_weight": 0.0}
        run = goldnas.search(
            space, budgets=["60kFLOPs"], tables=[table], out="runs/a", **settings
        )
        energies = make_energies(space)
        trained = goldnas.train(run.best, recipe="short", epochs=2)
        goldnas.export(run.best, "net.onnx")
    names = {"space": space, "table": table, "run": run, "trained": trained}
    names["energies"] = energies
    return folder, {"goldnas": goldnas, **names}


def make_energies(space: Any) -> goldnas.LatencyTable:
    """A table of energies in which each row takes 2 microjoules."""
    lines = [f"{operator},{site},2" for operator, site in space.rows()]
    Path("energies.csv").write_text("\n".join(["operator,site,energy_uJ", *lines]))
    imported = import_table(
        Path("energies.csv"), "csv", Path("lut/energies.json"), device="cpu"
    )
    imported.table.save()
    return goldnas.LatencyTable.load("lut/energies.json")


def examples() -> Iterator[doctest.DocTest]:
    """The example of every public function, class, method and property."""
    finder = doctest.DocTestFinder()
    for name in PUBLIC:
        found = getattr(goldnas, name)
        yield from (test for test in finder.find(found, name) if test.examples)


EXAMPLES = {test.name: test for test in examples()}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_says_what_happens(
    place: tuple[Path, dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = place
    monkeypatch.chdir(folder)
    EXAMPLES[name].globs = dict(names)
    said: list[str] = []
    doctest.DocTestRunner().run(EXAMPLES[name], out=said.append)
    assert not said, "".join(said)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_name_is_documented(name: str) -> None:
    """What it takes, what it returns, what it raises; each with an example."""
    found = getattr(goldnas, name)
    text = inspect.getdoc(found) or ""
    assert text
    assert name in EXAMPLES
    if inspect.isfunction(found):
        assert "Raises:" in text
        for parameter in inspect.signature(found).parameters:
            assert f"    {parameter}:" in text, parameter


# -- data, spaces and tasks that a program gives ---------------------------------------------


def small(
    width: int = 4, classes: int = 10, input_shape: tuple[int, ...] = (1, 8, 8)
) -> nn.Module:
    """A space in a program: one choice of two convolutions."""

    def candidate(size: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, width, size, padding=size // 2), nn.ReLU())

    choice = goldnas.Choice({"large": lambda: candidate(3), "small": lambda: candidate(1)})
    layers = [nn.Conv2d(input_shape[0], width, 3, padding=1), choice]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
    )


def arrays(classes: int = 3) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {
        f"{kind}_{part}": random.integers(256, size=(count, 8, 8), dtype=np.uint8)
        if kind == "x"
        else np.arange(count) % classes
        for part, count in (("train", 60), ("test", 12))
        for kind in "xy"
    }


def pairs() -> tuple[TensorDataset, TensorDataset]:
    random = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 1, 8, 8, generator=random) for n in (60, 12))
    return tuple(TensorDataset(x, torch.arange(len(x)) % 3) for x in (train, test))  # type: ignore[return-value]


IN_MEMORY = {
    "a dictionary of arrays": arrays,
    "pairs of arrays": lambda: tuple(
        (arrays()[f"x_{part}"], arrays()[f"y_{part}"]) for part in ("train", "test")
    ),
    "tensors": lambda: {k: torch.from_numpy(v) for k, v in arrays().items()},
    "numbers that are no images": lambda: {
        k: v.astype(np.float32) / 255 if k[0] == "x" else v for k, v in arrays().items()
    },
    "two datasets": pairs,
}


@pytest.mark.parametrize("make", IN_MEMORY.values(), ids=IN_MEMORY)
def test_data_needs_no_file(tmp_path: Path, make: Any) -> None:
    # What is no image reaches the network as it is, without a channel.
    space = flat if make is IN_MEMORY["numbers that are no images"] else small
    settings = SMALL | {"batch_size": 16, "single": True}
    run = goldnas.search(space, data=make(), out=tmp_path / "a", **settings)
    assert run.best.accuracy is not None
    assert run.config.data.startswith("given:data_")
    trained = goldnas.train(run.best, **SMALL | {"batch_size": 16})
    assert trained.accuracy is not None


def flat(classes: int = 3, input_shape: tuple[int, ...] = (8, 8)) -> nn.Module:
    choice = goldnas.Choice({"relu": nn.ReLU, "same": nn.Identity})
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), choice, nn.Linear(8, classes))


def mean_absolute() -> goldnas.Task:
    return goldnas.Task(
        loss=nn.functional.l1_loss,
        metric=lambda outputs, targets: (outputs - targets).abs().mean(1),
        name="MAE",
        higher_is_better=False,
    )


def number_of(classes: int = 1, input_shape: tuple[int, ...] = (8, 8)) -> nn.Module:
    return flat(classes, input_shape)


def regression() -> tuple[TensorDataset, TensorDataset]:
    random = torch.Generator().manual_seed(0)
    train, test = (torch.randn(n, 8, 8, generator=random) for n in (60, 12))
    return TensorDataset(train, train.mean((1, 2))[:, None]), TensorDataset(
        test, test.mean((1, 2))[:, None]
    )


def test_functions_of_one_name_are_two_spaces(tmp_path: Path) -> None:
    """What a factory makes; a cell of a notebook that was changed and run again."""

    def sized(width: int) -> Any:
        def space(classes: int = 1, input_shape: tuple[int, ...] = (8, 8)) -> nn.Module:
            choice = goldnas.Choice({"relu": nn.ReLU, "same": nn.Identity})
            layers = nn.Linear(64, width), choice, nn.Linear(width, classes)
            return nn.Sequential(nn.Flatten(), *layers)

        return space

    settings = SMALL | {"batch_size": 16, "single": True, "data": regression()}
    settings |= {"task": mean_absolute()}
    first = goldnas.search(sized(4), out=tmp_path / "a", **settings)
    second = goldnas.search(sized(8), out=tmp_path / "b", **settings)
    again = goldnas.search(sized(4), out=tmp_path / "c", **settings)
    assert first.config.space == again.config.space != second.config.space
    for run, width in ((first, 4), (second, 8)):
        built = run.best.build(trained=False)
        assert sum(weight.numel() for weight in built.parameters()) == 66 * width + 1
    for run in (first, second):  # the program ends
        FUNCTIONS.pop(run.config.space)
    with pytest.raises(ConfigError, match=r"with 529 parameters, and .* 265: give the same"):
        goldnas.load_run(tmp_path / "a", space=sized(8))
    assert goldnas.load_run(tmp_path / "a", space=sized(4)).best.build()
    with pytest.raises(ConfigError, match="another function named"):
        goldnas.load_run(tmp_path / "a", space=sized(8))


def test_datasets_and_tasks_that_look_alike_stay_apart(tmp_path: Path) -> None:
    random = torch.Generator().manual_seed(0)
    x, y = torch.randn(90, 8, 8, generator=random), torch.arange(90) % 3
    whole = TensorDataset(x, y)
    folds = [
        (torch.utils.data.Subset(whole, range(60)), torch.utils.data.Subset(whole, last))
        for last in (range(60, 75), range(75, 90))
    ]
    noisy = [(Noisy(60), Noisy(12)) for _ in range(2)]
    settings = SMALL | {"batch_size": 16, "single": True}
    runs = [
        goldnas.search(flat, data=data, out=tmp_path / str(number), **settings)
        for number, data in enumerate([*folds, *noisy])
    ]
    assert len({run.config.data for run in runs}) == 4
    same = goldnas.search(flat, data=noisy[1], out=tmp_path / "same", **settings)
    assert same.config.data == runs[3].config.data
    # What changes with every look at it cannot be told from its like, so it may be given again.
    assert goldnas.load_run(tmp_path / "3", data=(Noisy(60), Noisy(12))).best
    with pytest.raises(ConfigError, match="`data` differs from the search's"):
        goldnas.load_run(tmp_path / "1", data=folds[0])
    squared = goldnas.Task(
        loss=nn.functional.mse_loss, metric=mean_absolute().metric, name="MAE"
    )
    learnt = [
        goldnas.search(number_of, data=regression(), task=task, out=tmp_path / out, **settings)
        for task, out in (
            (mean_absolute(), "mae"),
            (squared, "mse"),
            (mean_absolute(), "again"),
        )
    ]
    names = [run.config.task for run in learnt]
    assert names[0] == names[2] != names[1]


class Noisy(torch.utils.data.Dataset[Any]):
    """Draws its items anew at each look."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return torch.randn(8, 8), index % 3


def test_a_folder_takes_again_only_what_it_lacks(run_on_digits: goldnas.Run) -> None:
    path = run_on_digits.path
    for given, message in (
        ({"space": small}, "the space of this search is 'gold': leave `space` out"),
        ({"space": "silver"}, "the space of this search is 'gold'"),
        ({"data": arrays()}, "names its `data` itself, digits: leave `data` out"),
        ({"task": mean_absolute()}, "has no `task`: leave `task` out"),
    ):
        with pytest.raises(ConfigError, match=message):
            goldnas.load_run(path, **given)
    assert goldnas.space("gold", cells=2).gates


@pytest.fixture(scope="module")
def run_on_digits(tmp_path_factory: pytest.TempPathFactory) -> goldnas.Run:
    settings = SMALL | {"budgets": ["60kFLOPs"], "cells": 1, "channels": 4}
    return goldnas.search(out=tmp_path_factory.mktemp("digits") / "a", **settings)


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    settings = SMALL | {"budgets": ["60kFLOPs"], "cells": np.int64(1), "channels": 4}
    run = goldnas.search(
        out=tmp_path / "a", learning_rate=np.float64(0.1), **settings | {"epochs": np.int64(1)}
    )
    assert (run.config.learning_rate, run.config.epochs) == (0.1, 1)
    assert goldnas.train(run.best, **SMALL | {"epochs": np.int64(1)}).epochs == 1


def test_a_search_leaves_torch_as_it_found_it(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    settings = SMALL | {"batch_size": 16}
    run = goldnas.search(
        small, data=arrays(), single=True, out=tmp_path / "a", **settings, threads=2
    )
    goldnas.train(run.best, **settings)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


def test_two_threads_do_not_search_at_once(tmp_path: Path) -> None:
    settings = SMALL | {"budgets": ["60kFLOPs"], "cells": 1, "channels": 4}
    refused: list[GoldnasError] = []

    def beside() -> None:
        try:
            goldnas.search(out=tmp_path / "b", **settings)
        except GoldnasError as error:
            refused.append(error)

    def observe(event: str, fields: dict[str, Any]) -> None:
        if event == "start":
            other = threading.Thread(target=beside)
            other.start()
            other.join()

    goldnas.search(out=tmp_path / "a", on_event=observe, **settings)
    assert "use a separate process for each" in str(refused[0])
    assert not (tmp_path / "b").exists()


def test_nouns_are_told_apart_and_short_to_read(run_on_digits: goldnas.Run) -> None:
    again = goldnas.load_run(run_on_digits.path)
    assert again.best == run_on_digits.best
    assert len({again.best, run_on_digits.best}) == 1
    assert all(len(repr(noun)) < 200 for noun in (again, again.front, again.best))
    assert again.front.pick(1) == again.front[0]


def test_a_network_of_its_own_is_exported_without_a_choice(
    run_on_digits: goldnas.Run, tmp_path: Path
) -> None:
    network = run_on_digits.front[0]
    for given, message in (
        ({"pick": "5"}, "has only one network: leave out `pick='5'`"),
        ({"space": "bogus:space"}, "`space` is for the folder of a search or a training"),
    ):
        with pytest.raises(ConfigError, match=message):
            goldnas.export(network, tmp_path / "a.onnx", **given)
    assert not list(tmp_path.iterdir())


def test_a_function_without_a_name_of_its_own_is_trained(tmp_path: Path) -> None:
    settings = SMALL | {"data": "digits"}
    for width in (2, 3):
        trained = goldnas.train(
            lambda classes, width=width: nn.Sequential(
                *(nn.Conv2d(1, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
                nn.Linear(width, classes),
            ),
            out=tmp_path / f"{width}",
            **settings,
        )
        weights = sum(weight.numel() for weight in trained.build().parameters())
        assert weights == 10 * width + 10 * (width + 1)


def test_the_folder_of_a_search_is_trained_by_its_best(run_on_digits: goldnas.Run) -> None:
    trained = goldnas.train(run_on_digits.path, **SMALL)
    assert trained.fingerprint == run_on_digits.best.fingerprint
    with pytest.raises(ConfigError, match="is trained already: give its `architecture`"):
        goldnas.train(trained)
    with pytest.raises(ConfigError, match="is not a network to train"):
        goldnas.train(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="`epochs` must be a whole number, got '1'"):
        goldnas.train(run_on_digits.best, epochs="1", out=run_on_digits.path / "x")
    assert not (run_on_digits.path / "x").exists()


def test_another_program_gives_the_same_again_to_go_on(tmp_path: Path) -> None:
    """What a folder cannot hold is named in it, and refused in one line until it is given."""

    def space(classes: int = 1, input_shape: tuple[int, ...] = (8, 8)) -> nn.Module:
        return flat(classes, input_shape)

    settings = SMALL | {"batch_size": 16, "single": True, "epochs": 2}
    given = {"data": regression(), "task": mean_absolute()}
    whole = goldnas.search(space, out=tmp_path / "whole", **given, **settings)
    assert whole.best.metric is not None
    assert whole.best.metric.name == "MAE"
    asked = iter([0, 15])
    with pytest.raises(GoldnasError, match="interrupted"):
        goldnas.search(
            space, out=tmp_path / "a", stop_signal=lambda: next(asked), **given, **settings
        )
    GIVEN.clear()  # the program ends
    FUNCTIONS.pop(whole.config.space)
    with pytest.raises(ConfigError, match=r"a program that has ended gave.*load_run"):
        goldnas.load_run(tmp_path / "a").resume()
    with pytest.raises(ConfigError, match=r"a program that has ended defined.*space="):
        goldnas.load_run(tmp_path / "a", data=regression(), task=mean_absolute()).resume()
    with pytest.raises(ConfigError, match="`data` differs from the search's"):
        goldnas.load_run(tmp_path / "a", data=pairs())
    again = goldnas.load_run(
        tmp_path / "a", space=space, data=regression(), task=mean_absolute()
    )
    assert_same_results(whole, again.resume())


# -- what is refused, before anything is written ---------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a setting that there is not": (
        {"epoch": 3},
        "a search has no setting 'epoch'; did you mean 'epochs'. it has: ",
    ),
    "a text for a number": ({"epochs": "2"}, "`epochs` must be a whole number, got '2'"),
    "a half of an epoch": ({"epochs": 1.5}, "`epochs` must be a whole number, got 1.5"),
    "a truth for a number": ({"epochs": True}, "`epochs` must be a whole number, got True"),
    "no truth": ({"single": "no"}, "`single` must be True or False, got 'no'"),
    "another pace": ({"pace": "fast"}, "`pace` must be one of 'planned', 'paper', got 'fas"),
    "one budget": ({"budgets": "60kFLOPs"}, r"`budgets` must be a list, .*: put it into \["),
    "one table": ({"tables": Path("a.json")}, "`tables` must be a list, got PosixPath"),
    "one logger": ({"loggers": "tensorboard"}, "`loggers` must be a list of texts, got 'te"),
    "numbers as budgets": (
        {"budgets": [100]},
        r"`budgets` must be a list of texts, got .100",
    ),
    "a space that is none": ({"space": 5}, "5 is not a space: give the name of a space"),
    "a task that is none": ({"task": 5}, "a.* int is not a `task`: give a goldnas.Task"),
    "inputs without targets": (
        {"data": arrays() | {"y_train": np.arange(3)}},
        r"x_train is of shape \(60, 8, 8\) and y_train of \(3,\)",
    ),
    "a size of a space that has one": (
        {"space": goldnas.space("gold", cells=1, channels=4), "channels": 8},
        "`channels` cannot be given with a space that is already made",
    ),
    "a setting of the space twice": (
        {"settings": {"channels": 8}},
        r"`channels=4` and `settings={'channels': 8}` give one setting twice",
    ),
    "a setting that the data has": (
        {"settings": {"classes": 7}},
        r"`settings={'classes': 7}`: a search takes classes from its data, and digits has 10",
    ),
    "a setting of a strategy": ({"networks": 3}, "does not use `networks=3`"),
    "a budget that none meets": (
        {"budgets": ["1kFLOPs"]},
        "cannot be met: the smallest network of this space needs",
    ),
    "no budget": ({"budgets": []}, r"at least one budget, for example `budgets=\['600MFLOPs"),
    "a budget without a table": ({"budgets": ["5ms"]}, "needs a latency table"),
    "a table that is not there": ({"tables": ["no.json"]}, "there is no latency table no.json"),
    "data of nothing": ({"data": 3}, "`data` is an int; give the name or path of a dataset"),
    "data in halves": ({"data": {"x_train": 1}}, "`data` is a dict; give"),
    "an auxiliary head without cells": (
        {
            "space": flat,
            "auxiliary_weight": 0.4,
            "data": pairs(),
        },
        "`auxiliary_weight=0.4`: .* auxiliary head",
    ),
    "a space of another size": (
        {"space": goldnas.space("gold", cells=1, channels=4, input_shape=(3, 8, 8))},
        r"make the space with `input_shape=\(1, 8, 8\)`",
    ),
    "a format that there is not": ({"amp": "fp8"}, "unknown `amp='fp8'`"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_a_search_that_cannot_be_is_refused_in_the_words_of_python(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    settings: dict[str, Any] = {"cells": 1, "channels": 4, "budgets": ["60kFLOPs"]} | given
    if not isinstance(given.get("space", "gold"), str):  # it has its size itself
        settings = {name: settings[name] for name in ("budgets", *given)}
    with pytest.raises(GoldnasError, match=message):
        goldnas.search(out=tmp_path / "a", **settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda place: goldnas.space("silver"), ConfigError, "unknown search space 'silver'"),
        (lambda place: goldnas.space("gold", cell=3), ConfigError, "did you mean .*cells"),
        (lambda place: goldnas.load_run(place), RunError, "is not the folder of a search"),
        (lambda place: goldnas.train(place / "a.json"), ConfigError, "`data`"),
        (lambda place: goldnas.train("DARTS_V2", warm=True), ConfigError, "leave `warm` out"),
        (lambda place: goldnas.train("DARTS_V2", data=3), DataError, "give the name or path"),
        (
            lambda place: goldnas.profile("gold", out=place / "a.json", batches=3),
            ConfigError,
            "a table has no setting 'batches'; did you mean 'batch'",
        ),
        (
            lambda place: goldnas.profile("gold", out=place / "a.json", backend="onnx"),
            ConfigError,
            "unknown `backend` 'onnx'",
        ),
        (
            lambda place: goldnas.export(goldnas.Architecture, place / "a.onnx"),
            ConfigError,
            "is not a network with weights",
        ),
        (
            lambda place: goldnas.LatencyTable.load(place / "no.json"),
            GoldnasError,
            "there is no latency table",
        ),
    ],
)
def test_other_calls_are_refused_likewise(
    tmp_path: Path, call: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        call(tmp_path)
    assert "--" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_table_of_another_name_is_verified_besides(
    place: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = place
    monkeypatch.chdir(folder)
    names["table"].save(tmp_path / "again.json")
    result = goldnas.export(
        names["run"], tmp_path / "net.onnx", tables=[names["table"], tmp_path / "again.json"]
    )
    checks = {check.resource: check for check in result.checks}
    assert checks["FLOPs"].verdict == "PASS"
    assert checks["latency@cpu"].measured is not None
    assert checks["latency@again"].predicted == checks["latency@cpu"].predicted
    assert result.passed
    assert not result.failed


def test_a_front_is_a_table_for_pandas(place: tuple[Path, dict[str, Any]]) -> None:
    pandas = pytest.importorskip("pandas")
    run = place[1]["run"]
    frame = run.front.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame["fingerprint"]) == [network.fingerprint for network in run.front]
    assert list(frame["FLOPs"]) == [network.resources["FLOPs"] for network in run.front]


@pytest.mark.parametrize("name", ["", "; goldnas.SearchConfig", "; goldnas.LatencyTable"])
def test_importing_goldnas_is_free_of_torch_until_it_is_needed(name: str) -> None:
    code = f"import sys, goldnas{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
