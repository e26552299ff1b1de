"""What Tab offers for values, fast and without torch.

Modules that register spaces and operators import torch, which takes longer than anybody waits
for Tab. Such names are read from the source where they are defined instead.
"""

import ast
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

import goldnas

Values = Iterable[str | tuple[str, str]]
"""Names, some with a word on what they are."""

_ROOT = Path(goldnas.__file__).parent


def offering(values: Callable[[], Values]) -> Callable[[str], list[Any]]:
    """What an option takes as ``autocompletion``; of the values, those that fit are shown."""

    def complete(incomplete: str) -> list[Any]:
        return list(values())

    return complete


def offering_several(values: Callable[[], Iterable[str]]) -> Callable[[str], list[Any]]:
    """The same for an option that takes several, separated by commas."""

    def complete(incomplete: str) -> list[Any]:
        typed, comma, _ = incomplete.rpartition(",")
        return [f"{typed}{comma}{value}" for value in values()]

    return complete


def spaces() -> list[str]:
    """The spaces that goldnas has."""
    return [
        *_registered("spaces", "register_cells"),
        *_registered("spaces", "register_function"),
    ]


def operators() -> list[str]:
    """The candidates of an edge."""
    return list(_registered("operators", "register_operator"))


def strategies() -> Values:
    """Ways to search."""
    from goldnas.searching.strategies import STRATEGIES

    return [(name, strategy.description) for name, strategy in STRATEGIES.items()]


def loggers() -> tuple[str, ...]:
    """Where figures can go."""
    from goldnas.loggers.listener import LOGGERS

    return LOGGERS


def recipes() -> Values:
    """Ways to train."""
    from goldnas.training.recipes import PURPOSES

    return PURPOSES.items()


def datasets() -> list[str]:
    """Datasets that have a name."""
    return list(_listed("data/named.py", "DATASET_NAMES"))


def networks() -> list[str]:
    """Networks that others published."""
    return [
        *_listed("genotypes.py", "NAMED"),
        *_listed("spaces/mobile_networks.py", "_NETWORKS"),
    ]


def targets(incomplete: str) -> list[str]:
    """What can be trained besides files; those the shell offers where nothing is typed yet."""
    return networks() if incomplete else []


def precisions() -> list[str]:
    """Number formats of models."""
    return list(_listed("exporting/precision.py", "PRECISIONS"))


def formats() -> list[str]:
    """Forms of a comparison."""
    return ["table", *_listed("comparison/formats.py", "FORMATS")]


def devices() -> Values:
    """What can be measured, or how it begins."""
    return [
        ("cpu", "this machine"),
        ("cuda", "its GPU"),
        ("ssh://", "another machine"),
        ("adb://", "a phone"),
    ]


def backends() -> list[str]:
    """What runs models."""
    from goldnas.profiling.runtimes import BACKENDS

    return ["onnxruntime", *BACKENDS]


def providers() -> list[str]:
    """What runs models in onnxruntime."""
    from goldnas.profiling.onnxruntime_backend import PROVIDERS

    return list(PROVIDERS)


def tables() -> list[str]:
    """The latency tables that goldnas ships."""
    from goldnas.lut.table import shipped_tables

    return list(shipped_tables())


def networks_of_run(ctx: typer.Context) -> list[Any]:
    """``best``, and the fingerprints of the front of the search that was typed before."""
    # Before the value of an option is there, arguments are not taken apart yet.
    named = [ctx.params.get("run"), ctx.params.get("target"), *ctx.args]
    folder = next(filter(None, named), "")
    try:
        front = json.loads(Path(folder, "front.json").read_bytes())
        found = [(n["fingerprint"], ", ".join(n["reasons"])) for n in front["networks"]]
    except (OSError, ValueError, KeyError, TypeError):  # no search, or none that can be read
        found = []
    return ["best", *found]


def _registered(package: str, decorator: str) -> Iterator[str]:
    """Names that the files of a package register: ``@decorator("name")``, or a class's name."""
    for path in sorted((_ROOT / package).glob("*.py")):
        for node in _source(path):
            for mark in getattr(node, "decorator_list", ()):
                if isinstance(mark, ast.Call) and ast.unparse(mark.func) == decorator:
                    # Fixed parts of networks say that they are no candidates.
                    if all(keyword.arg != "candidate" for keyword in mark.keywords):
                        yield str(ast.literal_eval(mark.args[0]))
                elif ast.unparse(mark) == decorator and isinstance(node, ast.ClassDef):
                    yield from _strings(node.body, "name")


def _listed(file: str, variable: str) -> Iterator[str]:
    """The names in a tuple of a module, or the keys of a dictionary of it."""
    return _strings(_source(_ROOT / file), variable)


def _strings(body: list[ast.stmt], variable: str) -> Iterator[str]:
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", 0)]
        if not any(isinstance(t, ast.Name) and t.id == variable for t in targets):
            continue
        value = getattr(node, "value", None)
        parts = value.keys if isinstance(value, ast.Dict) else getattr(value, "elts", [value])
        for part in parts:
            if isinstance(part, ast.Starred) and isinstance(part.value, ast.Name):
                yield from _strings(body, part.value.id)
            elif isinstance(part, ast.Constant):
                yield str(part.value)


def _source(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text(encoding="utf-8")).body
