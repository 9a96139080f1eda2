"""What flows between the parts of a classifier."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class NetworkOutput:
    """Everything one forward pass of a classifier exposes.

    Attributes:
        stages: Feature maps of the backbone's stages, shallow to deep, each (N, C, H, W).
        features: Pooled vector of every head, each (N, D); the main network's is the last.
        logits: Class scores of every head, each (N, K); the main network's are the last.
    """

    stages: tuple[Tensor, ...]
    features: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]
