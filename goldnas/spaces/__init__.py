"""Search spaces by name.

This package imports every module of the folder, so that their spaces are registered.
"""

import importlib
import pkgutil

from goldnas.spaces.cell_gate import CellGate
from goldnas.spaces.choice_space import ChoiceSpace
from goldnas.spaces.gold import GoldSpace
from goldnas.spaces.making import find_space, make_cell_space, make_space
from goldnas.spaces.reference import FUNCTIONS, import_space, is_reference
from goldnas.spaces.registry import SMALL, SPACES, STRINGS, register_cells, register_function
from goldnas.spaces.space import Combination, Gate, Plan, SearchSpace
from goldnas.spaces.variants import DARTS_OPERATORS, GoldExtendedSpace, GoldImageNetSpace

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)

__all__ = [
    "DARTS_OPERATORS",
    "FUNCTIONS",
    "SMALL",
    "SPACES",
    "STRINGS",
    "CellGate",
    "ChoiceSpace",
    "Combination",
    "Gate",
    "GoldExtendedSpace",
    "GoldImageNetSpace",
    "GoldSpace",
    "Plan",
    "SearchSpace",
    "find_space",
    "import_space",
    "is_reference",
    "make_cell_space",
    "make_space",
    "register_cells",
    "register_function",
]
