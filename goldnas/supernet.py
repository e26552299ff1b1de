"""The super-network: every operator of a space at once, each behind a gate.

Notation of GOLD-NAS (arXiv:2007.03331): a gate is sigma(alpha); w~ is a gate divided by the
sum of the active gates that enter the same node; K is the number of those gates.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from goldnas.auxiliary_head import AuxiliaryHead
from goldnas.choice import Choice
from goldnas.errors import ConfigError
from goldnas.gated_cell import GatedCell
from goldnas.network import Cell, CellNetwork
from goldnas.spaces import Gate, SearchSpace
from goldnas.spaces.narrowing import shorten

Relaxation = Literal["sigmoid", "softmax", "none"]


class SuperNet(nn.Module):
    """A network with all operators of a space, gated, that shrinks as operators are pruned.

    One set, ``active``, says which gates are left; the forward pass, the normaliser, the
    cost, the pruning and the counts all read it. A pruned operator's module is removed.
    Operators are in *blocks*: cells, or choices.

    Args:
        space: The search space.
        auxiliary: Whether to train an auxiliary head beside the classifier, in a space of
            cells.
        checkpointing: Whether the backward pass computes the inside of blocks again instead
            of keeping it: about a third more time for a fraction of the memory.
        relaxation: ``sigmoid`` for gates that do not compete (GOLD-NAS), ``softmax`` for those
            of an edge that sum to 1 (DARTS), ``none`` for gates that are 1 and learn nothing.
    """

    active: Tensor
    node_sums: Tensor
    edge_sums: Tensor

    def __init__(
        self,
        space: SearchSpace,
        *,
        auxiliary: bool = False,
        checkpointing: bool = False,
        relaxation: Relaxation = "sigmoid",
    ) -> None:
        super().__init__()
        self.space = space
        self.relaxation = relaxation
        self.network = space.build(space.architecture(space.gates))
        self.alpha = nn.Parameter(torch.zeros(len(space.gates)))
        self.register_buffer("active", torch.ones(len(space.gates), dtype=torch.bool))
        self._index = {
            (block, gate.key): i for i, gate in enumerate(space.gates) for block in gate.blocks
        }
        self._blocks = tuple(dict.fromkeys(block for block, _ in self._index))
        nesting = space.wiring.nesting if space.wiring is not None else None
        self._parents = [None] * len(space.gates) if nesting is None else nesting.parents
        """Of each gate, the one whose operator has it within."""
        nodes = [gate.node_id for gate in space.gates]
        edges = [gate.edge_id for gate in space.gates]
        self.register_buffer("node_sums", _membership(nodes), persistent=False)
        self.register_buffer("edge_sums", _membership(edges), persistent=False)
        self.auxiliary: AuxiliaryHead | None = None
        if space.cell_layout is not None:
            self._prepare_cells(space, auxiliary, checkpointing)
            return
        if auxiliary:
            raise ConfigError(f"space {space.name} has no cells, and so has no auxiliary head")
        for block in self._blocks:
            choice = self._block(block)
            assert isinstance(choice, Choice)
            choice.checkpointing = checkpointing

    def _prepare_cells(self, space: SearchSpace, auxiliary: bool, checkpointing: bool) -> None:
        """Give cells their faster training pass, and one of them its head."""
        for block in self._blocks:
            cell = self.network.get_submodule(block)
            assert isinstance(cell, Cell)
            gated = GatedCell.from_cell(cell)
            gated.checkpointing = checkpointing
            self.network.set_submodule(block, gated)
        assert isinstance(self.network, CellNetwork)
        cells = [int(key) for key in self.network.cells]
        place = space.place_auxiliary(cells)
        assert place is not None  # where there are cells there is one
        self.last_cell, self.auxiliary_cell = str(max(cells)), str(place.cell)
        if auxiliary:
            self.auxiliary = AuxiliaryHead(place.channels, space.classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Map ``(B, C, H, W)`` to ``(B, classes)`` logits, and to the auxiliary ones or None.

        In evaluation mode there are no auxiliary logits.
        """
        gates = self._block_gates()
        if isinstance(self.network, CellNetwork):
            return self._of_cells(self.network, images, gates)
        choices = {block: self._block(block) for block in gates}
        for block, choice in choices.items():
            choice.live_gates = gates[block]
        try:
            logits: Tensor = self.network(images)
        finally:
            for choice in choices.values():
                choice.live_gates = None
        return logits, None

    def _of_cells(
        self, network: CellNetwork, images: Tensor, gates: dict[str, list[Tensor]]
    ) -> tuple[Tensor, Tensor | None]:
        # All others go as soon as they were read: they would be a tenth of a step's memory.
        features = network.features(
            images,
            {block.removeprefix("cells."): values for block, values in gates.items()},
            keep=(self.auxiliary_cell, self.last_cell),
        )
        logits: Tensor = network.classifier(features[self.last_cell])
        if self.auxiliary is None or not self.training:
            return logits, None
        return logits, self.auxiliary(features[self.auxiliary_cell])

    def gates(self) -> Tensor:
        """sigma(alpha), the softmax, or 1, of active gates and 0 of pruned ones, ``(G,)``."""
        if self.relaxation == "none":
            return self.active.to(self.alpha.dtype)
        if self.relaxation == "sigmoid":
            return torch.sigmoid(self.alpha) * self.active
        exponentials = torch.exp(self.alpha - self.alpha.detach().max()) * self.active
        sums = self.edge_sums.T @ (self.edge_sums @ exponentials)
        # An edge without an operator sums to 0.
        return exponentials / torch.where(self.active, sums, 1.0)

    def relative_weights(self) -> Tensor:
        """K w~: a gate relative to the mean of the active gates of its node, ``(G,)``.

        1 for an average operator, 0 for a pruned one.
        """
        gates = self.gates()
        mean = (self.node_sums @ gates) / self._active_per_node()
        # A node without an operator sums to 0.
        return gates / torch.where(self.active, self.node_sums.T @ mean, 1.0)

    def normalised_weights(self) -> Tensor:
        """w~: a gate's share of the active gates of its node, ``(G,)``; 0 for a pruned one."""
        return self.relative_weights() / (self.node_sums.T @ self._active_per_node())

    def penalty(self, gate_costs: Tensor) -> Tensor:
        """Sum over active gates of cost * ln(1 + K w~): what the penalty lowers.

        Args:
            gate_costs: ``(G,)``; ones for the uniform combination.

        Source:
            GOLD-NAS; the same K and the same normaliser as pruning and counting use.
        """
        return (gate_costs * torch.log1p(self.relative_weights())).sum()

    def prune(self, indices: Iterable[int]) -> list[nn.Parameter]:
        """Remove operators, and the choices within them; return the parameters that went."""
        removed: list[nn.Parameter] = []
        for index in indices:
            gate = self.space.gates[index]
            going = [i for i in self._with_nested(index) if self.active[i]]
            for block in gate.blocks if self.active[index] else ():
                operators = self._operators(block)
                for key in [self.space.gates[i].key for i in going if self._is_at(i, gate)]:
                    removed += operators[key].parameters()
                    del operators[key]
            self.active[going] = False
        return removed

    def _is_at(self, index: int, gate: Gate) -> bool:
        """Whether a gate is at the place of another, as blocks of channels are."""
        return self.space.gates[index].place == gate.place

    def _with_nested(self, index: int) -> list[int]:
        """A gate, and those of the choices within its operator."""
        wiring = self.space.wiring
        return [index] if wiring is None else [index, *wiring.nesting.within(index)]

    @contextmanager
    def restrict(self, mask: Tensor) -> Iterator[None]:
        """Be the network of some gates for a while: no other operator runs, learns or counts.

        Args:
            mask: Boolean ``(G,)``, the gates that stay; what is within others goes with them.
        """
        active = self.active
        modules = {block: self._block(block) for block in self._present_blocks()}
        whole = {block: module.operators for block, module in modules.items()}
        self.active = mask.to(active.device) & active
        for index, parent in enumerate(self._parents):
            if parent is not None and not self.active[parent]:
                self.active[index] = False
        kept = {(block, gate.key) for gate in self.active_gates() for block in gate.blocks}
        for block, operators in whole.items():
            # The order is that of the whole, which the gates follow.
            modules[block].operators = nn.ModuleDict(
                {key: module for key, module in operators.items() if (block, key) in kept}
            )
        try:
            yield
        finally:
            self.active = active
            for block, operators in whole.items():
                modules[block].operators = operators

    def active_gates(self) -> list[Gate]:
        """The gates that are left, in the space's order."""
        return [
            gate
            for gate, kept in zip(self.space.gates, self.active.tolist(), strict=True)
            if kept
        ]

    def network_state(self) -> dict[str, Tensor]:
        """Weights of the network that is left, its gates included, as a state dict on the CPU.

        It loads into ``space.build(architecture, gated=True)``.
        """
        unread: frozenset[str] = frozenset()
        if self.space.wiring is not None:
            unread = self.space.wiring.unread(self.active.nonzero().flatten().tolist())
        state = {
            name: value.detach().cpu().clone()
            for name, value in self.network.state_dict().items()
            if not any(name.startswith(f"{path}.") for path in unread)
        }
        with torch.no_grad():
            for block, gates in self._block_gates().items():
                if any(block.startswith(f"{path}.") for path in unread):
                    continue
                keys = self._operators(block)
                read = [
                    gate
                    for key, gate in zip(keys, gates, strict=True)
                    if f"{block}.operators.{key}" not in unread
                ]
                state[f"{block}.gates"] = torch.stack(read).cpu() if read else torch.ones(0)
        if not self.space.combinations:
            return state
        architecture = self.space.architecture(self.active_gates())
        with torch.random.fork_rng(devices=[]):
            like = self.space.build(architecture, gated=True).state_dict()
        return shorten(state, like)

    def take_network_state(self, state: Mapping[str, Tensor]) -> None:
        """Take over the weights and statistics of the network that is left, but no gates.

        Channels that it does not have become zeros.
        """
        with torch.no_grad():
            for name, mine in self.network.state_dict().items():
                if name in state:
                    mine.zero_()[tuple(map(slice, state[name].shape))] = state[name]

    def _block_gates(self) -> dict[str, list[Tensor]]:
        """The active gates of each block, in the order of its operators."""
        values = self.gates().unbind()
        return {
            block: [values[self._index[block, key]] for key in self._operators(block)]
            for block in self._present_blocks()
        }

    def _present_blocks(self) -> list[str]:
        """The blocks that are within no operator which is pruned."""
        owners: dict[str, int | None] = {}
        for (block, _), index in self._index.items():
            owners.setdefault(block, self._parents[index])
        active = self.active.tolist()
        return [b for b in self._blocks if (owner := owners[b]) is None or active[owner]]

    def _active_per_node(self) -> Tensor:
        """K of every node, ``(N,)``; 1 of an empty one."""
        return (self.node_sums @ self.active.to(self.node_sums.dtype)).clamp(min=1)

    def _block(self, block: str) -> Cell | Choice:
        module = self.network.get_submodule(block)
        assert isinstance(module, Cell | Choice)
        return module

    def _operators(self, block: str) -> nn.ModuleDict:
        """The operators that are left in a block, by key."""
        return self._block(block).operators


def _membership(groups: Sequence[Hashable]) -> Tensor:
    """A matrix that sums over the members of each group, ``(groups, members)``."""
    rows = {group: row for row, group in enumerate(dict.fromkeys(groups))}
    membership = torch.zeros(len(rows), len(groups))
    for column, group in enumerate(groups):
        membership[rows[group], column] = 1.0
    return membership
