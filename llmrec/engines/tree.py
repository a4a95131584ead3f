"""Many continuations of a few prompts: each prompt's keys and values are kept once, for all of its branches.

What is tried after a prompt is a tree of tokens. A pass computes the new tokens of all prompts together: a
token looks at its prompt and at its ancestors, and stands at the position that it would have alone. Keys
and values of all tokens stay, in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from transformers import DynamicCache

from llmrec.errors import LlmrecError
from llmrec.model.attention import attention_inputs

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WHOLE = 1 << 25
"""Logits over the whole vocabulary that are in memory at a time, at most (but those of one row)."""


class TreeContinuations:
    """See `decode.continuations.Continuations`: the continuations of some prompts by a transformers model."""

    def __init__(
        self,
        model: PreTrainedModel,
        embed: Callable[[Tensor], Tensor],
        prompts: Sequence[Sequence[int]],
        batches: Iterator[np.ndarray],
    ) -> None:
        """`embed` gives the embeddings of ids on the CPU; `batches` are the prompts that go together."""
        if not all(map(len, prompts)):
            raise ValueError("a prompt is empty: nothing says what could come next")
        self._head = _OutputRows(model)
        self._cohorts: list[_Cohort] = []
        # Of each prefix: its cohort, and its number there.
        self._cohort, self._number = np.zeros((2, len(prompts)), dtype=np.int64)
        for batch in batches:
            self._cohort[batch] = len(self._cohorts)
            self._number[batch] = np.arange(len(batch))
            self._cohorts.append(_Cohort(model, embed, [prompts[row] for row in batch]))

    @property
    def prefixes(self) -> int:
        """Prefixes so far, the prompts included."""
        return len(self._number)

    @torch.inference_mode()
    def log_probabilities(
        self, parents: np.ndarray, tails: Sequence[np.ndarray], tokens: np.ndarray, whole: bool
    ) -> np.ndarray:
        """Log-probabilities of `tokens` after some prefixes, float32 [n, m]."""
        cohort, number = self._cohort[parents], self._number[parents]
        states: list[Tensor] = []
        places: list[np.ndarray] = []
        for which, own in enumerate(self._cohorts):
            rows = np.flatnonzero(cohort == which)
            if len(rows):
                number[rows], found = own.extend(number[rows], [tails[row] for row in rows.tolist()])
                states.append(found)
                places.append(rows)
        self._cohort, self._number = np.append(self._cohort, cohort), np.append(self._number, number)
        result = np.empty((len(parents), len(tokens)), dtype=np.float32)
        if states:
            values = self._head.log_probabilities(torch.cat(states), tokens, whole)
            result[np.concatenate(places)] = values.float().cpu().numpy()
        return result


class _Cohort:
    """Prompts that share a cache, filled up behind the prompts to one length, and the trees behind them.

    Of each prefix: `_slot` its prompt, `_depth` its tokens behind the prompt, and `_seen` bool [prefixes,
    columns] which columns of the cache behind the prompts are its tokens.
    """

    def __init__(
        self, model: PreTrainedModel, embed: Callable[[Tensor], Tensor], prompts: Sequence[Sequence[int]]
    ) -> None:
        self._model, self._embed = model, embed
        self._lengths = np.array([len(prompt) for prompt in prompts])
        ids = torch.zeros((len(prompts), int(self._lengths.max())), dtype=torch.int64)
        for row, prompt in enumerate(prompts):
            ids[row, : len(prompt)] = torch.as_tensor(prompt)
        self._cache = DynamicCache()
        states = self._run(embed(ids))  # causal: what fills a prompt up stands where it does not look
        last = torch.as_tensor(self._lengths - 1, device=states.device)
        self._states = states[torch.arange(len(prompts), device=states.device), last]
        self._slot, self._depth = np.arange(len(prompts)), np.zeros(len(prompts), dtype=np.int64)
        self._seen = np.zeros((len(prompts), 0), dtype=bool)
        self._positions = np.tile(np.arange(ids.shape[1]), (len(prompts), 1))  # of all columns

    def _run(self, embedded: Tensor, **more: object) -> Tensor:
        output = self._model.get_decoder()(
            inputs_embeds=embedded, past_key_values=self._cache, use_cache=True, **more
        )
        states: Tensor = output.last_hidden_state
        return states

    def extend(self, parents: np.ndarray, tails: Sequence[np.ndarray]) -> tuple[np.ndarray, Tensor]:
        """Prefixes, each a known one with a tail behind it: their numbers int64 [n], states [n, hidden]."""
        lengths = np.array([len(tail) for tail in tails])
        if (lengths[parents >= len(self._lengths)] == 0).any():
            raise ValueError("only behind a prompt may there be nothing")
        longer = np.flatnonzero(lengths)
        numbers, states = parents.copy(), self._states[torch.as_tensor(parents * (lengths == 0))]
        if len(longer):
            numbers[longer] = len(self._slot) + np.arange(len(longer))
            own = self._pass(parents[longer], [tails[row] for row in longer.tolist()], lengths[longer])
            states[torch.as_tensor(longer, device=own.device)] = own
        return numbers, states

    def _pass(self, parents: np.ndarray, tails: Sequence[np.ndarray], lengths: np.ndarray) -> Tensor:
        """States [n, hidden] at the ends of tails, none of them empty, which become prefixes."""
        order = np.argsort(self._slot[parents], kind="stable")
        row = np.repeat(order, lengths[order])  # the tail of each token, slot by slot
        slot = self._slot[parents][row]
        place = _within_runs(row)
        column = _within_runs(slot)
        width = int(column.max()) + 1
        ids = np.zeros((len(self._lengths), width), dtype=np.int64)
        ids[slot, column] = np.concatenate([tails[each] for each in order.tolist()])
        positions = np.zeros_like(ids)
        positions[slot, column] = self._lengths[slot] + self._depth[parents][row] + place
        among = np.arange(width)
        mine = (among <= column[:, None]) & (among >= (column - place)[:, None])
        visible = np.zeros((len(ids), width, self._positions.shape[1] + width), dtype=bool)
        prompt = self._positions.shape[1] - self._seen.shape[1]
        visible[:, :, :prompt] = (np.arange(prompt) < self._lengths[:, None])[:, None]
        visible[slot, column, prompt:-width] = self._seen[parents][row]
        visible[slot, column, -width:] = mine
        self._positions = np.concatenate([self._positions, positions], axis=1)
        states = self._run(self._embed(torch.as_tensor(ids)), **self._pattern(visible, positions))
        ends = np.flatnonzero(place == lengths[row] - 1)[np.argsort(order)]
        self._remember(parents, lengths, mine[ends])
        there = states[torch.as_tensor(slot[ends]), torch.as_tensor(column[ends])]
        return there

    def _pattern(self, visible: np.ndarray, positions: np.ndarray) -> dict[str, object]:
        device = self._states.device
        own = torch.as_tensor(positions, device=device)
        keys = torch.as_tensor(self._positions, device=device)
        pattern = attention_inputs(self._model, torch.as_tensor(visible, device=device), own, keys)
        return {"position_ids": own, **pattern}

    def _remember(self, parents: np.ndarray, lengths: np.ndarray, mine: np.ndarray) -> None:
        """Add prefixes whose tails are the new columns `mine` bool [n, width]."""
        self._slot = np.append(self._slot, self._slot[parents])
        self._depth = np.append(self._depth, self._depth[parents] + lengths)
        new = np.concatenate([self._seen[parents], mine], axis=1)
        old = np.pad(self._seen, ((0, 0), (0, mine.shape[1])))
        self._seen = np.concatenate([old, new])


class _OutputRows:
    """The output embeddings of a model, of which only the rows that are needed are used."""

    def __init__(self, model: PreTrainedModel) -> None:
        config, head = model.config.get_text_config(), model.get_output_embeddings()
        scaled = [getattr(config, name, None) for name in ("logits_scaling", "logit_scale")]
        if not isinstance(head, nn.Linear) or any(scale not in (None, 1, 1.0) for scale in scaled):
            raise LlmrecError(
                "the base model has an output layer that is no plain table of tokens: choose another model"
            )
        self._weight, self._bias = head.weight, head.bias
        self._softcap: float | None = getattr(config, "final_logit_softcapping", None)

    def log_probabilities(self, states: Tensor, tokens: np.ndarray, whole: bool) -> Tensor:
        """[n, m] for states [n, hidden]: in the whole vocabulary, or else with a constant for each row."""
        if len(tokens) and (tokens.min() < 0 or tokens.max() >= len(self._weight)):
            raise ValueError(f"a token is outside the model's vocabulary of {len(self._weight):,}")
        wanted = torch.as_tensor(tokens, device=states.device)
        if not whole:
            bias = None if self._bias is None else self._bias[wanted]
            return self._logits(states, self._weight[wanted], bias)
        found = torch.empty((len(states), len(tokens)), device=states.device)
        step = max(1, _WHOLE // len(self._weight))
        for start in range(0, len(states), step):
            logits = self._logits(states[start : start + step], self._weight, self._bias)
            found[start : start + step] = logits[:, wanted] - logits.logsumexp(dim=1, keepdim=True)
        return found

    def _logits(self, states: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        logits = nn.functional.linear(states, weight, bias).float()
        return logits if self._softcap is None else self._softcap * torch.tanh(logits / self._softcap)


def _within_runs(values: np.ndarray) -> np.ndarray:
    """0, 1, 2 ... within each run of equal numbers."""
    places = np.arange(len(values))
    starts = np.flatnonzero(np.diff(values, prepend=-1))
    found: np.ndarray = places - np.repeat(starts, np.diff(np.append(starts, len(values))))
    return found
