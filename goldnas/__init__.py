"""Hardware-aware neural architecture search: profile, search under a budget, export, verify.

The verbs are :func:`space`, :func:`profile`, :func:`search`, :func:`train`, :func:`shrink` and
:func:`export`; the nouns are what they pass on. Importing goldnas imports nothing else until a
name is used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from goldnas.api.exports import export as export
    from goldnas.api.networks import Network as Network
    from goldnas.api.networks import NetworkFront as NetworkFront
    from goldnas.api.networks import TrainedNetwork as TrainedNetwork
    from goldnas.api.picks import list_zoo as list_zoo
    from goldnas.api.picks import make_zoo_bundle as make_zoo_bundle
    from goldnas.api.picks import pick as pick
    from goldnas.api.profiles import make_bundle as make_bundle
    from goldnas.api.profiles import profile as profile
    from goldnas.api.profiles import profile_model as profile_model
    from goldnas.api.runs import Run as Run
    from goldnas.api.runs import load_run as load_run
    from goldnas.api.searches import search as search
    from goldnas.api.shrinks import shrink as shrink
    from goldnas.api.spaces import Feasibility as Feasibility
    from goldnas.api.spaces import feasible as feasible
    from goldnas.api.spaces import space as space
    from goldnas.api.tables import EnergyPrediction as EnergyPrediction
    from goldnas.api.tables import LatencyTable as LatencyTable
    from goldnas.api.tables import Prediction as Prediction
    from goldnas.api.trainings import train as train
    from goldnas.architecture import Architecture as Architecture
    from goldnas.choice import Choice as Choice
    from goldnas.choice import Width as Width
    from goldnas.choice import Zero as Zero
    from goldnas.deploying.config import ExportConfig as ExportConfig
    from goldnas.deploying.export import Exported as Exported
    from goldnas.errors import BusyError as BusyError
    from goldnas.errors import ConfigError as ConfigError
    from goldnas.errors import DataError as DataError
    from goldnas.errors import ExportError as ExportError
    from goldnas.errors import GoldnasError as GoldnasError
    from goldnas.errors import GoldnasWarning as GoldnasWarning
    from goldnas.errors import MeasurementError as MeasurementError
    from goldnas.errors import RunError as RunError
    from goldnas.errors import StoppedError as StoppedError
    from goldnas.errors import TableError as TableError
    from goldnas.errors import WriteError as WriteError
    from goldnas.exporting.budget_check import BudgetCheck as BudgetCheck
    from goldnas.picking.config import PickConfig as PickConfig
    from goldnas.picking.pick import Picked as Picked
    from goldnas.profiling.config import BundleConfig as BundleConfig
    from goldnas.profiling.config import ModelConfig as ModelConfig
    from goldnas.profiling.config import TableConfig as TableConfig
    from goldnas.searching.config import SearchConfig as SearchConfig
    from goldnas.searching.shrink_config import ShrinkConfig as ShrinkConfig
    from goldnas.task import Task as Task
    from goldnas.training.config import TrainConfig as TrainConfig

__version__ = "0.2.0"

_MODULES = {
    "api.exports": ("export",),
    "api.networks": ("Network", "NetworkFront", "TrainedNetwork"),
    "api.picks": ("list_zoo", "make_zoo_bundle", "pick"),
    "api.profiles": ("make_bundle", "profile", "profile_model"),
    "api.runs": ("Run", "load_run"),
    "api.searches": ("search",),
    "api.shrinks": ("shrink",),
    "api.spaces": ("Feasibility", "feasible", "space"),
    "api.tables": ("EnergyPrediction", "LatencyTable", "Prediction"),
    "api.trainings": ("train",),
    "architecture": ("Architecture",),
    "choice": ("Choice", "Width", "Zero"),
    "deploying.config": ("ExportConfig",),
    "deploying.export": ("Exported",),
    "errors": (
        "BusyError",
        "ConfigError",
        "DataError",
        "ExportError",
        "GoldnasError",
        "GoldnasWarning",
        "MeasurementError",
        "RunError",
        "StoppedError",
        "TableError",
        "WriteError",
    ),
    "exporting.budget_check": ("BudgetCheck",),
    "picking.config": ("PickConfig",),
    "picking.pick": ("Picked",),
    "profiling.config": ("BundleConfig", "ModelConfig", "TableConfig"),
    "searching.config": ("SearchConfig",),
    "searching.shrink_config": ("ShrinkConfig",),
    "task": ("Task",),
    "training.config": ("TrainConfig",),
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"goldnas.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
