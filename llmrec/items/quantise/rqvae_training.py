"""Training of an RQ-VAE (TIGER section 3.1), with what keeps its codes alive.

Rounding has no gradient. Straight-through takes that of the decoder's input for that of the encoder's output;
the rotation trick (Fifty et al. 2024) turns and scales it as rounding turned and scaled the output, so that
vectors far from their codes learn which way to go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from llmrec.device import device_of
from llmrec.items.quantise.codebooks import Codebooks, fit_codebooks
from llmrec.items.quantise.residual import kmeans_book
from llmrec.items.quantise.rqvae import Layers, RqVaeQuantiser
from llmrec.items.quantise.settings import QuantiserSettings, RqVaeSettings

_SETTLING = 0.2
"""Share of the epochs, the last ones, in which no code starts anew."""
_TINY = 1e-8


class RqVae(nn.Module):
    """Encoder, codebooks and decoder; `books[l]` [sizes[l], inner]."""

    def __init__(self, width: int, settings: QuantiserSettings) -> None:
        super().__init__()
        widths = [width, *settings.rqvae.hidden, settings.rqvae.inner]
        self.settings = settings.rqvae
        self.encoder = _mlp(widths)
        self.decoder = _mlp(widths[::-1])
        self.books = nn.ParameterList(
            nn.Parameter(torch.zeros(size, settings.rqvae.inner)) for size in settings.sizes
        )

    def quantise(self, states: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Codes int64 [n, levels], what they stand for [n, inner] without gradient, the books' loss."""
        rest = states
        total = torch.zeros_like(states)
        codes = []
        loss = states.new_zeros(())
        for book in self.books:
            chosen = torch.cdist(rest.detach(), book.detach()).argmin(dim=1)
            picked = book[chosen]
            loss = loss + ((rest.detach() - picked) ** 2).sum(dim=1).mean()
            loss = loss + self.settings.commitment * ((rest - picked.detach()) ** 2).sum(dim=1).mean()
            rest = rest - picked.detach()
            total = total + picked.detach()
            codes.append(chosen)
        return torch.stack(codes, dim=1), total, loss

    def loss(self, vectors: torch.Tensor, coded: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Reconstruction plus codebook loss of vectors [n, width], a mean over them, and their codes.

        Without `coded` the decoder sees the encoder's states as they are.
        """
        states = self.encoder(vectors)
        if not coded:
            return ((self.decoder(states) - vectors) ** 2).sum(dim=1).mean(), None
        codes, total, books = self.quantise(states)
        passed = rotated(states, total) if self.settings.gradient == "rotation" else straight(states, total)
        return ((self.decoder(passed) - vectors) ** 2).sum(dim=1).mean() + books, codes


def straight(states: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """`rounded`, with the gradient of `states` [n, inner]."""
    return states + (rounded - states).detach()


def rotated(states: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """`rounded`, as a fixed rotation and scaling of `states` [n, inner], which the gradient passes.

    With unit vectors e of the state and q of the code, R = I - 2 r r' + 2 q e' where r is e + q at length 1.
    """
    length = states.detach().norm(dim=1, keepdim=True).clamp(min=_TINY)
    wanted = rounded.norm(dim=1, keepdim=True)
    start, end = states.detach() / length, rounded / wanted.clamp(min=_TINY)
    between = nn.functional.normalize(start + end, dim=1, eps=_TINY)
    turned = (
        states
        - 2 * (states * between).sum(dim=1, keepdim=True) * between
        + 2 * (states * start).sum(dim=1, keepdim=True) * end
    )
    out: torch.Tensor = turned * (wanted / length)
    return out


def fit_rqvae(
    vectors: np.ndarray,
    settings: QuantiserSettings,
    seed: int,
    device: str = "cpu",
    advance: Callable[[int], None] | None = None,
) -> RqVaeQuantiser:
    """Train an RQ-VAE on vectors [n, width]; `advance` is told of each epoch done.

    The random state of torch is as before afterwards.
    """
    mean = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    spread = float((vectors - mean).std(dtype=np.float64))
    scale = np.array([spread if spread > 1e-12 else 1.0], dtype=np.float32)
    device = device_of(device)
    devices = [torch.device(device)] if device != "cpu" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        network = RqVae(vectors.shape[1], settings).to(device)
        data = torch.from_numpy((vectors - mean) / scale).to(device)
        _train(network, data, settings, seed, advance or (lambda _: None))
    books = tuple(book.detach().cpu().numpy() for book in network.books)
    prices = tuple(np.zeros(size, dtype=np.float32) for size in settings.sizes)
    encoder, decoder = _layers(network.encoder), _layers(network.decoder)
    return RqVaeQuantiser(settings, mean, scale, encoder, Codebooks(books, prices), decoder)


def _train(
    network: RqVae, data: torch.Tensor, settings: QuantiserSettings, seed: int, advance: Callable[[int], None]
) -> None:
    how = settings.rqvae
    warmup = int(how.warmup * how.epochs)
    optimizer = torch.optim.AdamW(network.parameters(), lr=how.learning_rate, weight_decay=0.0)
    rng = torch.Generator().manual_seed(seed)
    for epoch in range(how.epochs):
        coded = epoch >= warmup
        if epoch == warmup:
            _start_books(network, data, settings, seed)
        used = [torch.zeros(size, dtype=torch.bool) for size in settings.sizes]
        for batch in _batches(data, how, rng):
            optimizer.zero_grad(set_to_none=True)
            loss, codes = network.loss(batch, coded)
            torch.autograd.backward(loss)
            optimizer.step()
            if codes is not None:
                for level, chosen in enumerate(codes.cpu().T):
                    used[level][chosen] = True
        if coded and how.restarts and epoch < (1 - _SETTLING) * how.epochs:
            _restart(network, data, used, rng, optimizer)
        advance(1)


def _batches(data: torch.Tensor, how: RqVaeSettings, rng: torch.Generator) -> Iterator[torch.Tensor]:
    order = torch.randperm(len(data), generator=rng)
    for rows in torch.split(order, how.batch):
        yield data[rows.to(data.device)]


@torch.no_grad()
def _start_books(network: RqVae, data: torch.Tensor, settings: QuantiserSettings, seed: int) -> None:
    """Codebooks by residual k-means of the encoder's states."""
    states = network.encoder(data).cpu().numpy()
    one = partial(kmeans_book, rounds=settings.rounds)
    found = fit_codebooks(states, settings.sizes, one, seed, shared=False)
    for book, start in zip(network.books, found.books, strict=True):
        book.copy_(torch.from_numpy(start))


@torch.no_grad()
def _restart(
    network: RqVae,
    data: torch.Tensor,
    used: list[torch.Tensor],
    rng: torch.Generator,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Codes that nothing chose in an epoch go to where points are: to random rests of their level."""
    dead = [(~each).nonzero().flatten() for each in used]
    if not sum(map(len, dead)):
        return
    most = max(map(len, dead))
    rows = torch.randint(len(data), (max(most, network.settings.batch),), generator=rng)
    rest = network.encoder(data[rows.to(data.device)])
    for book, gone in zip(network.books, dead, strict=True):
        here = gone.to(book.device)
        book[here] = rest[: len(gone)]
        for kept in optimizer.state[book].values():  # what the optimiser knows of the old codes
            if kept.shape == book.shape:
                kept[here] = 0
        rest = rest - book[torch.cdist(rest, book).argmin(dim=1)]
        rest = rest[torch.randperm(len(rest), generator=rng).to(rest.device)]


def _mlp(widths: list[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inside, outside in zip(widths, widths[1:], strict=False):
        layers += [nn.Linear(inside, outside), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _layers(network: nn.Sequential) -> Layers:
    linear = (layer for layer in network if isinstance(layer, nn.Linear))
    return [(each.weight.detach().cpu().numpy(), each.bias.detach().cpu().numpy()) for each in linear]
