"""Choices over several inputs: every candidate takes the same tensors."""

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import goldnas
import own_spaces
from goldnas.errors import ConfigError, MeasurementError
from goldnas.exporting.onnx import check_onnx, to_onnx
from goldnas.lut import LatencyTable
from goldnas.profiling.context import make_row_models
from goldnas.profiling.fill import fill_table
from goldnas.profiling.session import Session
from goldnas.resources import Flops, compute_costs
from goldnas.site import Shapes, parse_site
from goldnas.spaces import make_space
from goldnas.supernet import SuperNet
from simulated_device import SimulatedDevice

SPACE = make_space(own_spaces.forked)
JOIN = next(gate for gate in SPACE.gates if gate.name == "1.last.join")


class Wider(nn.Module):
    """Two tensors of one shape, side by side."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.cat(inputs, dim=1)


def test_a_site_has_the_shapes_of_all_inputs() -> None:
    ((name, site),) = JOIN.parts
    assert (name, str(site)) == ("own_spaces:forked/join", "4x8x8+4x8x8->4x8x8")
    assert parse_site(str(site)) == site
    assert site.input_shapes == ((4, 8, 8), (4, 8, 8))
    costs = compute_costs(SPACE, Flops(SPACE.build_part))
    assert costs.gates[SPACE.gates.index(JOIN)] == 9 * 8 * 4 * 64


@pytest.mark.parametrize("text", ["4x8x8+4x8x8", "4x8+->4x8", "4x8->4x8+4x8"])
def test_what_is_no_site_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a site"):
        parse_site(text)


def test_checkpointing_changes_no_gradient() -> None:
    images, gradients = torch.randn(4, 1, 8, 8), []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        supernet = SuperNet(SPACE, checkpointing=checkpointing)
        supernet(images)[0].square().sum().backward()
        gradients.append([weight.grad for weight in supernet.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def test_a_network_with_gates_is_exported() -> None:
    network = SPACE.build(SPACE.architecture(SPACE.gates), gated=True).eval()
    for name, buffer in network.named_buffers():
        if name.endswith(".gates"):
            buffer.uniform_(0.3, 0.7)
    assert check_onnx(to_onnx(network, (1, 1, 8, 8)), network, (1, 1, 8, 8)) < 1e-5


@pytest.mark.parametrize(
    ("module", "shapes", "out", "method"),
    [
        (own_spaces.Join(4, affine=False), [(4, 6, 6), (4, 6, 6)], (4, 6, 6), "chain"),
        (Wider(), [(3, 8), (3, 8), (3, 8)], (9, 8), "branches"),
    ],
    ids=["two inputs", "three inputs"],
)
def test_the_models_of_a_row_of_several_inputs_run(
    module: nn.Module, shapes: Sequence[tuple[int, ...]], out: tuple[int, ...], method: str
) -> None:
    exported = onnx.load_model_from_string(to_onnx(module, *((2, *s) for s in shapes)))
    site = Shapes(shapes[0], out, tuple(shapes[1:]))
    found = make_row_models(exported, site, batch=2)
    assert found.method == method
    for model in found.models.values():
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        session.run(None, {"input": torch.zeros(2, *shapes[0]).numpy()})


def test_inputs_of_several_shapes_are_not_measured() -> None:
    exported = onnx.load_model_from_string(to_onnx(Wider(), (1, 2, 6), (1, 3, 6)))
    with pytest.raises(MeasurementError, match=r"at 2x6\+3x6->5x6 cannot be measured"):
        make_row_models(exported, Shapes((2, 6), (5, 6), ((3, 6),)), batch=1)


def test_a_device_is_profiled_for_it(tmp_path: Path) -> None:
    session = Session(SimulatedDevice())
    empty = LatencyTable(session.conditions, (), tmp_path / "cpu.json")
    table = fill_table(session, empty, SPACE, networks=0)
    assert not table.missing(SPACE.rows())
    again = LatencyTable.load(table.path)
    assert {row.site for row in again.rows} >= {"4x8x8+4x8x8->4x8x8", "8x4x4+8x4x4->8x4x4"}


class Odd(nn.Module):
    """Calls a choice with something that is no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = own_spaces.conv(1, 4)
        self.choice = goldnas.Choice({"add": own_spaces.Add})
        self.head = own_spaces.head(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.choice(self.stem(x), 3))


def odd() -> nn.Module:
    return Odd()


def test_an_input_that_is_no_tensor_is_refused() -> None:
    with pytest.raises(ConfigError, match="the choice at choice is called with an int"):
        make_space(odd, input_shape=[1, 8, 8])
