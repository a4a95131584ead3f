"""The figure that early stopping follows: ndcg@10 of the validation cases, asked as they will be asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch

from llmrec.model.tuned import TunedModel
from llmrec.tune.collate import Example, collate
from llmrec.verbalize.sought import Sought


@torch.no_grad()
def target_ranks(
    model: TunedModel,
    questions: Sequence[tuple[Example, np.ndarray]],
    queries: int,
    batch: int,
    device: torch.device,
    search: Callable[[Sequence[Sought]], np.ndarray] | None = None,
) -> np.ndarray:
    """Rank (0 is best) of each question's target among the items not seen, int64 [questions].

    A question is an example with one tail, and the catalogue indices to leave out. Ties count against
    the target. `search` gives vectors of what is sought. Dropout is off while this runs; the model comes
    back in the mode it was in.
    """
    was_training = model.training
    model.eval()
    ranks = np.zeros(len(questions), dtype=np.int64)
    table = model.items()
    order = np.argsort([example.length for example, _ in questions], kind="stable")
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        examples = [questions[row][0] for row in rows]
        packed = collate(examples, queries, model.head.remembered, search=search).to(device)
        states = model(packed.ids, packed.visible, packed.positions).flatten(0, 1)
        at_queries = states[packed.query_rows].float()
        scores = model.best(at_queries, table, packed.query_recent, packed.query_search)
        targets = packed.query_targets
        wanted = scores.gather(1, targets[:, None]).clone()
        # All at once: a copy to the device for each question would take longer than the model.
        left_out = [questions[row][1] for row in rows]
        places = np.repeat(np.arange(len(rows)), [len(each) for each in left_out])
        gone = torch.from_numpy(np.stack([places, np.concatenate(left_out)]).astype(np.int64)).to(device)
        scores[gone[0], gone[1]] = -math.inf
        scores.scatter_(1, targets[:, None], -math.inf)
        ranks[rows] = (scores >= wanted).sum(1).cpu().numpy()
    model.train(was_training)
    return ranks


def ndcg_at_10(ranks: np.ndarray) -> float:
    """Mean of 1 / log2(rank + 2) over the ranks below 10, 0 for the others."""
    return float(np.where(ranks < 10, 1.0 / np.log2(ranks + 2.0), 0.0).mean()) if len(ranks) else 0.0
