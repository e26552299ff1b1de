"""``goldnas profile``: measure a device.

Four programs are behind the command: a table, tables of several devices, a whole model, a
bundle.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from goldnas.cli.console import errors_shown, print_json, say, warn
from goldnas.cli.options import JsonOption, WaitOption
from goldnas.cli.progress import visits_shown
from goldnas.cli.struct_options import Options, with_options
from goldnas.cli.wording import command, join_words
from goldnas.errors import ConfigError
from goldnas.profiling.config import BundleConfig, ModelConfig, TableConfig
from goldnas.settings import check_given_once, check_known
from goldnas.space_settings import WholeSpaceSettings

if TYPE_CHECKING:
    from goldnas.spaces import SearchSpace

_MODEL = "A whole model"

_OPTIONS = Options(TableConfig, ModelConfig, WholeSpaceSettings, defaults={"device": "cpu"})


@with_options(_OPTIONS)
def profile(
    ctx: typer.Context,
    out_: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Latency table to write, for example lut/cpu.json. Rows that it has "
            "already are kept, so you can run an interrupted command again. With "
            "several --batch, each batch size gets its own table: lut/t4-b1.json and "
            "lut/t4-b64.json.",
        ),
    ] = None,
    devices: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Measure several devices at once. The file has a TOML table for each, with "
            "device, python, threads, cores, provider and so on. --out is then a folder.",
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.zip",
            help="Write a program that measures the operators on a device that goldnas "
            "cannot reach, and measure nothing here. goldnas lut import turns its "
            "results into a table.",
        ),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="Measure this model instead of operators, and print where its time goes.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    tables: Annotated[
        list[Path] | None,
        typer.Option(
            "--latency-lut",
            metavar="TABLE",
            help="Latency table to compare with, if goldnas exported the model. Repeat for "
            "several tables.",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
    **settings: Any,
) -> None:
    """Measure every operator of a search space on a device, and write a latency table.

    goldnas measures each operator within small networks, in rounds over all of them, until its
    latency is known to 1 %. Then it measures random whole networks of the space, and fits the
    rows to them. With --model, it measures an ONNX file instead.

    Examples:
        goldnas profile --cells 14 --channels 36 --input 3x32x32 --out lut/cpu.json
        goldnas profile --device cuda --batch 1,64 --precision fp16 --out lut/t4.json
        goldnas profile --device ssh://pi@raspberry --threads 4 --out lut/pi5.json
        goldnas profile --model net.onnx --latency-lut lut/cpu.json
    """
    own = {"out": out_, "devices": devices, "bundle": bundle, "model": model, "tables": tables}
    interrupted = "interrupted; run the command again to continue"
    with errors_shown(if_interrupted=lambda: interrupted):
        given = _OPTIONS.given(ctx, settings)
        check_given_once(given)
        batches = given.get("batch", (1,))
        if wait and (out_ is None or model is not None or bundle is not None):
            raise ConfigError("`wait` is for a latency table: leave it out, or give `out`")
        given |= {name: value for name, value in own.items() if value is not None}
        if len(batches) == 1 and "batch" in given:
            (given["batch"],) = batches
        if len(batches) > 1 and (out_ is None or devices is not None):
            raise ConfigError(
                f"`batch={batches}`: several batch sizes need `out`, a table for each, without "
                "`devices`"
            )
        if model is not None:
            how = _take(given, "--model", ModelConfig, "model", "tables", "space")
            _profile_model(how, as_json)
        elif bundle is not None:
            how = _take(given, "--bundle", BundleConfig, "bundle", *_OF_A_SPACE)
            _make_bundle(how, as_json)
        elif out_ is None:
            raise ConfigError(
                "give --out FILE for a latency table, --model FILE.onnx, or --bundle FILE.zip"
            )
        elif devices is not None:
            whose = f"--devices ({devices} has the settings of each device)"
            _take(given, whose, None, "devices", "out", *_OF_ALL_DEVICES)
            from goldnas.cli.profile_fleet import profile_fleet

            common = {name: settings[name] for name in _OF_ALL_DEVICES if name in given}
            profile_fleet(devices, out_, common, wait=wait, as_json=as_json)
        else:
            how = _take(given, "a latency table", TableConfig, "out", *_OF_A_SPACE)
            if len(batches) == 1:
                interrupted += f": {out_}.visits keeps the measurements"
            _profile_tables(how, tables_of(out_, batches), wait, as_json)


_OF_A_SPACE = WholeSpaceSettings.__struct_fields__
_OF_ALL_DEVICES = ("networks", "target_percent", *_OF_A_SPACE)


def tables_of(out: Path, batches: Sequence[int]) -> dict[int, Path]:
    """The table of each batch: the file itself, or of several ``t4-b64.json`` beside it."""
    if len(batches) == 1:
        return {batches[0]: out}
    return {batch: out.with_stem(f"{out.stem}-b{batch}") for batch in batches}


def _take(
    given: Mapping[str, Any], what: str, struct: type[msgspec.Struct] | None, *others: str
) -> dict[str, Any]:
    """What was given, all of which has to be for this program.

    Args:
        given: Settings and arguments.
        what: Is measured.
        struct: Its settings.
        others: Its arguments.

    Raises:
        ConfigError: If something else is given: it would have no effect.
    """
    known = {*others, *(struct.__struct_fields__ if struct is not None else ())}
    check_known(given, known, what)
    return dict(given)


def _pop_space(given: dict[str, Any]) -> "SearchSpace":
    """The space that the options describe."""
    from goldnas.api.spaces import space

    name = given.pop("space", "gold")
    named = {key: given.pop(key) for key in _OF_A_SPACE if key in given and key != "settings"}
    return space(name, **given.pop("settings", {}), **named)


def _profile_tables(
    given: dict[str, Any], tables: Mapping[int, Path], wait: bool, as_json: bool
) -> None:
    """A table of one device for each batch."""
    from goldnas.api.profiles import profile as profile_space
    from goldnas.cli.profile_table import describe_filled, show_filled

    space = _pop_space(given)
    written = []
    for batch, path in tables.items():
        with visits_shown() as on_progress:
            how = given | {"out": path, "batch": batch, "wait": wait}
            table = profile_space(space, on_progress=on_progress, on_warning=warn, **how)
        show_filled(table, space)
        written.append(describe_filled(table, space))
    if as_json:
        print_json({"tables": written})


def _profile_model(given: dict[str, Any], as_json: bool) -> None:
    """Any ONNX file, and which of its nodes take the time."""
    from goldnas.api.profiles import profile_model
    from goldnas.api.together import name_space
    from goldnas.cli.profile_model import print_profile

    name_space(given.pop("space", ""))
    with visits_shown() as on_progress:
        found = profile_model(on_progress=on_progress, on_warning=warn, **given)
    print_profile(found, as_json=as_json)


def _make_bundle(given: dict[str, Any], as_json: bool) -> None:
    """A file that measures where it is carried to."""
    from goldnas.api.profiles import make_bundle

    out: Path = given.pop("bundle")
    made = make_bundle(_pop_space(given), out, on_warning=warn, **given)
    size_bytes = out.stat().st_size
    say(
        f"wrote {out}: {len(made.models)} models, {size_bytes / 1e6:.1f} MB. Copy it to the "
        f"device, run {join_words('python', Path(out.name))} there, copy results.zip back, "
        f"then: {command('lut', 'import', 'results.zip', '--out', 'lut/device.json')}"
    )
    if as_json:
        print_json({"bundle": out, "models": len(made.models), "size_bytes": size_bytes})
