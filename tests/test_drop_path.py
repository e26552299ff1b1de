"""Drop-path: what is dropped, how much of it, and when."""

import pytest
import torch
from torch import Tensor, nn

from goldnas.network import CellNetwork
from goldnas.operators import find_part
from goldnas.spaces import GoldSpace
from goldnas.training.averaging import moving_average
from goldnas.training.drop_path import DropPath

CPU = torch.device("cpu")
SPACE = GoldSpace(cells=3, channels=4, input_shape=(3, 8, 8))


@pytest.fixture
def network() -> CellNetwork:
    torch.manual_seed(0)
    return SPACE.build(SPACE.architecture(SPACE.gates)).train()


def outputs_of(network: CellNetwork, count: int) -> dict[str, tuple[nn.Module, Tensor]]:
    """What each operator puts out, after everything that listens to it before."""
    seen: dict[str, tuple[nn.Module, Tensor]] = {}

    def keep(name: str, module: nn.Module, output: Tensor) -> None:
        seen[name] = (module, output)

    for place, cell in network.cells.items():
        for key, operator in cell.operators.items():  # type: ignore[union-attr, operator]
            operator.register_forward_hook(
                lambda module, _, output, name=f"{place}.{key}": keep(name, module, output)
            )
    network(torch.randn(count, 3, 8, 8))
    return seen


def test_operators_are_dropped_image_by_image_and_identities_never(
    network: CellNetwork,
) -> None:
    drop_path = DropPath(network, CPU, seed=0)
    drop_path.begin(step=5, rank=0, probability=0.25)
    dropped: list[float] = []
    for module, output in outputs_of(network, 64).values():
        part = find_part(module)
        assert part is not None
        gone = output.flatten(1).eq(0).all(1)
        if part[0] == "skip_connect" and part[1].stride == 1:
            assert not gone.any()
        else:
            dropped.append(float(gone.double().mean()))
    assert len(dropped) > 40
    assert sum(dropped) / len(dropped) == pytest.approx(0.25, abs=0.03)
    assert len(set(dropped)) > 5  # each operator has masks of its own


def test_what_is_left_is_scaled_so_that_the_mean_stays(network: CellNetwork) -> None:
    images = torch.randn(16, 3, 8, 8)
    operator = network.cells["0"].operators["0_2_sep_conv_3x3"]  # type: ignore[union-attr, index]
    x = network.stem(images)[:, :4]
    plain = operator(x)  # type: ignore[operator]
    drop_path = DropPath(network, CPU, seed=0)
    drop_path.begin(step=0, rank=0, probability=0.5)
    dropped = operator(x)  # type: ignore[operator]
    kept = dropped.flatten(1).ne(0).any(1)
    assert 0 < int(kept.sum()) < 16
    assert torch.allclose(dropped[kept], 2 * plain[kept])


def test_masks_depend_on_the_step_and_the_rank_alone(network: CellNetwork) -> None:
    drop_path = DropPath(network, CPU, seed=0)
    images = torch.randn(8, 3, 8, 8)

    def logits(step: int, rank: int) -> Tensor:
        torch.manual_seed(step)
        drop_path.begin(step, rank, 0.5)
        result: Tensor = network(images)
        return result

    first = logits(3, 0)
    assert not torch.equal(first, logits(4, 0))
    assert not torch.equal(first, logits(3, 1))
    assert torch.equal(first, logits(3, 0))


def test_evaluation_and_the_average_of_the_weights_drop_nothing(network: CellNetwork) -> None:
    average = moving_average(network, 0.9)
    images = torch.randn(4, 3, 8, 8)
    network.eval()
    plain = network(images)
    drop_path = DropPath(network, CPU, seed=0)
    drop_path.begin(step=0, rank=0, probability=0.9)
    assert torch.equal(network(images), plain)
    average.train()
    assert average(images).isfinite().all()
    assert not any(m._forward_hooks for m in average.modules())


def test_the_average_follows_weights_and_statistics_and_forgets_its_first() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    average = moving_average(network, 0.999)  # type: ignore[arg-type]
    for step in range(1, 101):
        with torch.no_grad():
            network[0].weight.fill_(step)  # type: ignore[operator, union-attr]
            network[1].running_mean.fill_(-step)  # type: ignore[operator, union-attr]
        average.update_parameters(network)
    weight, mean = average.module[0].weight.item(), average.module[1].running_mean.item()  # type: ignore[index, union-attr, operator]
    # With 0.999 throughout it would still be near 1 + 99 * 0.1 / 2.
    assert 80 < weight < 100
    assert mean == pytest.approx(-weight)
