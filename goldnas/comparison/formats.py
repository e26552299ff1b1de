"""A comparison as text, for people and for programs."""

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import goldnas
from goldnas.comparison.notes import write_notes
from goldnas.comparison.quantities import Cell, Sample
from goldnas.comparison.rows import Comparison, Row
from goldnas.comparison.verdict import write_verdicts
from goldnas.errors import count_of, in_one_line
from goldnas.metric import UNKNOWN
from goldnas.units import Unit, choose_unit

SCHEMA_VERSION = 1
"""Of the JSON form."""


@dataclass(frozen=True)
class Grid:
    """A comparison in words, as people read it."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    texts: int
    """Columns that hold text; figures follow."""
    notes: tuple[str, ...]


def make_grid(comparison: Comparison) -> Grid:
    """The text for people: one unit for each column, and no empty columns.

    A note lists the values that all rows lack.
    """
    rows = comparison.rows
    texts: dict[str, list[str]] = {
        "strategy": [row.strategy for row in rows],
        "settings": [row.settings for row in rows],
        "budgets": [row.budgets for row in rows],
        "seeds": ["" if row.ready_made else ", ".join(map(str, row.seeds)) for row in rows],
        "network": [row.network for row in rows],
        "trained": [_training(row) for row in rows],
    }
    if set(texts["network"]) == {"best"}:
        del texts["network"]
    texts = {header: cells for header, cells in texts.items() if any(cells)}
    figures: dict[str, list[str]] = {}
    lacking: dict[str, list[str]] = {}
    for quantity in comparison.quantities:
        cells = [row.cells[quantity.name] for row in rows]
        means = [abs(cell.mean) for cell in cells if isinstance(cell, Sample)]
        if not means:
            lacking.setdefault(quantity.missing, []).append(quantity.label)
        else:
            unit = choose_unit(quantity.units, max(means))
            told = quantity.label in unit[1]  # as FLOPs are in MFLOPs
            words = unit[1:] if told else (quantity.label, *unit[1:])
            header = ", ".join(filter(None, words))
            figures[header] = [_figure(cell, unit) for cell in cells]
    columns = texts | figures
    notes = (
        *write_verdicts(comparison),
        *write_notes(comparison),
        *(f"{', '.join(labels)}: {reason}" for reason, labels in lacking.items()),
    )
    return Grid(
        header=tuple(map(in_one_line, columns)),
        rows=tuple(tuple(map(in_one_line, row)) for row in zip(*columns.values(), strict=True)),
        texts=len(texts),
        notes=tuple(map(in_one_line, notes)),
    )


def as_markdown(comparison: Comparison) -> str:
    """A table for a README, and the notes as a list."""
    shown = make_grid(comparison)

    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = ["---"] * shown.texts + ["---:"] * (len(shown.header) - shown.texts)
    lines = [line(shown.header), line(rule), *map(line, shown.rows)]
    return "\n".join([*lines, "", *(f"- {note}" for note in shown.notes)]) + "\n"


def as_latex(comparison: Comparison) -> str:
    """A ``tabular`` with the rules of the package booktabs, and the notes below it."""
    shown = make_grid(comparison)
    alignment = "l" * shown.texts + "r" * (len(shown.header) - shown.texts)

    def line(cells: Sequence[str]) -> str:
        return f"{' & '.join(map(_latex, cells))} \\\\"

    table = "\n".join(
        [
            "% needs \\usepackage{booktabs}",
            f"\\begin{{tabular}}{{{alignment}}}",
            "\\toprule",
            line(shown.header),
            "\\midrule",
            *map(line, shown.rows),
            "\\bottomrule",
            "\\end{tabular}",
            *(f"\\par {{\\footnotesize {_latex(note)}.}}" for note in shown.notes),
            "",
        ]
    )
    if max(table) > "\xff":
        return f"% has letters that pdflatex may lack: lualatex and a font with them\n{table}"
    return table


def as_csv(comparison: Comparison) -> str:
    """One line for each row, in the units of the files; missing values are empty.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    columns = [q.name for q in comparison.quantities]
    lines = [
        _described(row)
        | {"search_seeds": " ".join(map(str, row.seeds))}
        | {
            f"{name}_{part}": value
            for name in columns
            for part, value in _parts(row.cells[name]).items()
        }
        | {
            "missing": "; ".join(
                f"{name}: {cell}" for name, cell in row.cells.items() if isinstance(cell, str)
            )
        }
        for row in comparison.rows
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: _no_formula(v) if isinstance(v, str) else v for name, v in line.items()}
        for line in lines
    )
    return text.getvalue()


def _no_formula(text: str) -> str:
    line = in_one_line(text)
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything, in the units of the files; plain values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "goldnas": goldnas.__version__,
        "data": comparison.data,
        **_compared_by(comparison),
        "rows": [
            _described(row)
            | {
                "searches": [
                    {
                        "folder": str(entry.run.path),
                        "seed": entry.run.config.seed,
                        "fingerprint": entry.fingerprint or None,
                        "training_seeds": [result.seed for result in entry.results],
                    }
                    for entry in row.entries
                ],
                "values": {
                    name: {"missing": cell}
                    if isinstance(cell, str)
                    else {"mean": cell.mean, "std": cell.std, "values": cell.values}
                    for name, cell in row.cells.items()
                },
            }
            for row in comparison.rows
        ],
        "verdicts": write_verdicts(comparison),
        "notes": write_notes(comparison),
    }


FORMATS: dict[str, Callable[[Comparison], str]] = {
    "markdown": as_markdown,
    "csv": as_csv,
    "latex": as_latex,
}
"""Besides ``table`` and JSON, which the command line prints itself."""


def _compared_by(comparison: Comparison) -> dict[str, Any]:
    """The reference of the hypervolumes; of a task of one's own, its metric."""
    if comparison.reference is None:
        metric = None if comparison.metric == UNKNOWN else asdict(comparison.metric)
        return {"task": comparison.runs[0].config.task, "metric": metric}
    amount, wrong = comparison.reference
    return {
        "reference": {
            "resource": comparison.resource,
            "amount": amount,
            "wrong_share": wrong,
        }
    }


def _described(row: Row) -> dict[str, Any]:
    training = row.training
    return {
        "strategy": row.strategy,
        "settings": row.settings,
        "budgets": row.budgets,
        "network": row.network,
        "recipe": training.recipe if training else None,
        "epochs": training.epochs if training else None,
        "warm": training.warm if training else None,
        "teacher": training.teacher if training else None,
        "trainings": row.trainings,
    }


def _parts(cell: Cell) -> dict[str, float | int | None]:
    if isinstance(cell, str):
        return {"mean": None, "std": None, "n": 0}
    return {"mean": cell.mean, "std": cell.std, "n": len(cell.values)}


def _training(row: Row) -> str:
    """How a row was trained, and how often where that is not once for each search."""
    if row.training is None:
        return ""
    often = (
        "" if row.trainings == len(row.entries) else f" ({count_of(row.trainings, 'training')})"
    )
    return f"{row.training}{often}"


def _figure(cell: Cell, unit: Unit) -> str:
    """A value with as many digits as mean something beside others of its kind."""
    if isinstance(cell, str):
        return cell
    mean = cell.mean / unit[0]
    if not unit[1]:  # of whichever size it is
        return _plain(mean, 4) + ("" if cell.std is None else f" ± {_plain(cell.std, 2)}")
    shares = unit[1] in ("%", "points")
    digits = 2 if shares or not mean else min(3, max(0, 3 - math.floor(math.log10(abs(mean)))))
    spread = "" if cell.std is None else f" ± {cell.std / unit[0]:.{digits}f}"
    return f"{mean:.{digits}f}{spread}"


def _plain(value: float, digits: int) -> str:
    """A number as people write it: a rank of 12,345 without a power of ten."""
    return f"{value:.0f}" if 10**digits <= abs(value) < 1e7 else f"{value:.{digits}g}"


_LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _latex(text: str) -> str:
    """Text in which no character is a command."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return escaped.replace("--", "-{}-")  # which LaTeX would join to a dash
