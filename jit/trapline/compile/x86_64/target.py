"""What the code of one module is made for: the instances it fits, the processor, the kind of its memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from trapline.arch.x86_64.features import Features, host_features
from trapline.compile.instance import InstanceLayout

__all__ = ["Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Everything that emission must know besides a function.

    `checked` code compares every address with the size of the memory; without, the memory's reservation catches all
    that lies below 2 GiB of offset.
    """

    layout: InstanceLayout
    features: Features = field(default_factory=host_features)
    checked: bool = False
