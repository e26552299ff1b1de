"""What the library says in Python, the command line says in options and commands."""

import pytest

from goldnas.cli.wording import in_options


@pytest.mark.parametrize(
    ("python", "typed"),
    [
        ("leave `levels=2` out", "leave --levels 2 out"),
        ("fewer `channels` or `cells`", "fewer --channels or --cells"),
        ("`edge_rule`", "--edge-rule"),
        ("`edge_rule=True`", "--edge-rule"),
        ("`flip=False`", "--no-flip"),
        ("`budgets=['600MFLOPs', '5ms']`", "--budget 600MFLOPs --budget 5ms"),
        ("`tables=['lut/a b.json']`", "--latency-lut 'lut/a b.json'"),
        ("`operators=('a', 'b')`", "--operators a,b"),
        ("`provider_options={'device': 'GPU'}`", "--provider-option device=GPU"),
        (
            "go on with `load_run('runs/a b').resume()`",
            "go on with goldnas search --resume 'runs/a b'",
        ),
        ("`export('runs/a', out='net.onnx')`", "goldnas export runs/a --out net.onnx"),
        (
            "`profile(space('gold', cells=3, input_shape=(1, 8, 8), width=4), out='t.json')`",
            "goldnas profile --space gold --cells 3 --input 1x8x8 --set width=4 --out t.json",
        ),
        (
            "`profile(space('a:b', sizes=[4, 8], rectify=False, kind='x y', level='3'))`",
            "goldnas profile --space a:b --set 'sizes=[4, 8]' --set rectify=false "
            "--set 'kind=x y' --set 'level=\"3\"'",
        ),
        (
            "`profile(space, device='cpu', out='t.json')`",
            "goldnas profile --device cpu --out t.json",
        ),
        (
            "fit again: `fit_networks(networks, priors=...)`",
            "fit again: goldnas lut fit --prior",
        ),
        ("`merge()` combines tables", "goldnas lut merge combines tables"),
        ("`shapes={'input': (1, 3, 64, 64)}`", "--shape input=1x3x64x64"),
        ("nothing in quotes", "nothing in quotes"),
        ("`no python here`", "`no python here`"),
        ("no a`b: `load_run('a`b').resume()`", "no a`b: goldnas search --resume 'a`b'"),
        ("`evaluate('-a')`", "goldnas evaluate ./-a"),
        ("`evaluate('a; b')`", "goldnas evaluate 'a; b'"),
        (
            r"`evaluate('a\x1b\u202e\n\'')`",
            "goldnas evaluate \"$(printf 'a\\033\\342\\200\\256\\012\\047')\"",
        ),
    ],
)
def test_settings_are_options_and_calls_are_commands(python: str, typed: str) -> None:
    assert in_options(python) == typed
