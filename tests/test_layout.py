"""The shape of the repository: packages, links, who imports whom, what may be committed."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import goldnas

ROOT = Path(__file__).parent.parent
FOLDERS = {"goldnas.profiling": "profiling", "goldnas.lut": "lut", "goldnas.cli": "cli"}
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())

# A package may import itself and what is listed. The table is the seam: profiling
# writes it, search reads it, and neither knows of the other.
MAY_IMPORT = {
    "errors": set(),
    "files": {"errors"},
    "locks": {"bounded", "errors", "files"},
    "parent": set(),
    "scratch": {"errors"},
    "bounded": set(),
    "ranges": {"resource_names"},
    "log_records": {"ranges"},
    "tensor_file": {"bounded"},
    "weights_file": {"bounded", "tensor_file"},
    "arrays": {"bounded", "errors"},
    "contents": {"bounded"},
    "site": {"errors"},
    "architecture": {"bounded", "errors", "files"},
    "settings": {"errors", "ranges"},
    "space_settings": {"settings"},
    "mobile_block": set(),
    "lut": {"bounded", "errors", "files", "mobile_block", "resource_names", "site", "units"},
    "operators": {"errors", "mobile_block", "site"},
    "multiply_adds": set(),
    "network": set(),
    "recompute": set(),
    "choice": {"errors", "recompute"},
    "channels": {"errors", "multiply_adds"},
    "trust": {"errors", "files"},
    "reference": {"errors", "trust"},
    "metric": {"ranges"},
    "resource_names": set(),
    "units": {"resource_names"},
    "task": {"errors", "metric", "reference"},
    "zoo": {"bounded", "errors", "files", "lut", "multiply_adds", "site"},
    "spaces": {
        *("architecture", "channels", "choice", "errors", "mobile_block", "multiply_adds"),
        "network",
        *("operators", "reference", "site", "trust", "zoo"),
    },
    "resources": {
        *(
            "architecture",
            "errors",
            "lut",
            "multiply_adds",
            "operators",
            "resource_names",
            "site",
            "spaces",
        ),
        "units",
    },
    "exporting": {
        *("channels", "choice", "errors", "network", "operators", "resource_names"),
        *("resources", "scratch", "site", "spaces", "units"),
    },
    "profiling": {
        *("architecture", "arrays", "bounded", "choice", "contents", "errors", "exporting"),
        *("files", "lut", "operators", "reference", "resource_names", "resources", "scratch"),
        *("settings", "site", "spaces", "trust", "zoo"),
    },
    "picking": {
        *("errors", "exporting", "files", "lut", "profiling", "resource_names", "resources"),
        *("settings", "zoo"),
    },
    "data": {"arrays", "bounded", "contents", "errors", "reference", "trust"},
    "run_folder": {
        *("architecture", "bounded", "errors", "files", "locks", "log_records", "ranges"),
        *("reference", "tensor_file", "trust"),
    },
    "loggers": {"bounded", "errors", "files", "metric", "reference", "run_folder"},
    "genotypes": {"architecture", "errors", "spaces"},
    "gated_cell": {"network", "operators", "recompute"},
    "auxiliary_head": set(),
    "supernet": {"auxiliary_head", "choice", "errors", "gated_cell", "network", "spaces"},
    "training": {
        *("architecture", "auxiliary_head", "bounded", "choice", "data", "errors", "files"),
        *("gated_cell", "genotypes", "locks", "loggers", "lut", "metric", "network"),
        *("operators", "parent", "ranges", "recompute", "reference", "resource_names"),
        *("resources", "run_folder", "settings", "site", "spaces", "supernet", "task"),
        *("tensor_file", "trust", "weights_file", "zoo"),
    },
    "searching": {
        *("architecture", "channels", "choice", "data", "errors", "exporting", "files"),
        *("locks", "loggers", "lut", "metric", "operators", "ranges", "recompute"),
        *("resource_names", "resources", "run_folder", "settings", "space_settings"),
        *("spaces", "supernet", "task", "tensor_file", "training", "trust", "units"),
        *("weights_file", "zoo"),
    },
    "deploying": {
        *("architecture", "data", "errors", "exporting", "files", "lut", "profiling"),
        *("reference", "resource_names", "resources", "searching", "settings", "spaces"),
        *("task", "training", "trust", "units", "zoo"),
    },
    "api": {
        *("architecture", "data", "deploying", "errors", "locks", "lut", "metric", "picking"),
        *("profiling", "reference", "resources", "run_folder", "searching", "settings", "site"),
        *("resource_names", "spaces", "task", "training", "trust", "units", "zoo"),
    },
    "comparison": {
        *("architecture", "bounded", "errors", "lut", "metric", "resource_names", "searching"),
        *("spaces", "training", "units"),
    },
    "report": {
        *("architecture", "comparison", "errors", "log_records", "lut", "metric", "ranges"),
        *("resource_names", "resources", "searching", "spaces", "units"),
    },
}

ABSOLUTE_PATH = re.compile(r"(?<![\w.~/-])/(root|home|Users|tmp|work|mnt|opt)/\w")
REGISTRY = re.compile(r"pythonhosted\.|pypi\.org/(simple|pypi)|\.npmjs\.|deb\.debian\.")


@pytest.mark.skipif(os.name == "nt", reason="git may check links out as text files there")
@pytest.mark.parametrize(("package", "folder"), FOLDERS.items())
def test_link_and_folder_are_one(package: str, folder: str) -> None:
    link = ROOT.joinpath(*package.split("."))
    assert link.is_symlink()
    assert link.resolve() == (ROOT / folder).resolve()


def test_every_package_is_listed_for_the_build() -> None:
    """An unlisted package works in a checkout and is missing from the wheel."""
    found = {
        ".".join([package, *init.parent.relative_to(ROOT / folder).parts])
        for package, folder in {"goldnas": "goldnas", **FOLDERS}.items()
        for init in (ROOT / folder).glob("**/__init__.py")
    }
    assert found == set(SETTINGS["tool"]["setuptools"]["packages"])


def test_every_folder_of_modules_is_a_package() -> None:
    """A folder without __init__.py escapes the list above."""
    for folder in ("goldnas", *FOLDERS.values()):
        for module in (ROOT / folder).glob("**/*.py"):
            assert module.with_name("__init__.py").exists(), f"{module.parent} has none"


def test_version_is_the_same_everywhere() -> None:
    assert SETTINGS["project"]["version"] == goldnas.__version__
    assert f"\n## {goldnas.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def imported_names(source: str) -> set[str]:
    """Return the first-level names below goldnas that a source imports, anywhere in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "goldnas":
            modules |= {f"goldnas.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules.add(node.module)
    below = {name.split(".")[1] for name in modules if name.startswith("goldnas.")}
    return below - {"__version__"}


def imports_of(name: str) -> set[str]:
    place = ROOT / "goldnas" / name
    files = place.glob("**/*.py") if place.is_dir() else [place.with_suffix(".py")]
    return set().union(*(imported_names(file.read_text()) for file in files)) - {name}


def names_below_goldnas() -> list[str]:
    return sorted(
        path.stem
        for path in (ROOT / "goldnas").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    )


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_imports_point_one_way(name: str) -> None:
    assert imports_of(name) <= MAY_IMPORT[name]


def test_only_the_console_makes_texts_of_the_terminal() -> None:
    """There what comes from a file is made harmless, see tests/test_printed_text.py."""
    by = {file.name for file in (ROOT / "cli").glob("*.py") if "rich.text" in file.read_text()}
    assert by == {"console.py"}


@pytest.mark.parametrize("name", ["searching", "supernet", "training"])
def test_searching_knows_nothing_of_measuring(name: str) -> None:
    assert "profiling" not in imports_of(name)


def users_of(package: str) -> set[str]:
    return {name for name in names_below_goldnas() if package in imports_of(name)}


def test_only_the_command_line_knows_the_command_line() -> None:
    assert users_of("cli") == {"__main__"}


def test_only_the_front_door_and_the_command_line_know_the_front_door() -> None:
    assert users_of("api") == {"__init__", "cli"}


@pytest.mark.parametrize(
    "source",
    [
        "import goldnas.lut.table",
        "from goldnas.lut import x",
        "def f():\n from goldnas import lut",
    ],
)
def test_every_way_to_import_is_seen(source: str) -> None:
    assert imported_names(source) == {"lut"}


@pytest.mark.parametrize(
    "module",
    [
        "goldnas.cli.main",
        "goldnas.lut",
        "goldnas.architecture",
        "goldnas.site",
        "goldnas.units",
        "goldnas.settings",
        "goldnas.searching.config",
        "goldnas.training.config",
        "goldnas.deploying.config",
        "goldnas.profiling.config",
    ],
)
def test_tables_and_help_do_not_need_torch(module: str) -> None:
    heavy = {"torch", "tensorboard", "mlflow", "wandb"}
    code = f"import sys, {module}; sys.exit(' '.join({heavy} & sys.modules.keys()) or 0)"
    result = subprocess.run(
        [sys.executable, "-P", "-c", code], check=False, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


@pytest.fixture(scope="module")
def committed() -> list[Path]:
    """Return the files that git holds, or would on the next ``git add``."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    paths = (ROOT / name for name in names.split("\0") if name)
    return [path for path in paths if path.is_file() and not path.is_symlink()]


def test_no_path_or_registry_of_one_machine_is_committed(committed: list[Path]) -> None:
    """They work for one person, and tell the others about that person's machine."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in committed
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if ABSOLUTE_PATH.search(line) or REGISTRY.search(line)
    ]
    assert found == []


def test_no_large_file_is_committed(committed: list[Path]) -> None:
    large = [str(path.relative_to(ROOT)) for path in committed if path.stat().st_size > 2**20]
    assert large == []


@pytest.mark.parametrize("folder", ["root", "home/ann", "tmp/x"])
def test_a_path_of_one_machine_is_recognised(folder: str) -> None:
    assert ABSOLUTE_PATH.search(f'open("/{folder}/table.json")')
    assert not ABSOLUTE_PATH.search(f"https://example.com/{folder}/table.json")
