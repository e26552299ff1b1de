"""``goldnas evaluate``: score networks on data that they did not learn from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli.console import errors_shown, out, print_json, say
from goldnas.cli.options import JsonOption, OfRunOption, TrustOption

if TYPE_CHECKING:
    from goldnas.metric import Metric
    from goldnas.training.folder import TrainingFolder


def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a search, or of a training.")
    ],
    space_: OfRunOption = None,
    trust: TrustOption = False,
    as_json: JsonOption = False,
) -> None:
    """Score networks on the test set, with their saved weights.

    Scores all networks on the front of a search, or the network of a training.

    Examples:
        goldnas evaluate runs/a
        goldnas evaluate runs/a/trained/best --json
    """
    with errors_shown():
        from goldnas.api.runs import trust_again
        from goldnas.run_folder import is_training
        from goldnas.searching.folder import SearchRun
        from goldnas.training.folder import TrainingFolder
        from goldnas.training.machine import choose_device
        from goldnas.training.split_data import load_split

        opened = TrainingFolder.open(run) if is_training(run) else SearchRun.open(run)
        trust_again(opened, space=space_, trust=trust)
        if isinstance(opened, TrainingFolder):
            _evaluate_training(opened, as_json)
            return
        front = opened.front()
        opened.admit("space", "data", "task")
        images = load_split(opened.config, map(opened.architecture, front.networks))
        device = choose_device("auto")
        test = {
            network.fingerprint: None
            if network.figure is None  # it was not trained
            else images.score_test(opened.network(network), device)
            for network in front.networks
        }
        if as_json:
            import msgspec

            networks = msgspec.to_builtins(front.networks)
            key = images.test_key
            rows = [n | {key: _plain(test[n["fingerprint"]], key)} for n in networks]
            print_json({"networks": rows})
        else:
            from goldnas.cli.front import front_table

            out.print(front_table(front, test))


def _evaluate_training(folder: "TrainingFolder", as_json: bool) -> None:
    """Score the network of a training again, and say so beside what it scored at its end."""
    import msgspec

    from goldnas.training.machine import choose_device
    from goldnas.training.split_data import load_split

    folder.admit("space", "data", "task")
    network, result = folder.network(), folder.result()
    images = load_split(folder.config, [folder.architecture])
    test = images.score_test(network, choose_device("auto"))
    assert result is not None  # or there would be no network
    if as_json:
        key = images.test_key
        row = msgspec.to_builtins(result) | {key: _plain(test, key)}
        print_json({"networks": [row]})
        return
    say(
        f"network {result.fingerprint}: {test.on('the test set')}; "
        f"{result.test.text} at the end of its training"
    )


def _plain(figure: "Metric | None", key: str) -> Any:
    """A figure as it stands under a key of a file."""
    import msgspec

    if figure is None:
        return None
    return figure.value if key == "test_accuracy" else msgspec.to_builtins(figure)
