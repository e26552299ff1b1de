"""The solver of integer programs: HiGHS, as scipy has it."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from scipy.optimize import OptimizeResult, milp


def solve(*arguments: Any, **settings: Any) -> OptimizeResult:
    """:func:`scipy.optimize.milp`, which here leaves stdout alone."""
    with _stdout_is_stderr():
        return milp(*arguments, **settings)


@contextmanager
def _stdout_is_stderr() -> Iterator[None]:
    """HiGHS 1.12 prints a line now and then, though it is told to print nothing.

    The stdout of a command is its JSON.
    """
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        before = os.dup(1)
    except OSError:  # there is no stdout
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        _flush()
        os.dup2(before, 1)
        os.close(before)


def _flush() -> None:
    """Let the libraries of the process write what they have printed."""
    try:
        ctypes.CDLL(None).fflush(None)
    except (OSError, AttributeError, TypeError):  # a system without one C library for all
        return
