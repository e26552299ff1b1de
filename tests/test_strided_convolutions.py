"""What PyTorch's kernels spoil on some processors, and what training does about it."""

import subprocess
import sys

import pytest

from nightly import at_night

PROGRAM = """
import sys
import torch
from goldnas.training.machine import place_module
torch.set_num_threads(1)
channels, side = map(int, sys.argv[1:])
module = torch.nn.Conv2d(channels, 4, 1, stride=2, bias=False)
placed = place_module(module, torch.device("cpu"))
images = torch.randn(64, channels, side, side).to(memory_format=torch.channels_last)
expected = torch.nn.functional.conv2d(images, module.weight, stride=2)
for _ in range(40):
    found = placed(images)
    found.sum().backward()
    [torch.randn(n) for n in (7, 100, 3000, 17, 900)]
assert torch.allclose(found, expected)
"""


@pytest.mark.parametrize("channels", [2, pytest.param(5, marks=at_night)])
def test_the_gradient_of_a_strided_1x1_convolution_writes_where_it_may(channels: int) -> None:
    """Of few channels: with glibc's checks, the process dies where memory is spoilt."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(channels), "16"],
        env={"MALLOC_CHECK_": "3", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
