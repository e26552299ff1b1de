"""Lines of files that people and other programs write."""

import csv
import re

_DECIMAL_COMMA = re.compile(r"([+-]?[0-9]+),([0-9]+)")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class BadLineError(ValueError):
    """A line that does not follow the format.

    Args:
        line: Counted from 1.
        problem: The problem of the line.
    """

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line
        self.problem = problem


def read_number(text: str) -> float | None:
    """A number as people and programs write it; None for other text, such as ``1_000``."""
    return float(text) if _NUMBER.fullmatch(text) else None


def split_csv(text: str) -> list[tuple[int, list[str]]]:
    """The lines of a CSV file that are not blank, with their numbers, as cells.

    The separator is the comma, semicolon or tab, whichever is most frequent in the first line.
    If it is not the comma, numbers may have decimal commas.

    Raises:
        BadLineError: If the file is not CSV.
    """
    first = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    lines: list[tuple[int, list[str]]] = []
    reader = csv.reader(text.splitlines(), delimiter=delimiter, skipinitialspace=True)
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            if delimiter != ",":
                cells = [_with_point(cell) for cell in cells]
            if any(cells):
                lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise BadLineError(reader.line_num, str(error)) from None
    return lines


def _with_point(cell: str) -> str:
    number = _DECIMAL_COMMA.fullmatch(cell)
    return f"{number[1]}.{number[2]}" if number else cell
