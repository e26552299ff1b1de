"""The exported Python file: plain PyTorch, the same keys, the same outputs."""

import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from exported import FIXED_STRIDE
from goldnas.errors import ExportError
from goldnas.exporting.python_source import pack_weights, to_python, write_part
from goldnas.operators import OPERATORS, build_operator
from goldnas.site import Site
from goldnas.spaces import DARTS_OPERATORS, SPACES, GoldSpace
from nightly import at_night

IMAGES = torch.randn(2, 1, 9, 9, generator=torch.Generator().manual_seed(0))

# Runs a file as a script would be run, on a machine without goldnas.
WITHOUT_GOLDNAS = """
import runpy, sys, warnings
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "goldnas":
            raise ModuleNotFoundError(name)
warnings.simplefilter("error")
sys.meta_path.insert(0, Blocker())
import torch
names = runpy.run_path(sys.argv[1], run_name="__main__")
torch.save(names["model"](torch.load(sys.argv[2])), sys.argv[3])
"""


def space_of_all(name: str = "gold", **settings: Any) -> GoldSpace:
    settings = {"operators": DARTS_OPERATORS, "nodes": 2} | settings
    return SPACES[name](cells=3, channels=4, input_shape=(1, 9, 9), **settings)


def source_of(space: GoldSpace, *, gated: bool = True) -> str:
    plan = space.plan(space.architecture(space.gates))
    return to_python(plan, name="0123abcd", gated=gated)


def run(source: str) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(source, names)
    return names


@pytest.mark.parametrize(
    ("name", "affine", "gated"),
    [("gold", False, True), pytest.param("gold-imagenet", True, False, marks=at_night)],
)
def test_file_alone_gives_the_same_outputs(
    tmp_path: Path, name: str, affine: bool, gated: bool
) -> None:
    space = space_of_all(name, affine=affine, nodes=1, classes=10)
    network = space.build(space.architecture(space.gates), gated=gated)
    for cell in network.cells.values():
        if gated:
            nn.init.uniform_(cell.gates, 0.1, 0.9)
    for _ in range(3):
        network(torch.randn(16, 1, 9, 9))
    (tmp_path / "net.py").write_text(source_of(space, gated=gated))
    (tmp_path / "net.pt").write_bytes(pack_weights(network))
    torch.save(IMAGES, tmp_path / "images.pt")
    files = [tmp_path / "net.py", tmp_path / "images.pt", tmp_path / "outputs.pt"]
    done = subprocess.run(
        [sys.executable, "-I", "-c", WITHOUT_GOLDNAS, *map(str, files)],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    count = sum(parameter.numel() for parameter in network.parameters())
    assert done.stdout == f"{count:,} parameters\n"
    assert torch.equal(torch.load(tmp_path / "outputs.pt"), network.eval()(IMAGES))


@pytest.mark.parametrize("name", SPACES)
def test_state_dict_has_the_same_keys(name: str) -> None:
    space = space_of_all(name)
    network = space.build(space.architecture(space.gates), gated=True)
    assert list(run(source_of(space))["network"]().state_dict()) == list(network.state_dict())


def test_only_torch_is_imported() -> None:
    nodes = list(ast.walk(ast.parse(source_of(space_of_all()))))
    imported = {alias.name for n in nodes if isinstance(n, ast.Import) for alias in n.names}
    imported |= {n.module or "." for n in nodes if isinstance(n, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} == {"torch"}


def test_only_what_the_network_uses_is_copied() -> None:
    source = source_of(space_of_all(operators=("skip_connect",)))
    defined = {n.name for n in ast.parse(source).body if hasattr(n, "name")}
    assert defined == {
        "Cell",
        "CellNetwork",
        "FactorizedReduce",
        "relu_conv_bn",
        "stem_cifar",
        "classifier",
        "network",
    }


def test_parts_that_nobody_reads_are_left_out() -> None:
    """A DARTS cell may read one input alone."""
    space = space_of_all(operators=("skip_connect",), nodes=1)
    architecture = space.architecture([gate for gate in space.gates if gate.source == 0])
    source = to_python(space.plan(architecture), name="0123abcd", gated=False)
    network = run(source)["network"]()
    assert list(network.cells) == ["0", "2"]
    assert network.cells["2"].preprocess1 is None
    assert str(network) == str(space.build(architecture))


@pytest.mark.parametrize(("name", "width"), [("gold", 4), ("gold-imagenet", 256)])
def test_file_is_formatted(tmp_path: Path, name: str, width: int) -> None:
    space = SPACES[name](cells=3, channels=width, operators=DARTS_OPERATORS)
    file = tmp_path / "net.py"
    file.write_text(source_of(space))
    command = [sys.executable, "-m", "ruff"]
    for check in (["format", "--diff"], ["check", "--select=E,F,I,UP,D1", "--ignore=D107"]):
        done = subprocess.run(
            [*command, *check, "--isolated", "--no-cache", "--line-length=96", str(file)],
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout


def test_each_cell_says_what_it_is() -> None:
    source = source_of(space_of_all())
    assert "        # normal cell: 4 channels, 9x9 -> 9x9\n" in source
    assert "        # reduction cell: 8 channels, 9x9 -> 5x5\n" in source
    assert source.startswith('"""A network for 1x9x9 images and 10 classes, found by goldnas')


@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_every_operator_is_written_as_it_is_built(name: str, affine: bool) -> None:
    """The file's calls stand beside the registry's builders: this holds them together."""
    names = run(source_of(space_of_all())) | run(source_of(space_of_all("gold-imagenet")))
    for stride in [FIXED_STRIDE[name]] if name in FIXED_STRIDE else [1, 2]:
        site = Site(8, 8, 9, 9, stride, affine)
        written = eval(write_part((name, site)), names)
        assert str(written) == str(build_operator(name, site))


class Own(nn.Module):
    """What only its author has."""


@pytest.mark.parametrize(
    ("layer", "named"), [(Own(), "Own"), (nn.Sequential(nn.LSTM(2, 2)), "LSTM")]
)
def test_a_layer_that_cannot_be_written_is_an_error(
    monkeypatch: pytest.MonkeyPatch, layer: nn.Module, named: str
) -> None:
    monkeypatch.setitem(OPERATORS, "own", lambda site: layer)
    space = space_of_all()
    plan = space.plan(space.architecture(space.gates))
    plan = replace(plan, stems=(("own", plan.stems[0][1]),))
    with pytest.raises(
        ExportError, match=f"cannot write 'own' as plain PyTorch: it has {named}"
    ):
        to_python(plan, name="0123abcd", gated=True)
