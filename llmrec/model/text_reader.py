"""The encoder of texts that a recipe names."""

from __future__ import annotations

from llmrec.items.encoders import Encoder, HashEncoder, TextEncoder
from llmrec.model.checkpoints import resolve


def text_reader(name: str) -> Encoder:
    """The encoder of a known name, a hub name or a directory; "hash" needs no model."""
    return HashEncoder() if name == "hash" else TextEncoder(resolve(name))
