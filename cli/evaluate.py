"""``goldnas evaluate``: what networks do on data that they did not learn from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli.console import errors_shown, out, print_json, say
from goldnas.cli.options import JsonOption, OfFileOption

if TYPE_CHECKING:
    from goldnas.metric import Metric


def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a search, or of a training.")
    ],
    space_: OfFileOption = None,
    as_json: JsonOption = False,
) -> None:
    """Score networks on the test set, with the weights they were saved with.

    All networks on the front of a search, or the one network of a training.

    Examples:
        goldnas evaluate runs/a
        goldnas evaluate runs/a/trained/best --json
    """
    with errors_shown():
        from goldnas.run_folder import is_training

        if is_training(run):
            _evaluate_training(run, space_ or "", as_json)
            return
        from goldnas.searching.folder import SearchRun
        from goldnas.training.machine import choose_device
        from goldnas.training.split_data import load_split

        opened = SearchRun.open(run)
        front = opened.front()
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


def _evaluate_training(path: Path, space: str, as_json: bool) -> None:
    """Score the network of a training again, and say so beside what it scored at its end."""
    import msgspec

    from goldnas.deploying.source import find_search_around
    from goldnas.training.folder import TrainingFolder
    from goldnas.training.machine import choose_device
    from goldnas.training.split_data import load_split

    folder = TrainingFolder.open(path)
    find_search_around(path, space)
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
