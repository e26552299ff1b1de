"""``goldnas evaluate``: what networks do on pictures that they did not learn from."""

import json
from pathlib import Path
from typing import Annotated

import typer

from goldnas.cli.console import errors_shown, out, say
from goldnas.cli.front import front_table


def evaluate(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of a search, or of a training.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Score networks on the test set, with the weights they were saved with.

    Of a search every network of its front, of a training the one.
    """
    with errors_shown():
        from goldnas.run_folder import is_training

        if is_training(run):
            _evaluate_training(run, as_json)
            return
        from goldnas.search.run import SearchRun
        from goldnas.search.setup import check_pictures, dataset_of, device_named
        from goldnas.spaces import space_of
        from goldnas.training.data import Normalisation, split_validation
        from goldnas.training.evaluate import accuracy

        opened = SearchRun.open(run)
        front, config = opened.front(), opened.config
        dataset = dataset_of(config)
        for network in front.networks:
            check_pictures(
                space_of(opened.architecture(network)),
                dataset.test,
                network=network.fingerprint,
                data=config.data,
            )
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


def _evaluate_training(path: Path, as_json: bool) -> None:
    """Score the network of a training again, and say so beside what it scored at its end."""
    import msgspec

    from goldnas.retraining.folder import TrainingFolder
    from goldnas.search.setup import check_pictures, device_named
    from goldnas.spaces import space_of
    from goldnas.training.data import Normalisation, split_validation
    from goldnas.training.datasets import load_dataset
    from goldnas.training.evaluate import accuracy

    folder = TrainingFolder.open(path)
    network, result, config = folder.network(), folder.result(), folder.config
    dataset = load_dataset(
        config.data,
        data_dir=Path(config.data_dir) if config.data_dir else None,
        image_size=config.image_size,
    )
    architecture = folder.architecture
    check_pictures(
        space_of(architecture),
        dataset.test,
        network=architecture.fingerprint,
        data=config.data,
    )
    train = dataset.train
    if config.validation_fraction > 0:
        train, _ = split_validation(train, config.validation_fraction, config.split_seed)
    device = device_named("auto")
    test = accuracy(network.to(device), dataset.test, Normalisation.of(train), device)
    assert result is not None  # or there would be no network
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(result) | {"test_accuracy": test}, indent=2))
        return
    say(
        f"network {result.fingerprint}: {100 * test:.2f} % of the test set right; "
        f"{100 * result.test_accuracy:.2f} % at the end of its training"
    )
