"""Where the id part starts: at what the training events already say about items."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import svds

from llmrec.data.events import Histories


def collaborative_start(histories: Histories, items: int, width: int) -> np.ndarray:
    """Item factors of a truncated SVD of the users-by-items matrix, float32 [items, width], spread 1.

    Entries are 1 for an observed pair, divided by the square root of the item's count and scaled to unit
    rows, as in PureSVD with popularity held down. Columns beyond the matrix's rank are zero. The same
    events give the same factors.
    """
    users = np.repeat(np.arange(len(histories)), np.diff(histories.offsets))
    matrix = sparse.csr_matrix(
        (np.ones(len(users)), (users, histories.items)), shape=(len(histories), items), dtype=np.float64
    )
    matrix.data[:] = 1.0
    counts = np.asarray(matrix.sum(axis=0)).ravel()
    matrix = matrix @ sparse.diags(1.0 / np.sqrt(np.maximum(counts, 1.0)))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    matrix = sparse.diags(1.0 / np.maximum(norms, 1e-12)) @ matrix
    rank = min(width, min(matrix.shape) - 1)
    factors = np.zeros((items, width))
    if rank >= 1 and matrix.nnz:
        start = np.random.default_rng(0).standard_normal(min(matrix.shape))
        _, values, right = svds(matrix, k=rank, v0=start)
        order = np.argsort(-values)
        signs = np.where(right.sum(axis=1) < 0, -1.0, 1.0)[:, None]  # of either sign, the SVD is as good
        factors[:, :rank] = ((right * signs)[order].T) * np.sqrt(np.maximum(values[order], 0.0))
    spread = factors.std()
    return (factors / spread if spread > 0 else factors).astype(np.float32)
