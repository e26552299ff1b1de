"""``goldnas pick``: the best ready-made network for a device."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from goldnas.cli.console import as_text, err, errors_shown, note, out, print_json, say, warn
from goldnas.cli.drawing import PLOTS, check_drawing, write_drawing
from goldnas.cli.options import ForceOption, JsonOption, WaitOption
from goldnas.cli.progress import visits_shown
from goldnas.cli.struct_options import Options, with_options
from goldnas.cli.wording import command, in_options, join_words
from goldnas.errors import ConfigError, Status, count_of
from goldnas.picking.config import PickConfig
from goldnas.settings import check_given_once, check_known

if TYPE_CHECKING:
    from goldnas.picking.options import Option
    from goldnas.picking.pick import Picked
    from goldnas.zoo.file import Measured, Row

_OPTIONS = Options(PickConfig, panels={"budgets": "Budgets"}, defaults={"device": "cpu"})


@with_options(_OPTIONS)
def pick(
    ctx: typer.Context,
    out_: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE.json",
            help="Keep the measurements in this file. Networks that it has already are not "
            "measured again, so you can run an interrupted command again, and another "
            "budget takes less time.",
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="PLOT",
            help="Also draw accuracy against latency of all measured networks: .svg, .png "
            "or .pdf.",
        ),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Choose among the networks in this file, from --out, and measure nothing. "
            "No device is needed.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip",
            help="Write a program that measures the networks on a device that goldnas "
            "cannot reach. goldnas lut import turns its results into a file for "
            "--measured.",
        ),
    ] = None,
    list_: Annotated[
        bool,
        typer.Option(
            "--list", help="Show the networks of the zoos and their accuracies, and exit."
        ),
    ] = False,
    wait: WaitOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Find the most accurate ready-made network that keeps the budgets on a device.

    goldnas measures whole networks, a few at a time. After each few, it leaves out the networks
    that cannot be the answer any more. No pretrained weights are needed. With --loop, 10ms is
    p50 of single calls in that loop, and 10ms:p99 is p99.

    Examples:
        goldnas pick --budget 10ms
        goldnas pick --budget 10ms --budget 5Mparams --size 160,192,224 --out lut/zoo.json
        goldnas pick --device ssh://pi@pi5 --loop paced:15/s --budget 50ms:p99 --out pi.json
        goldnas pick --zoo models/ --accuracies own.csv --budget 20ms --precision fp32,int8
    """
    interrupted = "interrupted; nothing was kept"
    if out_ is not None:
        interrupted = (
            f"interrupted; run the command again to continue: {out_} keeps the measurements"
        )
    with errors_shown(if_interrupted=lambda: interrupted):
        given = _OPTIONS.given(ctx, settings)
        check_given_once(given)
        others = {"out": out_, "measured": measured, "plot": plot, "wait": wait or None}
        others |= {"force": force or None}
        given_besides = [name for name, value in others.items() if value is not None]
        if list_:
            own = ["bundle"] * (bundle is not None)
            check_known([*own, *given_besides, *given], ["zoo"], "`list`")
            _list(given.get("zoo", ("torchvision",)), as_json=as_json)
            return
        if bundle is not None:
            check_known(given_besides, (), "a bundle")
            _make_bundle(bundle, given, as_json=as_json)
            return
        if plot is None and force:
            raise ConfigError("`force` replaces a `plot`, and there is none: leave it out")
        if plot is not None:
            check_drawing(plot, PLOTS, command="pick", force=force, setting="plot")
        from goldnas.api.picks import pick as pick_ready_made

        with ExitStack() as stack:
            if err.is_terminal:  # elsewhere a line for each network is enough
                given["on_progress"] = stack.enter_context(visits_shown())
            found = pick_ready_made(
                out=out_,
                measured=measured,
                wait=wait,
                on_look=_note_look,
                on_row=_note_row,
                on_warning=warn,
                **given,
            )
        if plot is not None:
            from goldnas.picking.plot import draw_pick

            write_drawing(plot, lambda: draw_pick(found), command="pick")
        if as_json:
            print_json(_as_json(found))
        else:
            _print(found)
        if measured is not None:
            held = sum(len(part.rows) for part in found.zoo.parts)
            note(
                f"chosen among {len(found.options)} of the {count_of(held, 'network')} in "
                f"{measured}; nothing was measured"
            )
        for written in filter(None, (out_, plot)):
            note(f"wrote {written}")
    if found.choice is None and found.budgets:
        raise typer.Exit(Status.FOUND)


def _note_look(done: int, total: int) -> None:
    if done and done % 50 == 0:
        note(f"looked at {done} of {total} networks")


def _note_row(precision: str, row: "Row") -> None:
    from goldnas.zoo.file import Measured

    if not isinstance(row, Measured):
        told = row.error
    elif row.loop:
        quantiles = row.loop.quantiles.items()
        told = ", ".join(f"{name} {one.latency_us / 1000:.4g} ms" for name, one in quantiles)
    else:
        told = (
            f"{row.latency_us / 1000:.4g} ms +-{100 * row.interval_us / row.latency_us:.1f} %"
        )
        told += "" if row.complete else ", over the budget"
    note(f"{row.key} {precision}: {told}")


def _make_bundle(out: Path, given: dict[str, Any], *, as_json: bool) -> None:
    """A file that measures networks where it is carried to."""
    from goldnas.api.picks import make_zoo_bundle

    made, left_out = make_zoo_bundle(out, on_look=_note_look, on_warning=warn, **given)
    size_bytes = out.stat().st_size
    for name, why in left_out.items():
        note(in_options(f"left out {name}: {why}"))
    say(
        f"wrote {out}: {count_of(len(made.candidates), 'network')}, {size_bytes / 1e6:.1f} MB. "
        f"Copy it to the device, run {join_words('python', Path(out.name))} there, copy "
        "results.zip back, then: "
        f"{command('lut', 'import', 'results.zip', '--out', 'lut/device-zoo.json')}"
    )
    if as_json:
        networks = [candidate.key for candidate in made.candidates]
        print_json({"bundle": out, "networks": networks, "size_bytes": size_bytes})


def _list(zoos: tuple[str, ...], *, as_json: bool) -> None:
    from goldnas.api.picks import list_zoo

    listed = [network for zoo in zoos for network in list_zoo(zoo)]
    if as_json:
        print_json({"networks": [{"name": n.name, "weights": list(n.weights)} for n in listed]})
        return
    for network in listed:
        told = "; ".join(
            f"{w.name} {w.accuracy_percent:g} % at {w.image_size}" for w in network.weights
        )
        say(f"{network.name}: {told}" if told else network.name)


def _print(found: "Picked") -> None:
    from rich.table import Table

    table = Table("network", title="front of accuracy and latency, of the measured networks")
    known = "+-" if found.zoo.loop.is_hot else "known as, ms"
    for header in ("pixels", "format", "accuracy", "ms", known, "MFLOPs", "Mparams", ""):
        table.add_column(header, justify="right", no_wrap=True)
    for option in found.front:
        table.add_row(*map(as_text, _cells(found, option)))
    if found.front:
        out.print(table)
    budgets = ", ".join(budget.text for budget in found.budgets)
    if found.choice is not None and budgets:
        say(f"within {budgets}: {_describe(found, found.choice)}")
    elif budgets:
        say(f"no network is within {budgets}{_describe_fastest(found)}")
    for option in found.runners_up:
        say(f"within the noise of the budget: {_describe(found, option)}")
    if not found.zoo.loop.is_hot:
        say(f"latencies are {found.latency}")
    _print_unmeasured(found)
    if any(option.candidate.accuracy.source == "estimated" for option in found.front):
        say("~ is an estimate: the published accuracy is for images of another size")
    if found.choice is not None and found.choice.precision != "fp32":
        say(
            "accuracies are for fp32; goldnas export says how much accuracy "
            f"{found.choice.precision} costs"
        )
    if found.choice is not None and "/" in found.choice.candidate.network:
        network = found.choice.candidate.network.removeprefix("torchvision/")
        size = found.choice.candidate.image_size
        say(
            "train it on your images with: "
            f"{command('train', f'zoo:{network}', '--data', 'DATA', '--image-size', size)}"
        )


def _print_unmeasured(found: "Picked") -> None:
    from goldnas.picking.options import describe_left_out

    without, total = found.unmeasured, len(found.options)
    failed = [o for o in found.options if getattr(found.row(o), "error", None)]
    if without.total:
        reasons = [
            (without.less_accurate, "less accurate than the choice"),
            (without.too_slow, "too slow, judged by the measured networks"),
            (without.over_other_limits, "over a budget of FLOPs or parameters"),
        ]
        told = "; ".join(f"{number} {why}" for number, why in reasons if number)
        measured = total - without.total - len(failed)
        names = len({option.candidate.network for option in found.options})
        what = "networks"
        if names < total:
            what = f"candidates ({names} networks, by image size and number format)"
        say(f"{measured} of {total} {what} were measured. Of the others: {told}")
    if failed:
        error = getattr(found.row(failed[0]), "error", "")
        warn(f"{count_of(len(failed), 'network')} failed; {failed[0].candidate.key}: {error}")
    if left_out := describe_left_out(found.left_out):
        note(in_options(left_out))


def _describe_fastest(found: "Picked") -> str:
    from goldnas.zoo.file import Measured

    rows = [
        (row.latency_us, o) for o in found.options if isinstance(row := found.row(o), Measured)
    ]
    if not rows:
        return ""
    _, fastest = min(rows, key=lambda one: one[0])
    return f"; the fastest measured network is {_describe(found, fastest)}"


def _describe(found: "Picked", option: "Option") -> str:
    from goldnas.zoo.file import Measured

    candidate, row = option.candidate, found.row(option)
    assert isinstance(row, Measured)
    about = "~" if candidate.accuracy.source == "estimated" else ""
    weights = f", weights {candidate.accuracy.weights}" if candidate.accuracy.weights else ""
    return (
        f"{candidate.network} in {option.precision} for {candidate.image_size} pixels, "
        f"{about}{candidate.accuracy.percent:.1f} %{weights}, {row.latency_us / 1000:.4g} ms"
        f"{', known as ' if row.loop else ' +-'}{_describe_interval(found, row)}"
        f"{' ms' if row.loop else ''}"
    )


def _describe_interval(found: "Picked", row: "Measured") -> str:
    """How well a latency is known."""
    if not row.loop:
        return f"{100 * row.interval_us / row.latency_us:.1f} %"
    low, high = (us / 1000 for us in found.limits_us(row))
    return f"{low:.4g} to {high:.4g}"


def _cells(found: "Picked", option: "Option") -> list[str]:
    from goldnas.zoo.file import Measured

    candidate, row = option.candidate, found.row(option)
    assert isinstance(row, Measured)
    about = "~" if candidate.accuracy.source == "estimated" else ""
    millions = [
        "" if amount is None else f"{amount / 1e6:.4g}"
        for amount in (candidate.flops, candidate.parameters)
    ]
    return [
        candidate.network,
        str(candidate.image_size),
        option.precision,
        f"{about}{candidate.accuracy.percent:.1f} %",
        f"{row.latency_us / 1000:.4g}",
        _describe_interval(found, row),
        *millions,
        "<- choice" if option == found.choice else "",
    ]


def _as_json(found: "Picked") -> dict[str, Any]:
    def describe(option: "Option") -> dict[str, Any]:
        return {"precision": option.precision, "network": found.row(option)}

    return {
        "budgets": [budget.text for budget in found.budgets],
        "choice": None if found.choice is None else describe(found.choice),
        "front": [describe(option) for option in found.front],
        "within_noise": [describe(option) for option in found.runners_up],
        "measured": [describe(option) for option in found.options if found.row(option)],
        "unmeasured": {
            "too_slow": found.unmeasured.too_slow,
            "less_accurate": found.unmeasured.less_accurate,
            "over_other_limits": found.unmeasured.over_other_limits,
        },
        "left_out": found.left_out,
        "latency": found.latency,
        "conditions": [part.conditions for part in found.zoo.parts],
        "seconds": round(found.seconds, 1),
    }
