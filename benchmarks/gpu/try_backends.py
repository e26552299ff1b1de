"""Which backends run on this machine's GPU, and whether they compute what PyTorch computes.

    python benchmarks/gpu/try_backends.py --out try.json

Builds, loads and runs a small network with each backend of ``goldnas profile --backend``, in
single and half precision, and holds its outputs against PyTorch on the processor. One line
each. At the end it prints those that run.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch

from goldnas.errors import ExportError, GoldnasError
from goldnas.exporting.onnx import check_outputs, to_onnx
from goldnas.exporting.precision import to_precision
from goldnas.profiling.gpu_backend import GpuBackend
from goldnas.profiling.runtimes import BACKENDS
from goldnas.spaces import GoldSpace
from goldnas.spaces.sampling import draw_architectures


def main() -> None:
    """Try each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    space = GoldSpace(cells=3, channels=8)
    torch.manual_seed(0)
    network = space.build(next(draw_architectures(space, 1, seed=0))).eval()
    images = torch.randn((4, *space.input_shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)
    exact = to_onnx(network, (1, *space.input_shape))
    record: dict[str, dict[str, str]] = {}
    for name in BACKENDS:
        record[name] = {}
        for precision in ("fp32", "fp16"):
            found = tried(name, precision, exact, images.numpy(), expected)
            record[name][precision] = found
            print(f"{name}, {precision}: {found}", flush=True)
    run = [name for name, found in record.items() if found["fp32"].startswith("runs")]
    if arguments.out:
        arguments.out.write_text(json.dumps(record, indent=1) + "\n")
    print("run here:", *run)


def tried(
    name: str, precision: str, exact: bytes, images: np.ndarray, expected: torch.Tensor
) -> str:
    """What comes of one backend, in one line."""
    try:
        backend = GpuBackend(name, precision=precision)
        conditions = backend.conditions(batch=1)
        outputs = backend.run(to_precision(exact, precision), images).outputs
        difference = check_outputs(torch.from_numpy(outputs), expected, precision=precision)
    except ExportError as error:
        return f"wrong: {error}"
    except GoldnasError as error:
        return f"does not run: {error}"
    return (
        f"runs, {conditions.backend} on {conditions.machine}; outputs differ by "
        f"{difference:.1e} where they reach {float(expected.abs().max()):.1e}"
    )


if __name__ == "__main__":
    main()
