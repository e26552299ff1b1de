"""Networks that are trained one after another, and what is said of each."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.text import Text

from goldnas.cli.console import err, say
from goldnas.cli.metric_text import things
from goldnas.cli.signals import signals_noted
from goldnas.cli.train_progress import training_shown
from goldnas.cli.train_results import Outcomes, Trained, print_result
from goldnas.errors import GoldnasError, RankError, StoppedError, WriteError
from goldnas.files import write_atomic
from goldnas.reference import is_function

if TYPE_CHECKING:
    from goldnas.training.distributed import Ranks
    from goldnas.training.start import Subject

Sources = Mapping[str, "Callable[[], Subject]"]
"""What reads each network, by its name."""


@dataclass(frozen=True)
class Wishes:
    """How the command line says to train, whichever network."""

    recipe: str
    seed: int
    given: dict[str, Any]
    """Settings, by their field, in place of those of the recipe; None for none."""
    options: str
    """What to keep as ``options.toml``."""
    out: Path | None = None
    """The folder, where it is not the usual one."""


def train_each(sources: Sources, wishes: Wishes, ranks: "Ranks") -> Outcomes:
    """Train one network after another; one that fails does not stop the others.

    Raises:
        StoppedError: If a signal ended it all.
        RankError: If the ranks lost each other.
    """
    outcomes: dict[str, Trained | str] = {}
    for name, source in sources.items():
        say(f"network {name}, {len(outcomes) + 1} of {len(sources)}")
        try:
            outcomes[name] = train_one(source, wishes, ranks)
        except StoppedError:
            raise
        except (GoldnasError, SystemExit) as error:
            # A rank that is not the first ends by SystemExit: with 2 where the first failed,
            # with more where a signal ended all.
            ended = isinstance(error, SystemExit) and error.code != GoldnasError.status
            if ended or not ranks.forgive():
                raise
            outcomes[name] = reason = one_line(error)
            if ranks.first:
                err.print(Text.assemble(("error: ", "bold red"), reason), soft_wrap=True)
    return outcomes


def one_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return " ".join(str(error).splitlines())


def _keep_options(folder: Path, options: str) -> None:
    """Keep those that a training began with, whichever go on with it."""
    path = folder / "options.toml"
    if not path.exists():
        write_atomic(path, options)


def train_one(source: "Callable[[], Subject]", wishes: Wishes, ranks: "Ranks") -> Trained:
    """Train one network, or go on, or find it done; and say what it came to.

    Raises:
        GoldnasError: If that is not possible, or a signal stopped it.
    """
    from goldnas.training.recipes import recipe_named
    from goldnas.training.result import TrainResult
    from goldnas.training.start import OF_CELLS, config_for, prepare

    subject = ranks.broadcast(source)
    config = ranks.on_all(
        lambda: config_for(subject, wishes.recipe, seed=wishes.seed, **wishes.given)
    )
    folder = wishes.out or subject.folder(config)
    prepared = prepare(subject, config, folder, ranks)
    if isinstance(prepared, TrainResult):
        say("trained already, with these settings")
        print_result(prepared, folder, config.data)
        return Trained(prepared, folder)
    config, held_out = prepared.config, prepared.data.validation
    ranks.broadcast(lambda: _keep_options(folder, wishes.options))
    say(
        f"network {subject.architecture.fingerprint}: {config.epochs} epochs of "
        f"{config.recipe} on {prepared.data.loader.num_images} {things(config.data)} of "
        f"{config.data}, {0 if held_out is None else len(held_out)} held out, "
        f"{prepared.data.loader.kept}; training on {prepared.device}"
    )
    own = is_function(config.data)
    for field, why in (
        ("augmentation", "data of your own"),
        ("cutout", "data of your own" if own else "small images"),
        ("label_smoothing", "a task of your own"),
        ("learning_rate", "a warm start"),
        *((name, "a network without cells") for name in OF_CELLS),
    ):
        value, of_recipe = getattr(config, field), getattr(recipe_named(config.recipe), field)
        if wishes.given.get(field) is None and value != of_recipe:
            said, instead = (v if isinstance(v, str) else f"{v:g}" for v in (value, of_recipe))
            say(f"{field.replace('_', ' ')} {said} for {why}, in place of {instead}")
    try:
        with training_shown(prepared), signals_noted(torchrun=ranks.by_torchrun) as signal:
            prepared.stop_signal = signal
            result = prepared.train()
    except (RankError, WriteError) as error:
        raise type(error)(f"{error}; then the same command goes on") from None
    print_result(result, folder, config.data)
    return Trained(result, folder)
