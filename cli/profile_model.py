"""The output of ``goldnas profile --model``: latency by node, compared with predictions."""

from typing import TYPE_CHECKING

from goldnas.cli.console import as_text, out, print_json, say, warn

if TYPE_CHECKING:
    from goldnas.profiling.input_values import ModelInput
    from goldnas.profiling.profile_model import ModelProfile

_LISTED = 20
"""Nodes that are printed; --json has all."""


def print_profile(profile: "ModelProfile", *, as_json: bool) -> None:
    """Print what a model takes."""
    if not as_json:
        _print(profile)
        return
    file, found = profile.file, profile.latency
    print_json(
        {
            "model": str(file.path),
            "architecture": file.architecture and file.architecture.fingerprint,
            "inputs": [
                {
                    "name": entry.name,
                    "type": entry.type,
                    "shape": entry.shape,
                    "filled": entry.filled,
                }
                for entry in profile.inputs
            ],
            "conditions": profile.conditions,
            "latency_us": found.latency_us,
            "interval_us": found.interval_us,
            "loop": profile.loop,
            "pipeline": profile.pipeline,
            "outside_us": found.outside_us,
            "profiling_us": found.profiling_us,
            "nodes": found.nodes,
            "predictions": profile.predictions,
        }
    )


def _print(profile: "ModelProfile") -> None:
    file, found, conditions = profile.file, profile.latency, profile.conditions
    if found.outside_us is not None:
        _print_nodes(profile, found.outside_us)
    else:
        say(f"{conditions.runtime} has no profiler: the times of single nodes are not known")
    if profile.inputs:
        say(f"inputs: {'; '.join(map(_describe_input, profile.inputs))}")
    say(
        f"{file.path}: {found.latency_us / 1000:.4g} ms "
        f"+-{100 * found.interval_us / found.latency_us:.1f} % on {conditions.machine} with "
        f"{conditions.backend}, threads {conditions.threads}, batch {conditions.batch}"
    )
    if profile.loop is not None:
        beside = f" with {profile.pipeline}" if profile.pipeline else ""
        say(f"in the loop {conditions.called}{beside}, {profile.loop.calls} calls:")
        for name, one in profile.loop.quantiles.items():
            say(
                f"  {name} {one.latency_us / 1000:.4g} ms; with 95 % confidence not below "
                f"{one.low_us / 1000:.4g} ms, nor above {one.high_us / 1000:.4g} ms"
            )
        if profile.loop.around:
            around = ", ".join(
                f"{name} {one.latency_us / 1000:.4g} ms"
                for name, one in profile.loop.around.items()
            )
            say(f"of each call, before and after the model: {around}")
    for prediction in profile.predictions:
        say(
            f"{prediction.table} predicts {prediction.latency_us / 1000:.4g} ms; the "
            f"measurement differs by {prediction.difference_percent:+.1f} %"
        )
        for difference in prediction.other_conditions:
            warn(f"{prediction.table} was measured under other conditions: {difference}")
    if file.architecture is not None and not profile.predictions:
        say(
            f"the model is network {file.architecture.fingerprint} of space "
            f"{file.architecture.space}; --latency-lut TABLE compares it with a prediction"
        )


def _print_nodes(profile: "ModelProfile", outside_us: float) -> None:
    from collections import Counter

    from rich.table import Table

    found, conditions = profile.latency, profile.conditions

    def share(us: float) -> str:
        return f"{100 * us / found.latency_us:.1f} %"

    counts = Counter(node.operator for node in found.nodes)
    sums: Counter[str] = Counter()
    for node in found.nodes:
        sums[node.operator] += node.latency_us  # type: ignore[assignment]  # floats add as well
    by_operator = Table("operator", title="by operator")
    for header in ("nodes", "us", "share"):
        by_operator.add_column(header, justify="right", no_wrap=True)
    for name, us in sums.most_common():
        by_operator.add_row(as_text(name), str(counts[name]), f"{us:.1f}", share(us))
    if outside_us >= 0.05:
        outside = (f"{outside_us:.1f}", share(outside_us))
        by_operator.add_row("between nodes", "", *outside)
    out.print(by_operator)

    longest = sorted(found.nodes, key=lambda node: -node.latency_us)[:_LISTED]
    shown = f"the {len(longest)} longest of {len(found.nodes)} nodes"
    by_node = Table("node", "operator", "output", title=shown)
    for header in ("us", "share"):
        by_node.add_column(header, justify="right", no_wrap=True)
    for node in longest:
        texts = (as_text(node.node), as_text(node.operator), as_text(node.output))
        by_node.add_row(*texts, f"{node.latency_us:.1f}", share(node.latency_us))
    out.print(by_node)

    others = Counter(node.provider for node in found.nodes)
    wanted = conditions.backend_options["provider"]
    elsewhere = sum(count for provider, count in others.items() if provider != wanted)
    if elsewhere:
        warn(f"{elsewhere} of {len(found.nodes)} nodes do not run on {wanted}")


def _describe_input(entry: "ModelInput") -> str:
    """An input, and what it held: ``image float 1x3x224x224 random``."""
    shape = "x".join(map(str, entry.shape))
    return " ".join(filter(None, (entry.name, entry.type, shape, entry.filled)))
