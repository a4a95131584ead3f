"""What it costs a list to differ within itself: likeness of its items against the hits it keeps.

Run: python benchmarks/diversity.py BUNDLE

For each user's validation question, ten items out of the fifty best, by MMR and by DPP at several balances.
"""

import argparse
from pathlib import Path

import numpy as np

from llmrec.bundle import Bundle
from llmrec.decode.contract import Filters, Request
from llmrec.language_recommender import LanguageRecommender
from llmrec.retrieve.diversity import dpp, likeness_within, mmr, scaled

K, POOL = 10, 50
BALANCES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    bundle = Bundle(parser.parse_args().bundle)
    recommender = LanguageRecommender(bundle)
    histories = bundle.prepared.histories
    cases = bundle.prepared.cases(bundle.recipe.split, "valid")
    requests = [
        Request(histories.history(case.user, case.cut), filters=Filters(exclude_seen=True), user=case.user)
        for case in cases
    ]
    pools, scores = recommender.rank(requests, POOL)
    targets = np.array([case.target for case in cases])
    print(f"{recommender.setting}; {len(cases)} questions\n")
    print("| balance | MMR: likeness | recall@10 | DPP: likeness | recall@10 |\n|---:|---:|---:|---:|---:|")
    for balance in BALANCES:
        cells = []
        for choose in (mmr, dpp):
            likeness, hits = [], []
            for pool, own, target in zip(pools, scores, targets, strict=True):
                vectors = recommender.item_vectors(pool)
                chosen = choose(scaled(own), vectors, K, balance)
                likeness.append(likeness_within(vectors[chosen]))
                hits.append(target in pool[chosen])
            cells.append(f"{np.mean(likeness):.3f} | {np.mean(hits):.4f}")
        print(f"| {balance} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
