"""Options of a command made from a struct of settings; values back to what the struct takes.

Type, default, help and bounds are those of the struct, so that nothing is said twice.
"""

import inspect
import json
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
import typer

from goldnas.cli import completion
from goldnas.cli.wording import in_options, option
from goldnas.errors import ConfigError
from goldnas.settings import NOT_NEGATIVE, POSITIVE, THREADS, WORKERS, describe_fields

Convert = Callable[[Any], Any]


class Options:
    """The options of some structs, for one command.

    Args:
        structs: Of settings; a field that several have is an option once.
        skip: Fields that are no options.
        panels: Panels of the help, by field, where they are not those of the struct.
        defaults: Values shown as defaults, by field, where they are not those of the struct.
        texts: Help texts, by field, where they are not those of the struct.
    """

    def __init__(
        self,
        *structs: type[msgspec.Struct],
        skip: Sequence[str] = (),
        panels: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] | None = None,
    ) -> None:
        self.parameters: dict[str, inspect.Parameter] = {}
        self._convert: dict[str, Convert] = {}
        panels, defaults, texts = panels or {}, defaults or {}, texts or {}
        for struct in structs:
            values = {field.name: _default(field) for field in msgspec.structs.fields(struct)}
            for name, bare, meta in describe_fields(struct):
                if name in skip or name in self.parameters:
                    continue
                default = defaults.get(name, values[name])
                text = in_options(texts.get(name, meta.description or ""))
                parameter, convert = _parameter(
                    *(name, bare, meta, default, text, panels.get(name))
                )
                self.parameters[name] = parameter
                self._convert[name] = convert

    def given(self, ctx: typer.Context, values: Mapping[str, Any]) -> dict[str, Any]:
        """The settings that were typed, or that a file gave; defaults are the library's.

        Raises:
            ConfigError: If a text is not what its option takes.
        """
        return {
            name: convert(values[name])
            for name, convert in self._convert.items()
            if name in values and is_given(ctx, name)
        }


def with_options(options: Options) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command, which takes ``**settings``, the options of structs beside its own."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [
            parameter
            for parameter in inspect.signature(command, eval_str=True).parameters.values()
            if parameter.kind is not parameter.VAR_KEYWORD
        ]
        names = {parameter.name for parameter in own}
        more = [p for name, p in options.parameters.items() if name not in names]

        def run(**values: Any) -> None:
            command(**values)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__module__ = command.__module__
        run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # for typer
            [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *more)]
        )
        run.__annotations__ = {}
        return run

    return decorate


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether an option was typed, or is in a file of options."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


def _parameter(
    name: str, bare: Any, meta: msgspec.Meta, default: Any, text: str, panel: str | None
) -> tuple[inspect.Parameter, Convert]:
    told = meta.extra or {}
    kind, convert, default = _kind(name, bare, told["metavar"], default)
    declared = option(name)
    texts = [declared]
    if kind is bool:
        texts = [declared] if default is False else [f"{declared}/--no-{declared[2:]}"]
    elif kind == bool | None:
        texts = [f"{declared}/--no-{declared[2:]}"]
    settings: dict[str, Any] = {}
    if told["kind"] in completion.OFFERS:
        settings["autocompletion"] = completion.OFFERS[told["kind"]]
    if kind in (int, int | None):
        lowest = {POSITIVE: 1, THREADS: 1, NOT_NEGATIVE: 0, WORKERS: 0}.get(told["bounds"])
        settings |= {} if lowest is None or name == "seed" else {"min": lowest}
    made = typer.Option(
        *texts,
        help=text,
        rich_help_panel=panel or told["group"] or None,
        metavar=told["metavar"] or None,
        **settings,
    )
    parameter = inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, made],
    )
    return parameter, convert


def _kind(name: str, bare: Any, metavar: str, default: Any) -> tuple[Any, Convert, Any]:
    """What the command line takes for a type, how its values get back to it, the default."""
    optional = type(None) in get_args(bare) and get_origin(bare) in (Union, types.UnionType)
    if optional:
        (bare,) = (a for a in get_args(bare) if a is not type(None))
    origin = get_origin(bare)
    if metavar == "N|auto":
        return str, lambda text: _number_or_auto(name, text), str(default)
    if metavar == "CxHxW":
        return str | None, lambda text: _sizes(name, text), None
    if metavar == "N,..." and bare is int:
        return str, lambda text: _numbers(name, text, lowest=1), str(default)
    if metavar.endswith(",..."):
        if int in get_args(bare):
            return str | None, lambda text: _numbers(name, text, lowest=0), None
        return str | None, lambda text: tuple(part.strip() for part in text.split(",")), None
    if origin in (dict, Mapping) or bare is Mapping:
        shapes = "x" in metavar.partition("=")[2]
        return list[str] | None, lambda texts: _pairs(name, texts, shapes=shapes), None
    if origin is tuple:
        element = get_args(bare)[0]
        return list[element] | None, tuple, None  # type: ignore[valid-type]
    if origin is Literal:
        choices = get_args(bare)
        words = tuple(map(str, choices))
        values = dict(zip(words, choices, strict=True))
        literal: Any = Literal[words] if len(words) > 1 else str
        shown = None if default is None else str(default)
        return literal | None if shown is None else literal, values.__getitem__, shown
    if bare is Path or bare is str:
        needed = default is msgspec.NODEFAULT
        return (
            (bare if needed or default is not None else bare | None),
            _same,
            (inspect.Parameter.empty if needed else default),
        )
    if default is None or default is msgspec.NODEFAULT:
        return bare | None, _same, None
    return bare, _same, default


def _default(field: Any) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return field.default


def _same(value: Any) -> Any:
    return value


def _number_or_auto(name: str, text: str) -> int | str:
    if text == "auto":
        return text
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"`{name}` must be a number or auto, got {text!r}")
    return int(text)


def _numbers(name: str, text: str, *, lowest: int) -> tuple[int, ...]:
    numbers = [number.strip() for number in text.split(",")]
    if not all(n.isascii() and n.isdigit() and int(n) >= lowest for n in numbers):
        raise ConfigError(
            f"`{name}` must be numbers from {lowest}, separated by commas, as in 1,8; got "
            f"{text!r}"
        )
    if len(set(map(int, numbers))) < len(numbers):
        raise ConfigError(f"`{name}` has a number twice: {text!r}; give it once")
    return tuple(map(int, numbers))


def _sizes(name: str, text: str) -> tuple[int, ...]:
    """Sizes between crosses, ``3x32x32``."""
    if 0 in (sizes := _crossed(text) or (0,)):
        raise ConfigError(
            f"`{name}` must be positive sizes separated by x, as in 3x32x32 for channels, "
            f"height and width; got {text!r}"
        )
    return sizes


def _shape(name: str, text: str) -> tuple[int, ...]:
    """As :func:`_sizes`, of a tensor that may be empty."""
    if not (sizes := _crossed(text)):
        raise ConfigError(
            f"`{name}` must be sizes separated by x, as in 1x3x224x224; got {text!r}"
        )
    return sizes


def _crossed(text: str) -> tuple[int, ...]:
    """Numbers between crosses; none if it is something else."""
    words = text.split("x")
    is_numbers = all(word.isascii() and word.isdigit() for word in words)
    return tuple(map(int, words)) if is_numbers else ()


def _pairs(name: str, texts: Sequence[str], *, shapes: bool) -> dict[str, Any]:
    """``NAME=VALUE``: values of settings are JSON, or texts where they are none."""
    pairs: dict[str, Any] = {}
    for text in texts:
        # Names of inputs may hold an equals sign.
        of_input = shapes or name == "values"
        key, equals, value = text.rpartition("=") if of_input else text.partition("=")
        if not (key and equals and value) or (name == "settings" and not key.isidentifier()):
            form = "a name and sizes, as in input=1x3x224x224" if shapes else "NAME=VALUE"
            raise ConfigError(f"`{name}`: give {form}; got {text!r}")
        if key in pairs:
            raise ConfigError(
                f"`{name}`: {key} is given twice, the second time by {text!r}; give it once"
            )
        if shapes:
            pairs[key] = _shape(name, value)
        elif name == "settings":
            try:
                pairs[key] = json.loads(value)
            except ValueError:
                pairs[key] = value
        else:
            pairs[key] = value
    return pairs
