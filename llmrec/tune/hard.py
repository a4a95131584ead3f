"""Hard negatives: what the model itself ranks first although it is not the target, by exact search over V."""

from __future__ import annotations

import torch
from torch import Tensor

from llmrec.model.query_head import best_scores
from llmrec.model.tuned import TunedModel
from llmrec.tune.collate import Batch

_CHUNK = 1 << 16
"""Items scored at a time."""


@torch.no_grad()
def hardest(model: TunedModel, batch: Batch, prompts: int, top: int, known: Tensor | None = None) -> Tensor:
    """The `top` best items but the target, of `prompts` prompts of a batch (again from the first, if fewer).

    int64 [prompts * top] on the batch's device, best first for each prompt; `known` int64 are the items to
    search among (default all, and more than `top`). The batch has at least one prompt. Dropout is off.
    """
    was_training = model.training
    model.eval()
    count, device = len(batch.query_targets), batch.ids.device
    chosen = torch.arange(prompts, device=device) % count
    states = model(batch.ids, batch.visible, batch.positions).flatten(0, 1)
    states = states[batch.query_rows[chosen]].float()
    past, search, recent = None, batch.query_search[chosen], batch.query_recent[chosen]
    if model.head.remembered:
        table = model.items(recent.clamp(min=0).flatten())
        places = torch.arange(recent.numel(), device=device).view_as(recent)
        past = model.head.of_recent(table, torch.where(recent >= 0, places, -1), model.asks(search))
    vectors = model.query_vectors(states, past, search)
    items = torch.arange(len(model.items.text_vectors)) if known is None else known
    targets = batch.query_targets[chosen][:, None]
    scores, found = vectors.new_empty(prompts, 0), targets[:, :0]
    for index in torch.split(items.to(device), _CHUNK):
        some = best_scores(vectors, model.items(index))
        some = model.head.gain_of_seen(some, index, recent, model.asks(search))
        some = some.masked_fill(index == targets, float("-inf"))
        scores = torch.cat([scores, some], dim=1)
        found = torch.cat([found, index.expand(prompts, -1)], dim=1)
        scores, order = scores.topk(min(top, scores.shape[1]), dim=1)
        found = found.gather(1, order)
    model.train(was_training)
    return found.flatten()
