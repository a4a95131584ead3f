"""Training that knows of the beam search to come (BEAR, arxiv.org/abs/2601.22925).

A beam of width B drops a target as soon as one of its codes is outside the B most likely ones of its step,
however likely the whole ID is. So codes are compared with the B-th most likely of their level: nothing is
decoded for it, and that B-th is taken as it is (no gradient flows into it).

The paper's formula and the code that its authors published differ; both are here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llmrec.tune.code_settings import BeamAware


def beam_aware(log_probabilities: Tensor, targets: Tensor, settings: BeamAware) -> tuple[Tensor, Tensor]:
    """What is added to the loss of each row, and the weight of each row: float32 [n] both.

    log_probabilities [n, codes] over the codes of a level, targets int64 [n]. With b the B-th largest of a
    row and p its target's: "penalty" adds weight * sigmoid((b - p) / temperature); "weight" gives the row
    1 + weight * sigmoid((p - b) / temperature), without gradient.
    """
    own = log_probabilities.gather(1, targets[:, None])[:, 0]
    nothing, one = torch.zeros_like(own), torch.ones_like(own)
    if settings.form == "none":
        return nothing, one
    width = min(settings.width, log_probabilities.shape[1])
    border = log_probabilities.detach().topk(width, dim=1).values[:, -1]
    if settings.form == "penalty":
        return settings.weight * torch.sigmoid((border - own) / settings.temperature), one
    inside = torch.sigmoid((own.detach() - border) / settings.temperature)
    return nothing, one + settings.weight * inside
