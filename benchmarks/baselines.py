"""Baselines at their best validation setting, on the test fold; prints a Markdown table.

Run: python benchmarks/baselines.py PREPARED [NAME ...]
"""

import sys
import time
from pathlib import Path

from llmrec.baselines.fitting import NAMES, fit_baseline
from llmrec.data.prepared import Prepared
from llmrec.evaluate.page import figure, table
from llmrec.evaluate.protocol import evaluate


def main() -> None:
    """Fit, evaluate with seen items left out, print."""
    prepared = Prepared(Path(sys.argv[1]))
    rows = []
    for name in sys.argv[2:] or NAMES:
        start = time.perf_counter()
        model = fit_baseline(name, prepared)
        seconds = time.perf_counter() - start
        row = evaluate(model, prepared).row
        rows.append(
            (name, model.setting or "–", figure(row, "recall@10"), figure(row, "ndcg@10"), f"{seconds:.1f}")
        )
    print(table(("model", "chosen setting", "test recall@10", "test ndcg@10", "seconds to fit"), rows))


if __name__ == "__main__":
    main()
