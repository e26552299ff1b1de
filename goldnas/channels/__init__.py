"""Coupled channels of a network, and residual branches that can be removed.

Removing a channel of one convolution changes every layer that reads it, and every layer whose
output is added to it. This package follows these couplings through the graph of the network, as
``torch.fx`` traces it.
"""

from goldnas.channels.branches import find_branches
from goldnas.channels.compensation import compensate
from goldnas.channels.coupling import (
    ChannelGroup,
    Coupling,
    Input,
    LayerCall,
    LayerChannels,
    Role,
)
from goldnas.channels.cutting import cut, remove_branches
from goldnas.channels.following import find_coupling
from goldnas.channels.layers import CHANNELWISE, cut_layer

__all__ = [
    "CHANNELWISE",
    "ChannelGroup",
    "Coupling",
    "Input",
    "LayerCall",
    "LayerChannels",
    "Role",
    "compensate",
    "cut",
    "cut_layer",
    "find_branches",
    "find_coupling",
    "remove_branches",
]
