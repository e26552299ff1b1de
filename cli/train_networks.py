"""Networks that are trained one after another, and what is said of each."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from goldnas.cli.console import err, note, print_error, say, warn
from goldnas.cli.progress import bar, setback_line, warn_of_logger
from goldnas.cli.signals import signals_noted
from goldnas.cli.train_results import Outcomes, Trained, print_result
from goldnas.cli.wording import in_options
from goldnas.errors import GoldnasError, RankError, StoppedError, WriteError, count_of
from goldnas.reference import is_function, name_items

if TYPE_CHECKING:
    from goldnas.training.config import TrainConfig
    from goldnas.training.distributed import Ranks
    from goldnas.training.network_training import TrainingData
    from goldnas.training.start import NetworkLoop
    from goldnas.training.target import TrainTarget

Targets = Mapping[str, "Callable[[], TrainTarget]"]
"""What reads each network, by its name."""


@dataclass(frozen=True)
class TrainOptions:
    """How the command line says to train, whichever network."""

    given: dict[str, Any]
    """Settings, by their field, in place of those of the recipe."""
    text: str
    """What to keep as ``options.toml``."""
    out: Path | None = None
    """The folder, where it is not the usual one."""
    wait: bool = False
    """Whether to wait while another process trains in the same folder."""
    note: str = ""
    """What else to say when a training begins that did not begin before."""


def train_each(targets: Targets, options: TrainOptions, ranks: "Ranks") -> Outcomes:
    """Train one network after another; one that fails does not stop the others.

    Raises:
        StoppedError: If a signal ended it all.
        RankError: If the ranks lost each other.
    """
    outcomes: dict[str, Trained | str] = {}
    for name, find in targets.items():
        say(f"network {name}, {len(outcomes) + 1} of {len(targets)}")
        try:
            outcomes[name] = train_one(find, options, ranks)
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
                print_error(reason)
    return outcomes


def one_line(error: BaseException) -> str:
    """What an error says, in a line."""
    return in_options(" ".join(str(error).splitlines()))


def train_one(
    find: "Callable[[], TrainTarget]", options: TrainOptions, ranks: "Ranks"
) -> Trained:
    """Train one network, or continue its training, and show the result.

    Raises:
        GoldnasError: If that is not possible, or a signal stopped it.
    """
    from goldnas.api.trainings import train_target

    output = TrainOutput(options, ranks)
    try:
        with output:
            trained = train_target(
                ranks.broadcast(find),
                out=options.out,
                on_event=output.observe,
                stop_signal=output.stop_signal,
                texts={"options.toml": options.text},
                wait=options.wait,
                ranks=ranks,
                **options.given,
            )
    except (RankError, WriteError) as error:
        if not output.began:
            raise
        raise type(error)(f"{error}; then run the same command again to continue") from None
    print_result(trained.result, trained.path, trained.folder.config.data)
    return Trained(trained.result, trained.path)


class TrainOutput:
    """Watches one training; from its first step on signals stop it in good order."""

    def __init__(self, options: TrainOptions, ranks: "Ranks") -> None:
        self._options = options
        self._ranks = ranks
        self._stack = ExitStack()
        self._signal: Callable[[], int] = lambda: 0
        self._loop: NetworkLoop | None = None
        self._advance: Callable[[], None] = lambda: None
        self.began = False
        """Whether there is a folder to go on from."""

    def __enter__(self) -> "TrainOutput":
        return self

    def __exit__(self, *exception: Any) -> None:
        self._stack.close()

    def stop_signal(self) -> int:
        """The number of the signal that came, 0 for none."""
        return self._signal()

    def observe(self, event: str, fields: dict[str, Any]) -> None:
        """Say what there is to say of an event."""
        if event == "done":
            say("trained already, with these settings")
        if event == "begin":
            self._begin(fields["loop"])
        if event == "waiting" and self._ranks.first:
            warn(fields["text"])
        if event == "note" and self._ranks.first:
            note(in_options(fields["text"]))
        if self._loop is None or not self._ranks.first:
            return
        if event in ("step", "setback"):
            self._advance()
        warn_of_logger(self._loop, event, fields)
        line = _line(self._loop, event, fields) or setback_line(self._loop, event, fields)
        if line is not None:
            note(line)

    def _begin(self, loop: "NetworkLoop") -> None:
        self.began = True
        _print_beginning(loop, self._options.given)
        if self._options.note and not loop.step:
            note(self._options.note)
        torchrun = self._ranks.by_torchrun
        self._signal = self._stack.enter_context(signals_noted(torchrun=torchrun))
        if self._ranks.first and err.is_terminal:
            self._advance = self._stack.enter_context(_bar(loop))
        self._loop = loop


def _print_beginning(loop: "NetworkLoop", given: Mapping[str, Any]) -> None:
    """Say what is trained on what, and which settings are not as the recipe has them."""
    from goldnas.training.recipes import recipe_named
    from goldnas.training.start import OF_CELLS

    config: TrainConfig = loop.config  # type: ignore[assignment]  # of every training
    data: TrainingData = loop.data  # type: ignore[assignment]
    fingerprint = loop.strategy.architecture.fingerprint  # type: ignore[attr-defined]
    held_out = 0 if data.validation is None else len(data.validation)
    say(
        f"network {fingerprint}: {count_of(config.epochs, 'epoch')} of {config.recipe} on "
        f"{data.loader.num_images} {name_items(config.data)} of {config.data}, {held_out} "
        f"held out, {data.loader.kept}; training on {loop.device}"
    )
    own = is_function(config.data)
    for field, why in (
        ("augmentation", "data of your own"),
        ("cutout", "data of your own" if own else "small images"),
        ("label_smoothing", "a task of your own"),
        ("learning_rate", "a warm start"),
        ("body_rate", "an unknown classifier" if config.weights else "fresh weights"),
        *((name, "a network without cells") for name in OF_CELLS),
    ):
        value, of_recipe = getattr(config, field), getattr(recipe_named(config.recipe), field)
        if given.get(field) is None and value != of_recipe:
            texts = (v if isinstance(v, str) else f"{v:g}" for v in (value, of_recipe))
            shown, instead = texts
            say(f"{field.replace('_', ' ')} {shown} for {why}, in place of {instead}")


@contextmanager
def _bar(loop: "NetworkLoop") -> "Iterator[Callable[[], None]]":
    """A bar with the time left; what it gives moves it to where the loop is."""
    strategy: Any = loop.strategy
    with bar(strategy.architecture.fingerprint, "steps", over_s=60) as progress:
        task = progress.add_task("", total=strategy.total_steps, completed=loop.step)
        yield lambda: progress.update(task, completed=loop.step)


def _line(loop: "NetworkLoop", event: str, fields: dict[str, Any]) -> str | None:
    """What a training says of an event, if anything."""
    if event != "epoch":
        return None
    validation = ""
    if (accuracy := fields.get("validation_accuracy")) is not None:
        validation = f"validation {100 * accuracy:.2f} %, "
    if (metric := fields.get("validation_metric")) is not None:
        validation = f"validation {loop.data.task.name} {metric:.4g}, "
    return (
        f"epoch {fields['epoch'] + 1}/{loop.config.epochs}: loss {fields['loss']:.3f}, "
        f"{validation}learning rate {fields['learning_rate']:.2g}, "
        f"{fields['seconds']:.0f} s"
    )
