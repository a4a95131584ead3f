"""RQ-VAE (TIGER section 3.1): residual codebooks in the space of a small encoder. Used without torch.

`quantise.rqvae_training` makes one; here are the trained parts, as arrays.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llmrec.items.quantise.codebooks import Codebooks
from llmrec.items.quantise.contract import checked
from llmrec.items.quantise.settings import QuantiserSettings

Layers = Sequence[tuple[np.ndarray, np.ndarray]]
"""Weights [out, in] and biases [out] of linear layers; a ReLU stands between any two."""


class RqVaeQuantiser:
    """An encoder, codebooks in its space, a decoder; vectors are centred and scaled first."""

    def __init__(
        self,
        settings: QuantiserSettings,
        mean: np.ndarray,
        scale: np.ndarray,
        encoder: Layers,
        codebooks: Codebooks,
        decoder: Layers,
    ) -> None:
        """`mean` float32 [width]; `scale` float32 [1], what centred vectors are divided by."""
        self.settings = settings
        self.width = len(mean)
        self.codebooks = codebooks
        self._mean, self._scale = mean, scale
        self._encoder, self._decoder = encoder, decoder

    def codes(self, vectors: np.ndarray) -> np.ndarray:
        """See `Quantiser.codes`."""
        return self.codebooks.codes(self._encoded(vectors))

    def assign(self, vectors: np.ndarray) -> np.ndarray:
        """See `Quantiser.assign`."""
        return self.codes(vectors)

    def costs(self, vectors: np.ndarray, prefixes: np.ndarray) -> np.ndarray:
        """See `Quantiser.costs`; distances are in the encoder's space."""
        return self.codebooks.costs(self._encoded(vectors), prefixes)

    def reconstruct(self, codes: np.ndarray) -> np.ndarray:
        """See `Quantiser.reconstruct`."""
        decoded = forward(self._decoder, self.codebooks.total(codes))
        decoded *= self._scale
        decoded += self._mean
        return decoded

    def arrays(self) -> dict[str, np.ndarray]:
        """See `Quantiser.arrays`."""
        found = {"mean": self._mean, "scale": self._scale, **self.codebooks.arrays()}
        for name, layers in (("encoder", self._encoder), ("decoder", self._decoder)):
            for at, (weight, bias) in enumerate(layers):
                found |= {f"{name}_{at}_weight": weight, f"{name}_{at}_bias": bias}
        return found

    @classmethod
    def from_arrays(cls, settings: QuantiserSettings, arrays: dict[str, np.ndarray]) -> RqVaeQuantiser:
        """What `arrays` gave."""
        count = len(settings.rqvae.hidden) + 1
        encoder, decoder = (
            [(arrays[f"{name}_{at}_weight"], arrays[f"{name}_{at}_bias"]) for at in range(count)]
            for name in ("encoder", "decoder")
        )
        codebooks = Codebooks.from_arrays(arrays, len(settings.sizes))
        return cls(settings, arrays["mean"], arrays["scale"], encoder, codebooks, decoder)

    def _encoded(self, vectors: np.ndarray) -> np.ndarray:
        return forward(self._encoder, (checked(vectors, self.width) - self._mean) / self._scale)


def forward(layers: Layers, states: np.ndarray) -> np.ndarray:
    """What linear layers with ReLU between them make of states [n, in]."""
    for at, (weight, bias) in enumerate(layers):
        states = np.maximum(states, 0) @ weight.T + bias if at else states @ weight.T + bias
    return states
