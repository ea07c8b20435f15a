"""Networks that say themselves which of their layers hold units that count as neurons."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import nn

Kind = Literal["conv channels", "linear units", "recurrent units", "attention heads", "classifier inputs"]


PREFIX = "module."
"""What the names of layers begin with in a network around somebody's module, who knows them without it."""


class Choosing(nn.Module):
    """A network whose owner may have named the layers that count.

    Attributes:
        units: by qualified name, what a layer's units are, None where its type says so; None as a whole to find them.
    """

    units: Mapping[str, Kind | None] | None = None
