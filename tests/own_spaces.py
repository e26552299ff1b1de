"""Spaces as people write them: good ones, and ones with a mistake each."""

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import goldnas
from goldnas.operators import build_operator
from goldnas.site import Site


def conv(in_channels: int, channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.ReLU(),
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(channels, affine=False),
    )


def head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """Two choices, the first added to what it reads, the second joined with it."""

    def __init__(self, in_channels: int, width: int, classes: int, rectify: bool) -> None:
        super().__init__()
        self.stem = conv(in_channels, width)
        self.blocks = nn.ModuleList(
            goldnas.Choice(
                {
                    "conv_3x3": lambda: conv(width, width),
                    "conv_5x5": lambda: conv(width, width, 5),
                    "skip": nn.Identity,
                }
            )
            for _ in range(2)
        )
        self.down = goldnas.Choice(
            {"conv": lambda: conv(2 * width, width, stride=2), "pool": lambda: pool(width)}
        )
        self.dropout = nn.Dropout(0.1)
        self.head = head(width, classes)
        self.rectify = rectify

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.blocks[0](x)
        x = self.down(torch.cat([x, self.blocks[1](x)], dim=1))
        return self.head(self.dropout(F.relu(x) if self.rectify else x))


def pool(width: int) -> nn.Sequential:
    """End in a convolution, without a normalisation that could take a gate in."""
    return nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(2 * width, width, 1))


def residual(
    width: int = 4,
    classes: int = 10,
    input_shape: tuple[int, int, int] = (1, 8, 8),
    rectify: bool = False,
) -> nn.Module:
    return Residual(input_shape[0], width, classes, rectify)


def repeated(
    classes: int = 10, input_shape: tuple[int, int, int] = (1, 8, 8), affine: bool = False
) -> nn.Module:
    """One decision at three places, of two sizes, and another that stands alone."""

    def convolution(width: int, kernel: int) -> nn.Module:
        layer = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
        return nn.Sequential(nn.ReLU(), layer, nn.BatchNorm2d(width, affine=affine))

    def cell(width: int) -> nn.Module:
        candidates = {f"conv_{k}x{k}": lambda k=k: convolution(width, k) for k in (1, 3)}
        return goldnas.Choice(candidates | {"skip": nn.Identity}, shared="cell")

    alone = goldnas.Choice({"conv": lambda: conv(4, 8, 3, 2), "pool": lambda: conv(4, 8, 1, 2)})
    stem = conv(input_shape[0], 4)
    return nn.Sequential(stem, cell(4), cell(4), alone, cell(8), head(8, classes))


def spatial(input_shape: tuple[int, ...], classes: int = 4) -> nn.Module:
    """Convolutions along every side of the input."""
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[len(input_shape) - 2]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[len(input_shape) - 2]

    def layer(in_channels: int, kernel: int) -> nn.Module:
        convolution = conv(in_channels, 4, kernel, padding=kernel // 2)
        return nn.Sequential(convolution, norm(4), nn.ReLU())

    def choice() -> goldnas.Choice:
        return goldnas.Choice({f"conv_{k}": lambda k=k: layer(4, k) for k in (1, 3)})

    sides = tuple(range(2, len(input_shape) + 1))
    return nn.Sequential(
        layer(input_shape[0], 3), choice(), choice(), Mean(sides), nn.Linear(4, classes)
    )


class Mean(nn.Module):
    """Over some dimensions."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(self.dims)


class Words(nn.Module):
    """Numbers of words, which come as floats."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.long())


def sequential(input_shape: tuple[int, ...], classes: int = 4) -> nn.Module:
    """Of numbers of words."""

    def choice() -> goldnas.Choice:
        return goldnas.Choice(
            {
                "narrow": lambda: nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU()),
                "wide": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 4)),
            }
        )

    return nn.Sequential(Words(), choice(), choice(), Mean((1,)), nn.Linear(4, classes))


class Forked(nn.Module):
    """Two ways, each of which may pass nothing on; what is between them may have no reader."""

    def __init__(self, width: int, affine: bool) -> None:
        super().__init__()
        self.left = goldnas.Choice(
            {"conv_3x3": lambda: normed(width, 3, affine), "skip": nn.Identity},
            shared="left",
            optional=True,
        )
        self.right = goldnas.Choice(
            {"none": goldnas.Zero, "conv_1x1": lambda: normed(width, 1, affine)}, shared="right"
        )
        self.mixed = normed(width, 1, affine)
        self.last = goldnas.Choice(
            {"join": lambda: Join(width, affine), "add": Add}, optional=True
        )

    def forward(self, x: Tensor) -> Tensor:
        left = self.left(x)
        return left + self.last(self.mixed(self.right(x)), x)


class Join(nn.Module):
    """A convolution of two tensors side by side."""

    def __init__(self, width: int, affine: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width, affine=affine)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.norm(self.conv(torch.cat([one, other], dim=1)))


class Add(nn.Module):
    """Two tensors, added."""

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return one + other


def normed(width: int, kernel: int, affine: bool) -> nn.Module:
    layer = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), layer, nn.BatchNorm2d(width, affine=affine))


def forked(
    classes: int = 10, input_shape: tuple[int, int, int] = (1, 8, 8), affine: bool = False
) -> nn.Module:
    """Choices that are shared, that may be empty, and that have a Zero."""
    return nn.Sequential(
        conv(input_shape[0], 4),
        Forked(4, affine),
        goldnas.Choice(
            {"conv": lambda: conv(4, 8, 3, 2), "none": goldnas.Zero, "pool": lambda: half(4)}
        ),
        Forked(8, affine),
        head(8, classes),
    )


def nesting(
    classes: int = 10, input_shape: tuple[int, int, int] = (1, 8, 8), affine: bool = False
) -> nn.Module:
    """Choices within candidates, one of which is itself within another."""

    def convs(width: int, *, optional: bool = False) -> goldnas.Choice:
        return goldnas.Choice(
            {
                "conv_1x1": lambda: normed(width, 1, affine),
                "conv_3x3": lambda: normed(width, 3, affine),
            },
            optional=optional,
        )

    def deep(width: int) -> nn.Module:
        inner = {
            "twice": lambda: nn.Sequential(convs(width), convs(width)),
            "skip": nn.Identity,
        }
        return nn.Sequential(normed(width, 1, affine), goldnas.Choice(inner))

    return nn.Sequential(
        conv(input_shape[0], 4),
        goldnas.Choice({"deep": lambda: deep(4), "conv_5x5": lambda: normed(4, 5, affine)}),
        goldnas.Choice({"inner": lambda: convs(4, optional=True), "skip": nn.Identity}),
        head(4, classes),
    )


class Overwriting(nn.Module):
    """Changes in place what a choice puts out, what it was given, and, deep within, both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = goldnas.Choice({"conv": lambda: normed(width, 3, True), **skip()})
        self.second = goldnas.Choice({"conv": lambda: normed(width, 3, True), **skip()})
        inner = lambda: nn.Sequential(goldnas.Choice(skip()), nn.ReLU(inplace=True))  # noqa: E731
        self.third = goldnas.Choice({"inner": inner, **skip()})
        self.kept = goldnas.Choice(skip())

    def forward(self, x: Tensor) -> Tensor:
        y = x + F.relu(self.first(x), inplace=True)
        z = self.second(y)
        y.mul_(2)
        return self.kept(self.third(y + z))


def skip() -> dict[str, Callable[[], nn.Module]]:
    return {"skip": nn.Identity}


def overwriting() -> nn.Module:
    return nn.Sequential(normed(1, 3, True), Overwriting(1), head(1, 10))


def half(width: int) -> nn.Module:
    return nn.Sequential(nn.MaxPool2d(3, 2, 1), nn.Conv2d(width, 2 * width, 1))


def other_candidates() -> nn.Module:
    choices = (
        goldnas.Choice(dict.fromkeys(names, nn.Identity), shared="cell")
        for names in (("skip", "same"), ("same", "skip"))
    )
    return nn.Sequential(conv(1, 4), *choices, head(4, 10))


def once_optional() -> nn.Module:
    choices = (
        goldnas.Choice({"skip": nn.Identity}, shared="cell", optional=optional)
        for optional in (True, False)
    )
    return nn.Sequential(conv(1, 4), *choices, head(4, 10))


def only_zero() -> nn.Module:
    return with_choice({"none": goldnas.Zero})


def odd_shared_name() -> nn.Module:
    return nn.Sequential(goldnas.Choice({"skip": nn.Identity}, shared="Cell 1"))


def taken_name() -> nn.Module:
    shared = (goldnas.Choice({"skip": nn.Identity}, shared="one") for _ in range(2))
    return nn.Sequential(
        OrderedDict(
            stem=conv(1, 4),
            first=next(shared),
            one=goldnas.Choice({"skip": nn.Identity}),
            last=next(shared),
            head=head(4, 10),
        )
    )


def flat(sizes: tuple[int, ...] = (6, 6)) -> nn.Module:
    """Of vectors, with a choice whose size depends on a list."""
    first, second = sizes
    return nn.Sequential(
        nn.Linear(5, first),
        goldnas.Choice(
            {
                "wide": lambda: nn.Sequential(nn.Linear(first, 9), nn.Linear(9, second)),
                "narrow": lambda: nn.Linear(first, second),
            }
        ),
        nn.Linear(second, 3),
    )


def registered(classes: int = 10) -> nn.Module:
    """Of operators that goldnas has by name."""
    site = Site(4, 4, 8, 8)
    return nn.Sequential(
        conv(1, 4),
        goldnas.Choice(
            {
                "conv": lambda: build_operator("sep_conv_3x3", site),
                "pool": lambda: build_operator("max_pool_3x3", site),
            }
        ),
        head(4, classes),
    )


# -- one mistake each --------------------------------------------------------------------------

Candidates = dict[str, Callable[[], nn.Module]]


def with_choice(candidates: Candidates) -> nn.Module:
    return nn.Sequential(conv(1, 4), goldnas.Choice(candidates), head(4, 10))


def no_candidates() -> nn.Module:
    return with_choice({})


def odd_name() -> nn.Module:
    return with_choice({"3x3 conv": nn.Identity})


def torch_name() -> nn.Module:
    return with_choice({"half": nn.Identity})


def keyword_name() -> nn.Module:
    return with_choice({"in": nn.Identity})


def odd_optional() -> nn.Module:
    choice = goldnas.Choice({"skip": nn.Identity}, optional="no")  # type: ignore[arg-type]
    return nn.Sequential(conv(1, 4), choice, head(4, 10))


def two_names() -> nn.Module:
    return nn.Sequential(goldnas.Choice([("skip", nn.Identity), ("skip", nn.Identity)]))


def not_a_builder() -> nn.Module:
    return with_choice({"skip": nn.Identity()})  # type: ignore[dict-item]


def builder_raises() -> nn.Module:
    return with_choice({"conv": lambda: nn.Conv2d(4, 4)})  # type: ignore[call-arg]


def builder_returns_text() -> nn.Module:
    return with_choice({"conv": lambda: "conv"})  # type: ignore[dict-item, return-value]


def shared_within() -> nn.Module:
    return with_choice({"inner": lambda: goldnas.Choice({"skip": nn.Identity}, shared="one")})


def within_shared() -> nn.Module:
    inner = {"inner": lambda: goldnas.Choice({"skip": nn.Identity})}
    return nn.Sequential(conv(1, 4), goldnas.Choice(inner, shared="one"), head(4, 10))


def other_shape() -> nn.Module:
    return with_choice(
        {"skip": nn.Identity, "conv": lambda: conv(4, 4), "wide": lambda: conv(4, 8)}
    )


def wrong_input() -> nn.Module:
    return with_choice({"skip": nn.Identity, "conv": lambda: conv(3, 4)})


def in_place() -> nn.Module:
    return with_choice({"skip": nn.Identity, "relu": lambda: nn.ReLU(inplace=True)})


def raises() -> nn.Module:
    raise ValueError("no width\nwas given")


def returns_nothing() -> None:
    return None


def no_choice() -> nn.Module:
    return nn.Sequential(conv(1, 4), head(4, 10))


def is_a_choice() -> nn.Module:
    return goldnas.Choice({"skip": nn.Identity})


def needs_width(width: int) -> nn.Module:
    return with_choice({"skip": nn.Identity})


def shared() -> nn.Module:
    one = conv(4, 4)
    return with_choice({"one": lambda: one, "two": lambda: nn.Sequential(one)})


def same_name() -> nn.Module:
    return nn.Sequential(
        conv(1, 4),
        goldnas.Choice({"conv": lambda: conv(4, 4)}),
        goldnas.Choice({"conv": lambda: conv(4, 4, 5)}),
        head(4, 10),
    )


class _Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(1, 4)
        self.choice = goldnas.Choice({"skip": nn.Identity, "conv": lambda: conv(4, 4)})
        self.head = head(4, 10)


class _Never(_Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stem(x))


class _Named(_Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.choice(x=self.stem(x)))


class _Twice(_Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.choice(self.choice(self.stem(x))))


class _Weight(_Net):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.scale * self.choice(self.stem(x)))


class _Between(_Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.choice(self.stem(x))
        return self.head(F.conv2d(x, torch.ones(4, 4, 1, 1)))


class _Attends(_Net):
    def forward(self, x: Tensor) -> Tensor:
        x = self.choice(self.stem(x))
        return self.head(F.scaled_dot_product_attention(x, x, x))


class _Broken(_Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.choice(self.stem(x)).flatten(1))


class _Pair(_Net):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.choice(self.stem(x))
        return x, x


class _Unread(_Net):
    def forward(self, x: Tensor) -> Tensor:
        self.choice(self.stem(x))
        return self.head(self.stem(x))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.AdaptiveAvgPool2d(4)
        self.choice = goldnas.Choice({"conv": lambda: conv(1, 4)})
        self.head = head(1, 10)


def unread() -> nn.Module:
    return _Unread()


def never_called() -> nn.Module:
    return _Never()


def called_by_name() -> nn.Module:
    return _Named()


def called_twice() -> nn.Module:
    return _Twice()


def loose_weight() -> nn.Module:
    return _Weight()


def between_modules() -> nn.Module:
    return _Between()


def attention_between() -> nn.Module:
    return _Attends()


def forward_raises() -> nn.Module:
    return _Broken()


def two_outputs() -> nn.Module:
    return _Pair()


def other_classes() -> nn.Module:
    return nn.Sequential(conv(1, 4), goldnas.Choice({"skip": nn.Identity}), head(4, 7))


not_a_function = "text"


def lazy() -> nn.Module:
    candidates = {"conv": lambda: nn.LazyConv2d(4, 3, padding=1), "skip": nn.Identity}
    return nn.Sequential(conv(1, 4), goldnas.Choice(candidates), head(4, 10))


class Turn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).real


def complex_weight() -> nn.Module:
    candidates = {"turn": Turn, "skip": nn.Identity}
    return nn.Sequential(conv(1, 4), goldnas.Choice(candidates), head(4, 10))
