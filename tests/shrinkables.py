"""Small networks of which channels or branches may go: functions, as people write them."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def conv(channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def head(channels: int, classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


def learnt(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A network whose weights and statistics are all different, as training leaves them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make().eval().requires_grad_(False)
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.dim() == 1:
                tensor.copy_(torch.rand_like(tensor) + 0.2)
    return network


class Flow(nn.Module):
    """Layers by name, and a forward: for networks of a few lines."""

    def __init__(self, flow: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.flow = flow

    def forward(self, x: Tensor) -> Tensor:
        return self.flow(self, x)


def chain(input_shape: Sequence[int], classes: int, width: int = 16) -> nn.Module:
    """Two convolutions, one after the other."""
    return nn.Sequential(conv(input_shape[0], width), conv(width, width), head(width, classes))


class Block(nn.Module):
    """Adds to its input what two convolutions make of it."""

    def __init__(self, channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.first = conv(channels, out_channels, stride=stride)
        self.second = conv(out_channels, out_channels)[:2]
        same = channels == out_channels and stride == 1
        self.shortcut = nn.Identity() if same else conv(channels, out_channels, 1, stride)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


def residual(input_shape: Sequence[int], classes: int, width: int = 16) -> nn.Module:
    """Four blocks, of which the second keeps neither its channels nor its size."""
    return nn.Sequential(
        conv(input_shape[0], width),
        Block(width, width),
        Block(width, 2 * width, stride=2),
        Block(2 * width, 2 * width),
        Block(2 * width, 2 * width),
        head(2 * width, classes),
    )


def concatenation(input_shape: Sequence[int], classes: int) -> nn.Module:
    """What two convolutions make of one input, and that input."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        return net.head(net.last(torch.cat([net.a(x), x, net.b(x)], dim=1)))

    layers = {"stem": conv(input_shape[0], 12), "a": conv(12, 8), "b": conv(12, 16, 1)}
    return Flow(flow, **layers, last=conv(36, 16), head=head(16, classes))


class Squeezed(nn.Module):
    """Depthwise, with squeeze and excitation, and a sum: as in MobileNetV3."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.expand = conv(channels, inner, 1)
        self.deep = nn.Conv2d(inner, inner, 3, padding=1, groups=inner)
        self.norm = nn.BatchNorm2d(inner)
        self.down, self.up = nn.Conv2d(inner, 8, 1), nn.Conv2d(8, inner, 1)
        self.project = conv(inner, channels, 1)[:2]

    def forward(self, x: Tensor) -> Tensor:
        y = F.hardswish(self.norm(self.deep(self.expand(x))))
        scale = self.up(F.relu(self.down(F.adaptive_avg_pool2d(y, 1))))
        return x + self.project(torch.sigmoid(scale) * y)


def squeezed(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A block as in MobileNetV3."""
    return nn.Sequential(conv(input_shape[0], 12), Squeezed(12, 24), head(12, classes))


def chunked(input_shape: Sequence[int], classes: int) -> nn.Module:
    """One half scales the other."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        one, other = net.stem(x).chunk(2, dim=1)
        return net.head(net.last(one * torch.sigmoid(other)))

    return Flow(flow, stem=conv(input_shape[0], 32), last=conv(16, 16), head=head(16, classes))


def chunks_apart(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Different layers read the halves."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        one, other = torch.chunk(net.stem(x), 2, 1)
        return net.head(torch.cat([net.a(one), net.b(other)], 1))

    layers = {"stem": conv(input_shape[0], 32), "a": conv(16, 12), "b": conv(16, 8)}
    return Flow(flow, **layers, head=head(20, classes))


def split(input_shape: Sequence[int], classes: int) -> nn.Module:
    """The forward says of how many channels the parts are."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        one, other = net.stem(x).split([12, 20], dim=1)
        return net.head(torch.cat([net.a(one), net.b(other)], 1))

    layers = {"stem": conv(input_shape[0], 32), "a": conv(12, 12), "b": conv(20, 8)}
    return Flow(flow, **layers, head=head(20, classes))


def sliced(input_shape: Sequence[int], classes: int) -> nn.Module:
    """The forward says which channels it reads."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        return net.head(net.a(x[:, :12]) + net.b(x[:, 12:]))

    layers = {"stem": conv(input_shape[0], 32), "a": conv(12, 16), "b": conv(20, 16)}
    return Flow(flow, **layers, head=head(16, classes))


def cropped(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Pixels are left out; channels are not."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        return net.head(net.last(net.stem(x)[:, :, 1:-1, 1:-1]))

    layers = {"stem": conv(input_shape[0], 16), "last": conv(16, 16)}
    return Flow(flow, **layers, head=head(16, classes))


def flattened(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Each channel is many inputs of the linear layer."""
    side = input_shape[1] // 2
    return nn.Sequential(
        conv(input_shape[0], 12),
        conv(12, 8, stride=2),
        nn.Flatten(),
        nn.Linear(8 * side * side, 20),
        nn.ReLU(),
        nn.Linear(20, classes),
    )


def viewed(input_shape: Sequence[int], classes: int) -> nn.Module:
    """As that, with a view that fits any number of channels."""
    pixels = input_shape[1] * input_shape[2]

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        return net.last(F.relu(net.first(x.view(x.size(0), -1))))

    layers = {"stem": conv(input_shape[0], 8), "first": nn.Linear(8 * pixels, 20)}
    return Flow(flow, **layers, last=nn.Linear(20, classes))


def viewed_as(input_shape: Sequence[int], classes: int) -> nn.Module:
    """As that, but the forward says how many numbers there are: as tutorials write it."""
    pixels = input_shape[1] * input_shape[2]

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x).view(-1, 8 * pixels)
        return net.last(F.relu(net.first(x)))

    layers = {"stem": conv(input_shape[0], 8), "first": nn.Linear(8 * pixels, 20)}
    return Flow(flow, **layers, last=nn.Linear(20, classes))


def numbered(input_shape: Sequence[int], classes: int) -> nn.Module:
    """What cannot be followed takes the number of its channels from another tensor."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        count, channels = x.shape[:2]
        y = net.two(net.one(x).sort(dim=1).values.reshape(count, channels, -1, 4))
        return net.head(y)

    layers = {"stem": conv(input_shape[0], 16), "one": conv(16, 16), "two": conv(16, 12)}
    return Flow(flow, **layers, head=head(12, classes))


def grouped(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A convolution of four groups, of which it is not known what could go."""
    return nn.Sequential(
        conv(input_shape[0], 16),
        nn.Conv2d(16, 24, 3, padding=1, groups=4),
        nn.ReLU(),
        conv(24, 12),
        head(12, classes),
    )


def all_grouped(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Nothing of it may go."""
    return nn.Sequential(
        nn.Conv2d(input_shape[0], 16, 3),
        nn.Conv2d(16, 16, 3, groups=4),
        head(16, classes),
    )


def shared(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A layer that is called twice."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.again(net.again(net.stem(x)))
        return net.head(x)

    again = nn.Conv2d(16, 16, 3, padding=1)
    return Flow(flow, stem=conv(input_shape[0], 16), again=again, head=head(16, classes))


def looked_up(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A layer that takes whole numbers alone."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        x = x + net.shift(x[:, 0].abs().long().clamp(max=3)).permute(0, 3, 1, 2)
        return net.head(net.last(x))

    layers = {"stem": conv(input_shape[0], 16), "shift": nn.Embedding(4, 16)}
    return Flow(flow, **layers, last=conv(16, 12), head=head(12, classes))


def tied(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Two layers that share a weight."""
    one, other = conv(16, 16), conv(16, 16)
    other[0].weight = one[0].weight
    return nn.Sequential(conv(input_shape[0], 16), one, other, head(16, classes))


def unknown(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Channels go through a function that is not known; those of the next layer do not."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = torch.cumsum(net.stem(x), dim=1)
        return net.head(net.last(x))

    layers = {"stem": conv(input_shape[0], 16), "last": conv(16, 12)}
    return Flow(flow, **layers, head=head(12, classes))


def pooled_last(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Pooling over what lies last, which is the channels here; and over pixels."""
    pixels = input_shape[1] * input_shape[2]

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.pool(net.stem(x).flatten(2).transpose(1, 2))
        return net.last(F.avg_pool1d(F.relu(net.first(x)), 3, 1, 1).mean(1))

    assert pixels
    layers = {"stem": conv(input_shape[0], 16), "pool": nn.MaxPool1d(3, 1, 1)}
    return Flow(flow, **layers, first=nn.Linear(16, 24), last=nn.Linear(24, classes))


def branching(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Its forward depends on values."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        return net.head(x if x.sum() > 0 else -x)

    return Flow(flow, stem=conv(input_shape[0], 16), head=head(16, classes))


def insisting(input_shape: Sequence[int], classes: int, asks_layer: bool = False) -> nn.Module:
    """Its forward takes no other number of channels, and divides by another one."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        if (net.stem[0].out_channels if asks_layer else x.shape[1]) != 16:
            raise ValueError("16 channels, please")
        x = net.inner(x)
        return net.head(net.last(x / math.sqrt(x.shape[1])))

    layers = {"stem": conv(input_shape[0], 16), "inner": conv(16, 14), "last": conv(14, 12)}
    return Flow(flow, **layers, head=head(12, classes))


def asking(input_shape: Sequence[int], classes: int) -> nn.Module:
    """The same, in a way that cannot be followed."""
    return insisting(input_shape, classes, asks_layer=True)


def growing(input_shape: Sequence[int], classes: int) -> nn.Module:
    """With fewer channels, its forward leaves out a layer, which cannot be followed."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        return net.head(net.more(x) if net.stem[0].out_channels > 8 else x)

    layers = {"stem": conv(input_shape[0], 16), "more": conv(16, 16)}
    return Flow(flow, **layers, head=head(16, classes))


def tied_to_function(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A weight of a layer is read beside it, and numbers of channels are made anew."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.two(net.stem(x))
        x = F.relu(net.one(x.mean((2, 3))))
        x = F.linear(x, net.one.weight.t()).unflatten(1, (-1, 1))
        return net.last(x.flatten(1))

    layers = {"stem": conv(input_shape[0], 16), "two": conv(16, 12), "one": nn.Linear(12, 20)}
    return Flow(flow, **layers, last=nn.Linear(12, classes))


def gated(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Gates of channels and of places, as people write them."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        gate = net.up(F.relu(net.down(x.mean((-2, -1))))).sigmoid()
        x = x * gate[..., None, None]
        x = x * net.place(x).sigmoid()
        x = torch.where(x > 0.1, x, 0.1 * x)
        return net.head(net.last(x + x.amax(dim=(2, 3), keepdim=True).expand_as(x)))

    layers = {"stem": conv(input_shape[0], 12), "place": nn.Conv2d(12, 1, 1)}
    gate = {"down": nn.Linear(12, 8), "up": nn.Linear(8, 12)}
    return Flow(flow, **layers, **gate, last=conv(12, 8), head=head(8, classes))


def silent_first(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A normalisation that starts with zeros, and no block that adds to its input."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        return net.head(x + net.last(net.inner(F.relu(net.norm(net.first(x))))))

    layers = {"stem": conv(input_shape[0], 16), "first": conv(16, 12)}
    norm = nn.BatchNorm2d(12)
    nn.init.zeros_(norm.weight)
    inner, last = conv(12, 12), nn.Conv2d(12, 16, 1)
    return Flow(flow, **layers, norm=norm, inner=inner, last=last, head=head(16, classes))


def resized(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Views with numbers that only look like the number of channels."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        y = net.one(x)
        y = y.flatten(2).view(len(y), y.shape[1] // 2 * 2, 8, -1)
        z = net.two(x).transpose(dim0=2, dim1=3).mean(axis=(2, 3), keepdims=True)
        return net.head(net.last(torch.clamp(net.three(x) + z, max=y)))

    layers = {"stem": conv(input_shape[0], 12), "one": conv(12, 16), "two": conv(12, 16)}
    return Flow(flow, **layers, three=conv(12, 16), last=conv(16, 8), head=head(8, classes))


def counting(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Its forward takes a number from an image."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.stem(x)
        return net.head(x if x.max().item() > 0 else -x)

    return Flow(flow, stem=conv(input_shape[0], 16), head=head(16, classes))


class Deciding(nn.Module):
    """Its forward goes by shapes and by an argument with a default, not by values."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.stem, self.one, self.two = conv(channels, 16), conv(16, 12), conv(16, 12)
        self.head = head(12, classes)
        self.register_buffer("on", torch.tensor(True))

    def forward(
        self, x: Tensor, features: bool = False, mask: Tensor | None = None, **others: Tensor
    ) -> Tensor:
        x = x if mask is None and not others else x * mask
        _, _, height, width = x.shape
        if height % 2 or len(x) == 0 or x.dim() != 4:
            raise ValueError("images of an even size")
        pad = max((math.ceil(width / 3) - 1) * 3 + 5 - width, 0)
        x = self.stem(F.pad(x, (pad // 2, pad - pad // 2)))
        for i in range(int(x.shape[-2]) // 4):
            x = x + F.relu(x) * i
        if self.on:
            x = self.one(x) + self.two(x)
        return x if features else self.head(x)


def deciding(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A forward that decides, the same for every image."""
    return Deciding(input_shape[0], classes)


class Mixing(nn.Module):
    """Linear layers over channels that lie last, beside each other a sum."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first, self.second = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(F.gelu(self.first(self.norm(x))))


def mixing(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Patches, and what an MLP makes of each; their mean."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.patches(x).flatten(2).transpose(1, 2)
        return net.last(net.norm(net.two(net.one(x))).mean(dim=1))

    layers = {"patches": nn.Conv2d(input_shape[0], 16, 2, 2), "norm": nn.LayerNorm(16)}
    blocks = {"one": Mixing(16, 32), "two": Mixing(16, 32)}
    return Flow(flow, **layers, **blocks, last=nn.Linear(16, classes))


class Attending(nn.Module):
    """Self-attention of what comes before, beside a sum."""

    def __init__(self, width: int, places: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.register_buffer("mask", torch.full((places, places), -1e9).triu(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attention(x, key=x, value=x, attn_mask=self.mask, need_weights=False)[0]


def attending(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Patches, what each takes from those before it, and an MLP."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.patches(x).flatten(2).transpose(1, 2)
        return net.last(net.mixing(net.attending(x)).mean(dim=1))

    places = input_shape[1] * input_shape[2] // 4
    layers = {"patches": nn.Conv2d(input_shape[0], 16, 2, 2), "last": nn.Linear(16, classes)}
    return Flow(flow, **layers, attending=Attending(16, places), mixing=Mixing(16, 32))


class Windowed(nn.Module):
    """A transformer block: attention within windows of four places, and an MLP, each a sum."""

    def __init__(self, width: int, inner: int, fixed: bool) -> None:
        super().__init__()
        self.width = width if fixed else None
        self.norm, self.then = nn.LayerNorm(width), nn.LayerNorm(width)
        self.read, self.write = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.first, self.second = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        windows = self.norm(x).reshape(-1, 4, self.width or x.shape[-1])
        queries, keys, values = self.read(windows).chunk(3, dim=-1)
        found = (queries @ keys.transpose(1, 2)).softmax(dim=-1) @ values
        x = x + self.write(found).reshape(x.shape)
        return x + self.second(F.gelu(self.first(self.then(x))))


def windowed(input_shape: Sequence[int], classes: int, fixed: bool = True) -> nn.Module:
    """Patches, and attention written as products of tensors."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.patches(x).flatten(2).transpose(1, 2)
        return net.last(net.two(net.one(x)).mean(dim=1))

    layers = {"patches": nn.Conv2d(input_shape[0], 16, 2, 2), "last": nn.Linear(16, classes)}
    return Flow(flow, **layers, one=Windowed(16, 32, fixed), two=Windowed(16, 24, fixed))


def windows_of_any_width(input_shape: Sequence[int], classes: int) -> nn.Module:
    """The same, where the width may change."""
    return windowed(input_shape, classes, fixed=False)


def normalised_places(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A batch normalisation over all places of all images."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x = net.first(net.patches(x).flatten(2).transpose(1, 2))
        x = F.relu(net.norm(x.flatten(0, 1))).view(x.shape)
        return net.last(net.second(x).mean(dim=1))

    layers = {"patches": nn.Conv2d(input_shape[0], 12, 2, 2), "norm": nn.BatchNorm1d(16)}
    first, second = nn.Linear(12, 16, bias=False), nn.Linear(16, 20)
    return Flow(flow, **layers, first=first, second=second, last=nn.Linear(20, classes))


def enlarged(input_shape: Sequence[int], classes: int) -> nn.Module:
    """A transposed convolution, to the size of an earlier tensor."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        large = net.up(net.down(x), output_size=x.size()[2:])
        return net.head(net.last(F.relu(large)))

    layers = {"down": conv(input_shape[0], 16, stride=2), "last": conv(8, 16)}
    up = nn.ConvTranspose2d(16, 8, 3, stride=2, padding=1)
    return Flow(flow, **layers, up=up, head=head(16, classes))


def recurrent(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Rows one after the other, twice, the second time from the state of the first."""

    def flow(net: Flow, x: Tensor) -> Tensor:
        x, state = net.one(x.flatten(1, 2))
        return net.last(net.two(x, state)[0].mean(dim=1))

    one, two = (nn.LSTM(n, 16, batch_first=True) for n in (input_shape[2], 16))
    return Flow(flow, one=one, two=two, last=nn.Linear(16, classes))


# -- networks that train is to refuse --------------------------------------------------------


def perceptron(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Nothing but a classifier."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


def exits(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Ends the program."""
    raise SystemExit("no")


def lazy(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Its weights have no shape yet."""
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(classes))


def remembers(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Keeps a number beside its weights."""

    class Remembers(nn.Sequential):
        def get_extra_state(self) -> dict[str, int]:
            return {"calls": 3}

        def set_extra_state(self, state: dict[str, int]) -> None:
            pass

    return Remembers(nn.Flatten(), nn.Linear(math.prod(input_shape), classes))


def one_weight(input_shape: Sequence[int], classes: int, apart: bool = False) -> nn.Module:
    """Two layers with one weight."""
    pixels = math.prod(input_shape)
    one, other = (nn.Linear(pixels, pixels, bias=False) for _ in range(2))
    if not apart:
        other.weight = one.weight
    return nn.Sequential(nn.Flatten(), one, other, nn.Linear(pixels, classes))


def two(input_shape: Sequence[int], classes: int) -> nn.Module:
    """Puts out two tensors."""
    return Flow(lambda self, x: (self.head(x), x), head=perceptron(input_shape, classes))
