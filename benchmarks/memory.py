"""Bytes and peak memory of exported networks: what goldnas counts, and what is there.

Random networks of two spaces are exported. Their bytes are counted on a network with other
weights than the file has. Their peak memory is held against a simulation of the runtime: it
runs the file without optimisation, and says which node it ran when and how many bytes that
node put out. At each moment the simulation adds up every tensor that exists and is still
read. The runtime does so in the order of the file, and in the order that it chooses itself.

    PYTHONSAFEPATH=1 .venv/bin/python benchmarks/memory.py

It measures no time. It takes some minutes on one core, and writes docs/results/memory.json.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

import goldnas
from goldnas.exporting.file_costs import count_file, read_file
from goldnas.exporting.onnx import describe_network, to_onnx
from goldnas.exporting.precision import to_precision
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.sampler import BudgetedSampler
from goldnas.spaces import SearchSpace

PRECISIONS = ("fp32", "fp16", "int8")
RESOURCES = {"fp32": ("bytes", "ram")} | {p: (f"bytes:{p}", f"ram:{p}") for p in PRECISIONS[1:]}


def make_spaces() -> dict[str, SearchSpace]:
    """The spaces, at laptop size."""
    images = {"input_shape": (3, 32, 32), "classes": 10}
    return {
        "gold": goldnas.space("gold", cells=5, channels=8, nodes=3, **images),
        "mobile": goldnas.space("mobile", **images),
    }


def draw_weights(network: nn.Module, seed: int) -> None:
    """Give a network weights in which no two tensors are alike."""
    generator = torch.Generator().manual_seed(seed)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)


def simulate(
    model: bytes, folder: Path, order_by: onnxruntime.ExecutionOrder
) -> tuple[int, bool]:
    """The peak of a run of onnxruntime, from what it says of it.

    Args:
        model: In fp32.
        folder: For the runtime's profile.
        order_by: How the runtime orders the nodes.

    Returns:
        Bytes, and whether the nodes ran in the order of the file.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.execution_order = order_by
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    session.run(None, {given.name: np.zeros(given.shape, np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    ran = [
        (event["ts"], event["name"].removesuffix("_kernel_time"), event["args"])
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
    ]
    graph = onnx.load_model_from_string(model).graph
    nodes = {node.name: node for node in graph.node}
    order = [name for _, name, _ in sorted(ran, key=lambda entry: entry[0])]
    assert len(nodes) == len(graph.node) == len(order), "the profile lacks a node"
    bytes_of = {nodes[name].output[0]: int(args["output_size"]) for _, name, args in ran}
    bytes_of[given.name] = 4 * int(np.prod(given.shape))
    made = {given.name: 0} | {nodes[n].output[0]: i for i, n in enumerate(order)}
    peak = 0
    for moment in range(len(order)):
        wanted = {graph.output[0].name}
        for name in order[moment:]:
            wanted |= set(nodes[name].input)
        here = nodes[order[moment]]
        there = {
            name
            for name, when in made.items()
            if when <= moment and (name in wanted or name in here.output)
        }
        peak = max(peak, sum(bytes_of[name] for name in there))
    return peak, order == [node.name for node in graph.node]


def measure(feasibility: Feasibility, seed: int, sampler: BudgetedSampler, folder: Path) -> Any:
    """One random network: what its parts tell, what is counted, what is there."""
    mask = sampler.draw()
    space = feasibility.space
    kept = (gate for gate, keep in zip(space.gates, mask, strict=True) if keep)
    architecture = space.architecture(kept)
    metadata = describe_network(architecture.to_json().decode(), {})
    networks = [space.build(architecture, gated=True) for _ in range(2)]
    for number, network in enumerate(networks):
        draw_weights(network, 2 * seed + number)
    names = [name for pair in RESOURCES.values() for name in pair]
    counted = count_file(networks[0], space.input_shape, names, metadata)
    exact = to_onnx(networks[1], (1, *space.input_shape), metadata=metadata)
    simulated, in_order = simulate(exact, folder, onnxruntime.ExecutionOrder.PRIORITY_BASED)
    by_itself, _ = simulate(exact, folder, onnxruntime.ExecutionOrder.DEFAULT)
    row: dict[str, Any] = {
        "space": space.name,
        "seed": seed,
        "fingerprint": architecture.fingerprint,
        "simulated_ram": simulated,
        "ran_in_order": in_order,
        "simulated_ram_in_runtime_order": by_itself,
    }
    for precision, (size, ram) in RESOURCES.items():
        model = to_precision(exact, precision)
        path = folder / "network.onnx"
        path.write_bytes(model)
        row[precision] = {
            "bytes_of_parts": feasibility.costs[size].total(mask),
            "bytes_counted": counted[size],
            "bytes_of_file": path.stat().st_size,
            "ram_of_parts": feasibility.costs[ram].total(mask),
            "ram_counted": counted[ram],
            "ram_of_file": read_file(model, precision)[ram],
        }
    return row


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each space and number format, the largest differences."""
    lines = []
    for space in dict.fromkeys(row["space"] for row in rows):
        for precision in PRECISIONS:
            mine = [row for row in rows if row["space"] == space]
            found = [row[precision] for row in mine]
            over = [100 * (f["bytes_of_parts"] / f["bytes_of_file"] - 1) for f in found]
            under = [100 * (1 - f["ram_of_parts"] / f["ram_of_file"]) for f in found]
            line = {
                "space": space,
                "precision": precision,
                "networks": len(found),
                "file_kb": [f(f_["bytes_of_file"] for f_ in found) / 1e3 for f in (min, max)],
                "counted_is_file": sum(f["bytes_counted"] == f["bytes_of_file"] for f in found),
                "parts_over_file_percent": [min(over), float(np.median(over)), max(over)],
                "ram_kb": [f(f_["ram_of_file"] for f_ in found) / 1e3 for f in (min, max)],
                "ram_counted_is_file": sum(f["ram_counted"] == f["ram_of_file"] for f in found),
                "parts_under_ram_percent": [min(under), float(np.median(under)), max(under)],
            }
            if precision == "fp32":
                line["ram_is_simulated"] = sum(
                    r["simulated_ram"] == r[precision]["ram_counted"] for r in mine
                )
                line["largest_difference_percent"] = max(
                    100 * abs(r["simulated_ram"] / r[precision]["ram_counted"] - 1)
                    for r in mine
                )
                own = [
                    100
                    * (r["simulated_ram_in_runtime_order"] / r[precision]["ram_counted"] - 1)
                    for r in mine
                ]
                line["runtime_order_percent"] = [min(own), float(np.median(own)), max(own)]
                line["ran_in_order"] = sum(r["ran_in_order"] for r in mine)
            lines.append(line)
    return lines


def main() -> None:
    """Export the networks, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=25, help="of each space")
    parser.add_argument("--out", type=Path, default=Path("docs/results/memory.json"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, space in make_spaces().items():
            budgets = [
                f"1GB{':ram' * ('ram' in resource)}:{precision}"
                for precision, pair in RESOURCES.items()
                for resource in pair
            ]
            feasibility = build_feasibility(space, budgets, single=name == "mobile")
            sampler = BudgetedSampler(feasibility, seed=0)
            for seed in range(options.networks):
                rows.append(measure(feasibility, seed, sampler, Path(folder)))
                print(f"{name} {seed + 1}/{options.networks}", file=sys.stderr, flush=True)
    summary = summarise(rows)
    for line in summary:
        print(json.dumps(line))
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    ).stdout.strip()
    content = {
        "command": f"python benchmarks/memory.py --networks {options.networks}",
        "commit": commit,
        "versions": {
            "goldnas": goldnas.__version__,
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "onnxruntime": onnxruntime.__version__,
            "python": platform.python_version(),
        },
        "summary": summary,
        "networks": rows,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
