"""A mistake in a space of one's own: one line that says where it is, and nothing written."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import own_spaces
from goldnas.architecture import Architecture
from goldnas.errors import ConfigError
from goldnas.spaces import ChoiceSpace, find_space, make_space
from workplace import Case, assert_refused

HERE = r"\(.*own_spaces.py, line \d+\)"

MISTAKES = {
    "no_candidates": rf"a Choice has no candidates; .* {HERE}",
    "odd_name": "'3x3 conv' is not a name for a candidate",
    "torch_name": "cannot be named 'half'",
    "keyword_name": "cannot be named 'in', which is a keyword",
    "odd_optional": "`optional` of a Choice must be True or False, got 'no'",
    "two_names": "two candidates named 'skip'",
    "not_a_builder": r"candidate 'skip' is Identity\(\), .* lambda:",
    "builder_raises": f"candidate 'conv' cannot be built: TypeError: .*kernel_size.* {HERE}",
    "builder_returns_text": "candidate 'conv' is built as str.* nn.Module",
    "shared_within": "candidate 'inner' has a Choice within that is shared as 'one'",
    "within_shared": "shared as 'one' has a candidate with a Choice",
    "other_candidates": (
        "the choices at 1 and 2 are shared as 'cell', but have the candidates skip, same and "
        "same, skip; give both the same"
    ),
    "once_optional": "the choices at 1 and 2 are shared as 'cell', but only one .* optional",
    "only_zero": "the choice at 1 has no candidate besides a Zero",
    "unread": "never depends on choice.operators.conv",
    "odd_shared_name": "'Cell 1' is not a name for a shared choice",
    "taken_name": "'one' is the path of a choice, and a name that other",
    "other_shape": (
        "candidate 'wide' of the choice at 1 maps 4x8x8 to 8x8x8, but the others .* 4x8x8"
    ),
    "wrong_input": "candidate 'conv' of the choice at 1 fails on an input of 4x8x8: Runtime",
    "in_place": "candidate 'relu' of the choice at 1 changes its input in place",
    "raises": f"cannot be made: ValueError: no width was given {HERE}",
    "returns_nothing": "returns a NoneType",
    "no_choice": "has no Choice",
    "is_a_choice": "is a Choice itself",
    "needs_width": r"needs a setting 'width': .*settings={'width': 'VALUE'}",
    "shared": "1.one and 1.two share weights",
    "same_name": r"1.conv and 2.conv .* both own_spaces:same_name/conv at 4x8x8->4x8x8",
    "never_called": "never calls the choice at choice",
    "called_by_name": "the choice at choice is called with x by name",
    "called_twice": "calls 2 times the choice at choice",
    "loose_weight": "weight 'scale' is in no module",
    "between_modules": "its network computes aten.convolution between modules",
    "attention_between": r"its network computes aten\._scaled_dot_product\w+ between modules",
    "forward_raises": rf"fails on an input of 1x8x8: .* {HERE}",
    "two_outputs": "puts out a tuple",
    "lazy": "weight '1.operators.conv.weight' has no shape until LazyConv2d .* write Conv2d",
    "complex_weight": "weight '1.operators.turn.weight' is of torch.complex64",
}


def space(name: str) -> ChoiceSpace:
    function: Callable[..., own_spaces.nn.Module] = getattr(own_spaces, name)
    return make_space(function, input_shape=[1, 8, 8])


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_a_space_is_told_in_one_line(name: str) -> None:
    with pytest.raises(ConfigError, match=MISTAKES[name]) as error:
        space(name)
    assert f"own_spaces:{name}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"depth": 3}, "takes no setting 'depth'; it takes: width, classes, input_shape"),
        ({"widht": 3}, "takes no setting 'widht'; did you mean 'width'\\? it takes: width, "),
        ({"width": float("nan")}, "width=nan .* cannot be saved"),
        ({"input_shape": [1, 0, 8]}, r"whole numbers from 1, got \[1, 0, 8\]"),
    ],
    ids=str,
)
def test_a_setting_that_is_wrong_is_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_space(own_spaces.residual, **settings)


def test_a_setting_that_a_space_of_cells_does_not_take_is_named() -> None:
    with pytest.raises(ConfigError, match=r"'gold' takes no .* did you mean `channels`"):
        make_space("gold", chanels=3)
    with pytest.raises(ConfigError, match="takes no setting 'node'; did you mean 'nodes'"):
        make_space("gold", node=3)


# -- files that name a space -------------------------------------------------------------------


def test_no_file_gets_code_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An architecture that names a module does not get it imported."""
    (tmp_path / "sly.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    architecture = Architecture(space="sly:small", settings={}, choices={"1": ("skip",)})
    with pytest.raises(
        ConfigError, match="that only a file names: name it yourself, with `space"
    ):
        find_space(architecture)
    assert "sly" not in sys.modules


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"choices": {"blocks.7": ("skip",)}},
            "no choice at 'blocks.7'; its choices are at blocks.0",
        ),
        (
            {"choices": {"down": ("skip",)}},
            "at down has no candidate 'skip'; it has conv, pool",
        ),
        (
            {"choices": {"down": ("conv", "conv")}},
            "keeps a candidate twice at down: conv, conv",
        ),
        ({"choices": {"down": ("conv",)}}, "keeps no candidate at blocks.0"),
        ({"space": "gold"}, "is of space gold, not of own_spaces:residual"),
    ],
    ids=str,
)
def test_an_architecture_of_another_space_is_refused(
    changes: dict[str, object], message: str
) -> None:
    own = make_space(own_spaces.residual)
    said = {"space": own.name, "settings": own.settings, "choices": {}}
    with pytest.raises(ConfigError, match=message):
        own.plan(Architecture(**(said | changes)))  # type: ignore[arg-type]


# -- on the command line -----------------------------------------------------------------------

SEARCH = "search --data digits --epochs 1 --batch-size 512 --train-device cpu --out new"

CASES = {
    "no module": Case(
        f"{SEARCH} --single --space nowhere:f", "no module 'nowhere' in .* folder"
    ),
    "no function": Case(
        f"{SEARCH} --single --space own_spaces:small", "own_spaces.py has no function 'small'"
    ),
    "no callable": Case(
        f"{SEARCH} --single --space own_spaces:not_a_function",
        "not_a_function is a str; .*module",
    ),
    "no name": Case(f"{SEARCH} --single --space own_spaces:", "write package.module:function"),
    "broken module": Case(
        f"{SEARCH} --single --space broken:f",
        "broken cannot be imported: SyntaxError: .*broken.py, line 1",
        lambda: Path("broken.py").write_text("def"),
    ),
    "of a search": Case(
        f"{SEARCH} --single --space own_spaces:other_shape",
        "candidate 'wide' .* but the others",
    ),
    "classes": Case(
        f"{SEARCH} --single --space own_spaces:other_classes",
        "return 7 numbers, .* 10 classes",
    ),
    "cells": Case(
        f"{SEARCH} --single --space own_spaces:residual --cells 3", "takes no setting 'cells'"
    ),
    "set": Case(f"{SEARCH} --single --space own_spaces:residual --set width", "NAME=VALUE"),
    "set of cells": Case(
        f"{SEARCH} --single --set width=3", "space 'gold' takes no setting 'width'"
    ),
    "set near": Case(
        f"{SEARCH} --single --set chanels=3",
        "space 'gold' takes no setting 'chanels'; did you mean --channels\\? it takes: cells, ",
    ),
    "set beside its option": Case(
        f"{SEARCH} --single --space nasbench201 --channels 4 --set channels=0",
        "--channels 4 and --set channels=0 give one setting twice",
    ),
    "set twice": Case(
        f"{SEARCH} --single --space nasbench201 --set cells=1 --set cells=2",
        "--set: cells is given twice",
    ),
    "set what the data has": Case(
        f"{SEARCH} --single --space nasbench201 --set channels=2 --set input_shape=[1,4,4]",
        r"a search takes input_shape from its data, and digits has \(1, 8, 8\)",
    ),
    "set beside its option, to measure": Case(
        "profile --input 1x8x8 --set input_shape=[1,4,4] --out new.json",
        r"--input 1x8x8 and --set 'input_shape=\[1, 4, 4\]' give one setting twice",
    ),
    "edge rule": Case(
        f"{SEARCH} --single --space own_spaces:residual --strategy one-shot --edge-rule",
        "--edge-rule is for spaces of cells",
    ),
    "auxiliary": Case(
        f"{SEARCH} --single --space own_spaces:residual --auxiliary-weight 0.4",
        "have an auxiliary head",
    ),
    "no budget": Case(f"{SEARCH} --space own_spaces:residual", "at least one budget"),
    "no input": Case(
        "profile --space own_spaces:flat --out new.json", "is unknown: give --input"
    ),
    "train": Case(
        "train sly.json --data digits",
        "space sly:small is a function, and goldnas runs no function .* --space sly:small",
        lambda: Architecture(space="sly:small", settings={}, choices={}).save(Path("sly.json")),
    ),
    "predict": Case(
        "lut predict cpu.json sly.json",
        "name it yourself, with --space sly:small",
        lambda: Architecture(space="sly:small", settings={}, choices={}).save(Path("sly.json")),
    ),
}


@pytest.mark.usefixtures("workplace")
@pytest.mark.parametrize("name", CASES)
def test_a_mistake_with_a_space_is_refused(name: str) -> None:
    assert_refused(CASES[name])
