"""A moving average of the weights: steadier than the last step, and what is validated and kept."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from llmrec.tune.checkpoint import load_trainable, trainable


class WeightAverage:
    """Exponential moving average of what trains in a model.

    After update t (from 1) the average moves by 1 - min(decay, (1 + t) / (10 + t)), so that it follows the
    model quickly at first. With `decay` 0 it is the model itself and costs nothing.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model = model
        self._decay = decay
        self.values: dict[str, Tensor] = {}
        if decay:
            self.values = {name: value.detach().clone() for name, value in trainable(model).items()}

    @torch.no_grad()
    def follow(self, update: int) -> None:
        """Take in the model's weights after an update."""
        step = 1.0 - min(self._decay, (1 + update) / (10 + update))
        model = trainable(self._model)
        for name, value in self.values.items():
            value.lerp_(model[name], step)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averaged weights inside the block, and its own again behind it."""
        if not self.values:
            yield
            return
        own = {name: value.detach().clone() for name, value in trainable(self._model).items()}
        load_trainable(self._model, self.values)
        try:
            yield
        finally:
            load_trainable(self._model, own)
