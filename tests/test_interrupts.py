"""Ctrl-C at odd moments: while goldnas is still being imported, while torch exports."""

import signal
import sys
from typing import Any, NoReturn

import pytest
import torch
from torch import nn

from goldnas import __main__ as program
from goldnas.exporting.onnx import to_onnx

SHAPE = (1, 1, 4, 4)


def test_ctrl_c_while_the_command_line_is_imported_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupting:
        def find_spec(self, name: str, *where: object) -> None:
            if name == "goldnas.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "goldnas.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "interrupted\n")


@pytest.mark.parametrize("fails", [False, True])
def test_ctrl_c_during_an_export_is_raised_after_it(
    monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    """And not eaten by torch, nor taken for a module that cannot be exported."""
    began: list[bool] = []
    export = torch.onnx.export

    def pressed(*arguments: Any, **settings: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        began.append(True)
        if fails:
            raise torch.onnx.OnnxExporterError("no such operator")
        return export(*arguments, **settings)

    monkeypatch.setattr(torch.onnx, "export", pressed)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        to_onnx(nn.ReLU(), SHAPE)
    assert began
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_does_not_wait_for_the_export(monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed_twice(*arguments: Any, **settings: Any) -> NoReturn:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("it went on")

    monkeypatch.setattr(torch.onnx, "export", pressed_twice)
    with pytest.raises(KeyboardInterrupt):
        to_onnx(nn.ReLU(), SHAPE)
