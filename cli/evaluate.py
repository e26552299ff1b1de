"""``goldnas evaluate``: what the networks of a search do on pictures no search saw."""

import json
from pathlib import Path
from typing import Annotated

import typer

from goldnas.cli.console import errors_shown, out
from goldnas.cli.front import front_table


def evaluate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score every network of a search on the test set, with the weights it was saved with."""
    with errors_shown():
        from goldnas.search.run import SearchRun
        from goldnas.search.setup import dataset_of, device_named
        from goldnas.training.data import Normalisation, split_validation
        from goldnas.training.evaluate import accuracy

        opened = SearchRun.open(run)
        front, config = opened.front(), opened.config
        dataset = dataset_of(config)
        train, _ = split_validation(dataset.train, config.validation_fraction, config.seed)
        normalisation = Normalisation.of(train)
        device = device_named("auto")
        test = {
            network.fingerprint: None
            if network.accuracy is None  # it was not trained
            else accuracy(
                opened.network(network).to(device), dataset.test, normalisation, device
            )
            for network in front.networks
        }
        if as_json:
            import msgspec

            networks = msgspec.to_builtins(front.networks)
            rows = [n | {"test_accuracy": test[n["fingerprint"]]} for n in networks]
            typer.echo(json.dumps(rows, indent=2))
        else:
            out.print(front_table(front, test))
