"""Which networks of timm can be shrunk, and how far: the smallest of each of its families.

    python benchmarks/shrinkable.py --report shrinkable.json [--families convnext pit]

For each network: the groups of channels and the blocks that may go, and the FLOPs of the
smallest network that is left, as a share of the whole. The FLOPs of the whole network, of the
smallest and of some between are counted on what is built, and compared with the sum over the
parts that a search goes by. What is refused is told with its message. Needs no data: weights
are fresh. Prints a table, and writes every figure as JSON to --report.
"""

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import timm
import torch

from goldnas.errors import ConfigError
from goldnas.resources import Flops, count_flops
from goldnas.resources.costs import sum_costs
from goldnas.spaces.making import make_shrunk_space
from goldnas.spaces.shrunk import ShrunkSpace, Size
from goldnas.spaces.zoo import ZooSpace

LARGEST_SIDE = 256
DRAWN = 3
STEP = 8


def find_smallest(family: str) -> tuple[str, tuple[int, int, int]] | None:
    """The network of a family with the fewest parameters, and the shape of its images."""
    found = {}
    for name in timm.list_models(module=family):
        with torch.device("meta"):
            try:
                network = timm.create_model(name)
            except Exception:  # some cannot be made without numbers
                continue
        shape = tuple(network.default_cfg.get("input_size", (3, 224, 224)))
        if shape[-1] <= LARGEST_SIDE:
            found[name] = (sum(p.numel() for p in network.parameters()), shape)
    if not found:
        return None
    name = min(found, key=lambda name: found[name][0])
    return name, found[name][1]


def count(space: ShrunkSpace, size: Size) -> tuple[int, int]:
    """FLOPs of a network as it is built, and the sum over its parts."""
    architecture = space.describe(size)
    parts = space.plan(architecture).parts()
    built = count_flops(space.build(architecture), space.input_shape)
    return built, round(sum_costs(Flops(space.build_part), parts))


def look_at(name: str, shape: tuple[int, int, int]) -> dict[str, Any]:
    """What may go from a network."""
    whole = ZooSpace(network=f"timm/{name}", input_shape=shape, classes=10).architecture(())
    try:
        space = make_shrunk_space(network=json.loads(whole.to_json()), step=STEP, gated=False)
    except ConfigError as error:
        return {"refused": str(error)}
    sizes = [space.whole, space.smallest, *space.draw(DRAWN, seed=0)]
    try:
        counts = [count(space, size) for size in sizes]
    except Exception as error:  # of any kind: it is what is looked for
        return {"refused": f"{type(error).__name__}: {error}"}
    return {
        "groups": len(space.free),
        "blocks": len(space.branches),
        "flops": counts[0][0],
        "smallest_share": counts[1][0] / counts[0][0],
        "counts_agree": all(built == of_parts for built, of_parts in counts),
    }


def main() -> None:
    """Look at all families."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--families", nargs="+", default=timm.list_modules())
    parser.add_argument("--report", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = []
    print("| network | groups | blocks | MFLOPs | smallest, % | counts agree | s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for family in arguments.families:
        if (found := find_smallest(family)) is None:
            continue
        name, shape = found
        start = time.perf_counter()
        row = {"family": family, "network": name, "shape": shape, **look_at(name, shape)}
        row["seconds"] = time.perf_counter() - start
        rows.append(row)
        if told := row.get("refused"):
            print(f"| {name} | {told} |", flush=True)
            continue
        print(
            f"| {name} | {row['groups']} | {row['blocks']} | {row['flops'] / 1e6:.0f} "
            f"| {100 * row['smallest_share']:.0f} | {'yes' if row['counts_agree'] else 'NO'} "
            f"| {row['seconds']:.0f} |",
            flush=True,
        )
        if arguments.report:
            arguments.report.write_text(json.dumps(rows, indent=1) + "\n")
    shrinkable = [row for row in rows if "refused" not in row]
    agree = sum(row["counts_agree"] for row in shrinkable)
    print(f"{len(shrinkable)} of {len(rows)} can be shrunk; the counts agree for {agree}")


if __name__ == "__main__":
    main()
