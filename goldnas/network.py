"""A network of cells as a plain module.

Written so that ``goldnas export --python-out`` can copy the two classes as they stand: they
know torch and nothing else.
"""

import torch
from torch import Tensor, nn


class Cell(nn.Module):
    """A graph of nodes; each node sums operators applied to earlier states.

    States 0 and 1 are the preprocessed outputs of the two cells before, states 2, 3, ... are
    the nodes. An operator's key starts with its source and its node: ``0_2_skip_connect``.
    The keys are sorted by node. ``gates`` scales each operator's output, in their order.
    """

    def __init__(
        self,
        preprocess0: nn.Module | None,
        preprocess1: nn.Module | None,
        operators: dict[str, nn.Module],
        concat: tuple[int, ...],
        gated: bool = False,
    ) -> None:
        super().__init__()
        self.preprocess0 = preprocess0
        self.preprocess1 = preprocess1
        self.operators = nn.ModuleDict(operators)
        self.concat = concat
        self.gates: Tensor | None
        self.register_buffer("gates", torch.ones(len(operators)) if gated else None)

    def forward(
        self, s0: Tensor, s1: Tensor, gates: list[Tensor] | Tensor | None = None
    ) -> Tensor:
        """Map the outputs of the two cells before to the concatenated nodes."""
        gates = self.gates if gates is None else gates
        states: dict[int, Tensor] = {}
        if self.preprocess0 is not None:
            states[0] = self.preprocess0(s0)
        if self.preprocess1 is not None:
            states[1] = self.preprocess1(s1)
        for index, (key, operator) in enumerate(self.operators.items()):
            source, node = map(int, key.split("_")[:2])
            output = operator(states[source])
            if gates is not None:
                output = gates[index] * output
            states[node] = states[node] + output if node in states else output
        return self.joined(states)

    def joined(self, states: dict[int, Tensor]) -> Tensor:
        """Concatenate the nodes that are put out."""
        return torch.cat([states[node] for node in self.concat], dim=1)


class CellNetwork(nn.Module):
    """Stem, cells in a row, classifier.

    The first cell reads the stem twice; or the stem, and a second one that goes on from it.
    Cells are keyed by their place in the row; a place without a cell is one whose output
    nobody reads.
    """

    def __init__(
        self,
        stem: nn.Module,
        cells: dict[str, Cell],
        classifier: nn.Module,
        stem1: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.stem = stem
        self.stem1 = stem1
        self.cells = nn.ModuleDict(cells)
        self.classifier = classifier

    def features(
        self,
        x: Tensor,
        gates: dict[str, list[Tensor]] | None = None,
        keep: tuple[str, ...] | None = None,
    ) -> dict[str, Tensor]:
        """Map ``(B, C, H, W)`` images to the outputs of cells: those to keep, or all."""
        s0 = s1 = self.stem(x)
        if self.stem1 is not None:
            s1 = self.stem1(s0)
        outputs: dict[str, Tensor] = {}
        for place in range(1 + max(map(int, self.cells))):
            key, output = str(place), s1
            if key in self.cells:
                output = self.cells[key](s0, s1, gates and gates[key])
                if keep is None or key in keep:
                    outputs[key] = output
            s0, s1 = s1, output
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(B, C, H, W)`` images to ``(B, classes)`` logits."""
        logits: Tensor = self.classifier(list(self.features(x).values())[-1])
        return logits
