"""How good networks are, as commands say it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from goldnas.metric import Metric


def cell(figure: "Metric | None") -> str:
    """A figure in a column that is named after it."""
    return "untrained" if figure is None else figure.digits


def heading(part: str, figures: "list[Metric | None]") -> str:
    """The head of such a column: ``test %``, or the name of a task's metric."""
    known = next((figure.kind.label for figure in figures if figure is not None), "%")
    return f"{part} {known}"
