"""Losses of writing codes: a softmax over the codes of a level where only they can follow, or over words."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from llmrec.model.code_model import CodeModel
from llmrec.tune.beam_aware import beam_aware
from llmrec.tune.code_settings import TASKS, BeamAware
from llmrec.tune.passages import CodeBatch


class CodeLoss(nn.Module):
    """Runs the model on a batch and returns the mean loss of each of `TASKS`."""

    words: Tensor

    def __init__(
        self,
        model: CodeModel,
        words: np.ndarray,
        smoothing: float = 0.0,
        beams: BeamAware | None = None,
    ) -> None:
        """`words` int64, sorted, are the tokens that titles are made of; no other word is ever a target."""
        super().__init__()
        self.model = model
        self.register_buffer("words", torch.from_numpy(np.asarray(words, dtype=np.int64)), persistent=False)
        self.smoothing = smoothing
        self.beams = beams or BeamAware()

    def forward(self, batch: CodeBatch) -> tuple[Tensor, ...]:
        """Mean loss a token, task by task; zero for a task without tokens in the batch."""
        states = self.model(batch.ids, batch.visible, batch.positions).flatten(0, 1)
        with torch.autocast(states.device.type, enabled=False):  # logits and softmax in full precision
            read = self.model.dropout(states[batch.rows].float())
            losses, weights = self._by_token(read, batch.targets)
            found = []
            for task in range(len(TASKS)):
                own = batch.tasks == task
                total = (weights * losses)[own].sum()
                found.append(total / weights[own].sum().clamp(min=1e-9))
        return tuple(found)

    def _by_token(self, states: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and weight of each read, float32 [n]."""
        tokens = self.model.tokens
        losses, weights = states.new_zeros(len(states)), states.new_ones(len(states))
        for level, start in enumerate(tokens.starts[:-1]):
            own = torch.nonzero((targets >= start) & (targets < tokens.starts[level + 1]))[:, 0]
            logits = self.model.code_logits(states[own], level)
            wanted = targets[own] - start
            loss = functional.cross_entropy(logits, wanted, reduction="none", label_smoothing=self.smoothing)
            added, weight = beam_aware(functional.log_softmax(logits, 1), wanted, self.beams)
            losses, weights = losses.index_put((own,), loss + added), weights.index_put((own,), weight)
        own = torch.nonzero(targets < tokens.first)[:, 0]
        if len(own):
            logits = self.model.word_logits(states[own], self.words)
            wanted = torch.searchsorted(self.words, targets[own])
            losses = losses.index_put((own,), functional.cross_entropy(logits, wanted, reduction="none"))
        return losses, weights
