"""How fast a search trains, beside a super-network as public implementations write it.

    python benchmarks/search_throughput.py [--device cpu|cuda] [--case 8,5,96] [--json FILE]

Each case is channels, cells, batch. The contenders, on the same random images, with the same
operators pruned:

masked    a per-operator super-network in the manner of DARTS: an edge sums its operators, each
          times its gate; a pruned operator is computed and multiplied by zero. fp32, eager.
zeroed    the same, but a pruned operator gives way to one that multiplies its input by zero.
goldnas   the step of ``goldnas search``, in fp32.
bf16      the same with ``--amp bf16`` (on CUDA, or with --bf16).

Operators go as a search under a budget of FLOPs removes them, in a random order, until the
network has a half and a quarter of the FLOPs of the full one. Steps of the contenders
alternate; figures are images per second from the median step, and its interquartile range. Peak
memory is of three steps in a process of their own: on the CPU by how much it grew after a step
on two images, on CUDA what torch allocated.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import goldnas
from goldnas.data.augmentation import Augmentation
from goldnas.data.examples import ImageData, Normalisation
from goldnas.data.loader import TrainingLoader
from goldnas.resource_names import FLOPS
from goldnas.resources import Budget
from goldnas.searching.budgets import build_feasibility
from goldnas.searching.config import SearchConfig
from goldnas.searching.data import SearchData, space_for
from goldnas.searching.feasibility import Feasibility
from goldnas.searching.folder import SearchRun
from goldnas.searching.schedules import weakest_over
from goldnas.searching.session import Session
from goldnas.searching.start import SearchLoop
from goldnas.searching.strategies import find_strategy
from goldnas.searching.supernet_learner import build_supernet
from goldnas.task import CLASSIFICATION
from goldnas.training.distributed import Ranks
from goldnas.training.machine import describe_machine

CASES = {
    "cpu": ["8,5,96", "8,8,96", "16,5,96", "16,8,96"],
    "cuda": ["36,14,96", "36,14,512"],
}
SHARES = {"full": 1.0, "half": 0.5, "quarter": 0.25}
SHAPE, CLASSES = (3, 32, 32), 10
Step = Callable[[], object]


def main() -> None:
    """Measure the cases, print their tables, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=sorted(CASES), default="cpu")
    parser.add_argument("--case", action="append", help="channels,cells,batch; repeat")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--bf16", action="store_true", help="bf16 on the CPU too")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    parser.add_argument("--json", type=Path, help="cases in the file that are not run stay")
    parser.add_argument(
        "--peak", nargs=2, metavar=("CONTENDER", "SHARE"), help=argparse.SUPPRESS
    )
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    cases = arguments.case or CASES[arguments.device]
    if arguments.peak:
        print(peak_bytes(cases[0], *arguments.peak, device))
        return
    contenders = ["masked", "zeroed", "goldnas"]
    if arguments.bf16 or arguments.device == "cuda":
        contenders.append("bf16")
    for case in cases:
        rows = measure(case, contenders, device, arguments.rounds)
        if not arguments.no_memory:
            for row in rows:
                row["peak_bytes"] = peak_in_process(case, row, arguments.device)
        show(case, rows)
        if arguments.json:
            keep(arguments.json, f"{arguments.device} {case}", rows, device)


# -- the contenders ----------------------------------------------------------------------------


class Zero(nn.Module):
    """What stands for a pruned operator where none is taken out."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` to zeros of the output's resolution."""
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


class MixedOperator(nn.Module):
    """An edge: the sum of its operators, each times its gate."""

    def __init__(self, operators: dict[str, nn.Module]) -> None:
        super().__init__()
        self.operators = nn.ModuleDict(operators)

    def forward(self, x: Tensor, gates: list[Tensor]) -> Tensor:
        """Sum the operators of ``(B, C, H, W)``."""
        return sum(g * op(x) for g, op in zip(gates, self.operators.values(), strict=True))


class PerOperatorNet(nn.Module):
    """A gated super-network written edge by edge, which computes pruned operators too."""

    def __init__(self, supernet: Any) -> None:
        super().__init__()
        self.supernet = supernet
        self.index = {(str(g.cell), g.key): i for i, g in enumerate(supernet.space.gates)}
        self.edges = nn.ModuleDict()
        for cell, module in supernet.network.cells.items():
            edges: dict[str, dict[str, nn.Module]] = {}
            for key, operator in module.operators.items():
                source, node, name = key.split("_", 2)
                edges.setdefault(f"{cell}_{source}_{node}", {})[name] = operator
            self.edges.update({edge: MixedOperator(ops) for edge, ops in edges.items()})

    def prune(self, chosen: list[int], *, zeroed: bool) -> None:
        """Set gates to zero; with ``zeroed``, their operators become a product with zero."""
        for index in chosen:
            gate = self.supernet.space.gates[index]
            self.supernet.active[index] = False
            if zeroed:
                edge = self.edges[f"{gate.cell}_{gate.source}_{gate.node}"]
                edge.operators[gate.operator] = Zero(gate.site.stride)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``(B, C, H, W)`` to the logits and the auxiliary ones, ``(B, classes)``."""
        network = self.supernet.network
        gates = self.supernet.gates().unbind()
        s0 = s1 = network.stem(images)
        for key, cell in network.cells.items():
            states = [cell.preprocess0(s0), cell.preprocess1(s1)]
            for node in range(2, 2 + self.supernet.space.nodes):
                inputs = []
                for source in range(node):
                    edge = self.edges[f"{key}_{source}_{node}"]
                    of_edge = [
                        gates[self.index[key, f"{source}_{node}_{name}"]]
                        for name in edge.operators
                    ]
                    inputs.append(edge(states[source], of_edge))
                states.append(sum(inputs))
            s0, s1 = s1, torch.cat(states[2:], dim=1)
            if key == self.supernet.auxiliary_cell:
                auxiliary = self.supernet.auxiliary(s1)
        return network.classifier(s1), auxiliary


class PerOperatorStep:
    """One step of training as public implementations take it."""

    def __init__(
        self, config: SearchConfig, data: SearchData, device: torch.device, zeroed: bool
    ) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.zeroed = zeroed
        supernet = build_supernet(config, data.space, device, "sigmoid")
        supernet.to(memory_format=torch.contiguous_format)
        self.net = PerOperatorNet(supernet).train()
        self.alpha = supernet.alpha
        self.weights = [p for p in self.net.parameters() if p is not self.alpha]
        self.weights_optimizer = torch.optim.SGD(
            self.weights,
            config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
        )
        self.gates_optimizer = torch.optim.SGD(
            [self.alpha], config.gate_learning_rate, momentum=config.momentum
        )
        self.costs = torch.ones(len(self.alpha), device=device)

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """Train once; return the loss and the accuracy, which they read at every step."""
        logits, auxiliary = self.net(images)
        loss = F.cross_entropy(logits, labels)
        loss = loss + self.config.auxiliary_weight * F.cross_entropy(auxiliary, labels)
        loss = loss + 1e-3 * self.net.supernet.penalty(self.costs)
        self.weights_optimizer.zero_grad()
        self.gates_optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, self.config.gradient_clip)
        self.weights_optimizer.step()
        self.gates_optimizer.step()
        return loss.item(), (logits.argmax(1) == labels).float().mean().item()

    def prune(self, chosen: list[int]) -> None:
        """Stop computing operators, in the way of the contender."""
        self.net.prune(chosen, zeroed=self.zeroed)


class GoldnasStep:
    """One step of a real search whose gates learn, under a penalty."""

    def __init__(self, config: SearchConfig, data: SearchData, device: torch.device) -> None:
        self.folder = tempfile.TemporaryDirectory()
        conditions = describe_machine(device, 1)
        run = SearchRun.create(Path(self.folder.name, "run"), config, conditions, [])
        feasibility = build_feasibility(data.space, config.budgets)
        learnt = find_strategy("one-shot")
        self.loop = SearchLoop(
            run,
            config,
            data,
            device,
            Ranks(),
            lambda loop: learnt.make(Session(loop, config, data, feasibility, run, learnt)),
        )
        self.learner: Any = self.loop.learner
        # In the middle of a search, where the penalty is on.
        self.step = config.epochs * self.loop.steps_per_epoch // 2
        assert self.learner.penalty_weight(self.step) > 0

    def __call__(self, images: Tensor, labels: Tensor) -> Tensor:
        """Train once."""
        at_once = self.loop.gradients.at_once
        loss = self.loop.strategy.train_step(self.step, images, labels)
        if self.loop.gradients.at_once < at_once:  # it would time a divided step
            raise torch.OutOfMemoryError
        return loss

    def prune(self, chosen: list[int]) -> None:
        """Remove operators."""
        self.learner.prune(chosen)


# -- measuring ---------------------------------------------------------------------------------


def set_up(
    case: str, names: list[str], device: torch.device
) -> tuple[dict[str, Any], SearchData, Feasibility, tuple[Tensor, Tensor]]:
    """Build contenders, and one batch of random images."""
    channels, cells, batch = map(int, case.split(","))
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (batch, *SHAPE), dtype=torch.uint8, generator=generator)
    images = ImageData(pixels, torch.arange(batch) % CLASSES, CLASSES)
    normalisation = Normalisation.measure(images)
    config = SearchConfig(
        channels=channels, cells=cells, batch_size=batch, budgets=("1GFLOPs",), epochs=1000
    )
    loader = TrainingLoader(
        images, Augmentation(), normalisation, batch_size=batch, seed=0, workers=0
    )
    space = space_for(config, images)
    data = SearchData(
        space, CLASSIFICATION, loader, images, images, normalisation, typical=images
    )
    contenders: dict[str, Any] = {}
    for name in names:
        if name in ("masked", "zeroed"):
            contenders[name] = PerOperatorStep(config, data, device, name == "zeroed")
        else:
            own = {"goldnas": "off", "bf16": "bf16"}[name]
            settings = {f: getattr(config, f) for f in config.__struct_fields__} | {"amp": own}
            contenders[name] = GoldnasStep(SearchConfig(**settings), data, device)
    batch_of = (normalisation.apply(pixels).to(device), images.labels.to(device))
    return contenders, data, build_feasibility(space, config.budgets), batch_of


def to_remove(feasibility: Feasibility, left: np.ndarray, share: float) -> list[int]:
    """The operators that go next, in a random order, until a share of the FLOPs is left."""
    flops = feasibility.costs[FLOPS]
    limit = share * flops.total(np.ones_like(left))
    goal = Feasibility(feasibility.space, [flops], [Budget(FLOPS, limit, f"{limit}FLOPs")])
    if goal.find(left) is None:
        sys.exit(f"no network of this space has {share} of the FLOPs of the full one")
    weights = np.random.default_rng(0).random(len(left))
    return weakest_over(goal, {FLOPS: limit}, weights, left)


def measure(
    case: str, names: list[str], device: torch.device, rounds: int
) -> list[dict[str, Any]]:
    """Time every contender at every share of the FLOPs."""
    contenders, data, feasibility, (images, labels) = set_up(case, names, device)
    left = np.ones(len(data.space.gates), dtype=bool)
    full = feasibility.costs[FLOPS].total(left)
    rows = []
    for share_name, share in SHARES.items():
        chosen = to_remove(feasibility, left, share)
        left[chosen] = False
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for contender in contenders.values():
            contender.prune(chosen)
        for turn in range(2 + rounds):
            for name, contender in list(contenders.items()):
                began = time.perf_counter()
                try:
                    contender(images, labels)
                    if device.type == "cuda":
                        torch.cuda.synchronize()
                except torch.OutOfMemoryError:
                    print(f"{name} does not fit in memory at {share_name} FLOPs", flush=True)
                    del contenders[name], seconds[name], contender
                    torch.cuda.empty_cache()
                    continue
                if turn >= 2:  # the first ones warm up
                    seconds[name].append(time.perf_counter() - began)
        for name, samples in seconds.items():
            low, _, high = quantiles(samples, n=4)
            learner = getattr(contenders[name], "learner", None)
            rows.append(
                {
                    "contender": name,
                    "share": share_name,
                    "flops_of_full": feasibility.costs[FLOPS].total(left) / full,
                    "operators": int(left.sum()),
                    "images_per_s": len(images) / median(samples),
                    "spread": (high - low) / median(samples),
                    "step_s": samples,
                    "estimated_bytes": learner and learner.step_bytes(),
                }
            )
    return rows


def peak_in_process(case: str, row: dict[str, Any], device: str) -> int:
    """Peak memory of one contender, in a process of its own."""
    command = [sys.executable, __file__, "--device", device, "--case", case]
    command += ["--peak", row["contender"], row["share"]]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak_bytes(case: str, name: str, share_name: str, device: torch.device) -> int:
    """Peak memory of steps of one contender."""
    contenders, data, feasibility, (images, labels) = set_up(case, [name], device)
    left = np.ones(len(data.space.gates), dtype=bool)
    contenders[name].prune(to_remove(feasibility, left, SHARES[share_name]))
    contenders[name](images[:2], labels[:2])  # what the libraries set up is not of the batch
    before = held_bytes("VmRSS")
    for _ in range(3):
        contenders[name](images, labels)
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return held_bytes("VmHWM") - before


def held_bytes(field: str) -> int:
    """Memory of this process: VmRSS now, VmHWM at most; ru_maxrss has its parent's too."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"^{field}:\s+(\d+) kB", status, re.M)[1])


# -- reporting ---------------------------------------------------------------------------------


def show(case: str, rows: list[dict[str, Any]]) -> None:
    """Print a table of Markdown, and the ratios."""
    channels, cells, batch = case.split(",")
    print(f"\n{channels} channels, {cells} cells, batch {batch}\n")
    heads = "FLOPs | operators | contender | images/s | spread | step of full | peak MiB"
    print(f"| {heads} | estimate |\n{'| --- ' * 8}|")
    full = {r["contender"]: r["images_per_s"] for r in rows if r["share"] == "full"}
    for row in rows:
        peak, estimate = (mebibytes(row.get(f"{k}_bytes")) for k in ("peak", "estimated"))
        name, speed = row["contender"], row["images_per_s"]
        print(
            f"| {row['flops_of_full']:.3f} | {row['operators']} | {name} | {speed:.1f} "
            f"| {100 * row['spread']:.1f} % | {full[name] / speed:.3f} | {peak} | {estimate} |"
        )
    for share in SHARES:
        speed = {r["contender"]: r["images_per_s"] for r in rows if r["share"] == share}
        for own in ("goldnas", "bf16"):
            if own in speed:
                beside = [name for name in ("masked", "zeroed") if name in speed]
                ratios = (f"{speed[own] / speed[name]:.2f} x {name}" for name in beside)
                print(f"{share}: {own} is {', '.join(ratios)}")
    sys.stdout.flush()


def mebibytes(amount: int | None) -> str:
    """Write an amount of memory, or nothing."""
    return "" if amount is None else f"{amount / 2**20:.0f}"


def keep(path: Path, key: str, rows: list[dict[str, Any]], device: torch.device) -> None:
    """Put a case into the file, beside those of other calls."""
    held = json.loads(path.read_text()) if path.exists() else {}
    command = f"benchmarks/search_throughput.py --device {device} --case {key.split()[1]}"
    conditions = describe_machine(device, 1) | {"command": command}
    held[key] = {"goldnas": goldnas.__version__, "conditions": conditions, "rows": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(held, indent=2) + "\n")


if __name__ == "__main__":
    main()
