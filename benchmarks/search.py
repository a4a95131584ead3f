"""Search at several sizes of catalogue: precision against exact scores, latency, memory, build time, filters.

Run: python benchmarks/search.py BUNDLE --out DIR [--sizes 10000,100000,1000000,10000000] [--threads 1]

Queries are real: the M user vectors of users of the bundle's test fold. Rows are drawn from the bundle's
trained item matrix V: a row of V, chosen at random, plus normal noise whose covariance is that of the
differences between rows of V and the rows closest to them, halved. So two rows drawn around one row of V
are about as far apart as neighbours in V. Block b of 65,536 rows comes from the random stream (seed, b): a
smaller catalogue is the beginning of a larger one, and the same seed gives the same rows. With one thread
the indexes are the same every time, too, and so are all figures but times.

Each size has a folder in DIR with its rows (float16, memory-mapped), its indexes, the exact lists, and one
file of results a kind of index; what is there is not made again, so that an interrupted run goes on, but
not with other rows of V, users or seed. Then report.md and search.svg are written for all sizes in DIR.

Times are of single requests, one after another, in three passes over all users: the fastest of a request's
three counts, so that other work of the machine does not.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faiss
import numpy as np
from same_settings import check_settings

from llmrec.decode.contract import Request
from llmrec.evaluate.environment import environment
from llmrec.files import read_json, replace_file, write_json
from llmrec.progress import note
from llmrec.retrieve.exact import exact_top_k
from llmrec.retrieve.index import ItemIndex
from llmrec.retrieve.indexing import build_index
from llmrec.retrieve.search import ItemSearch
from llmrec.retrieve.settings import SearchSettings
from llmrec.retrieve.storage import open_vectors, write_vectors

if TYPE_CHECKING:
    from llmrec.bundle import Bundle

BLOCK = 1 << 16
DEPTHS = (10, 100)
"""Lengths of lists."""
ROUNDS = range(6)
SHARES = (0.1, 0.01, 0.001)
"""Shares of the catalogue that filters leave."""
EXACT_REQUESTS = 10
"""Requests that exact search is timed with."""
ALLOWED = (1_000, 10_000, 20_000, 50_000, 100_000)
"""Numbers of allowed items that exact search is timed with."""
PASSES = 3


def user_vectors(bundle: Bundle, users: int, path: Path) -> np.ndarray:
    """User vectors of the first users of the test fold, float32 [users, M, inner], kept in `path`."""
    from llmrec.language_recommender import LanguageRecommender  # not in the processes that build

    if not path.is_file():
        histories = bundle.prepared.histories
        cases = bundle.prepared.cases(bundle.recipe.split, "test")[:users]
        requests = [Request(histories.history(case.user)[: case.cut], user=case.user) for case in cases]
        recommender = LanguageRecommender(bundle)
        parts = [recommender.user_vectors(requests[at : at + 16]) for at in range(0, len(requests), 16)]
        with replace_file(path) as temporary, temporary.open("wb") as handle:
            np.save(handle, np.concatenate(parts))
    found: np.ndarray = np.load(path, allow_pickle=False)
    return found


def drawn_rows(real: np.ndarray, items: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks of rows drawn around the rows of V, `real` [rows, inner]; see the module."""
    squares = (real**2).sum(axis=1)
    distances = squares[:, None] + squares - 2 * real @ real.T
    np.fill_diagonal(distances, np.inf)
    differences = (real - real[distances.argmin(axis=1)]).astype(np.float64)
    covariance = differences.T @ differences / (2 * len(real))
    values, axes = np.linalg.eigh(covariance)
    spread = (axes * np.sqrt(values.clip(min=0))).T.astype(np.float32)
    for block, start in enumerate(range(0, items, BLOCK)):
        rng = np.random.default_rng([seed, block])
        around = real[rng.integers(len(real), size=BLOCK)]
        rows = around + rng.standard_normal((BLOCK, real.shape[1]), dtype=np.float32) @ spread
        yield rows[: items - start]


def masks(vectors: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """What each filter leaves, bool [items]: random items, or those most like one item, as categories are."""
    found = {}
    for share in SHARES:
        rng = np.random.default_rng([seed, round(1 / share)])
        count = max(1, round(share * len(vectors)))
        by_chance = rng.random(len(vectors), dtype=np.float32)
        centre = np.asarray(vectors[rng.integers(len(vectors))], dtype=np.float32)
        alike = np.concatenate(
            [
                np.asarray(vectors[at : at + BLOCK], dtype=np.float32) @ centre
                for at in range(0, len(vectors), BLOCK)
            ]
        )
        for name, values in (("random", by_chance), ("alike", alike)):
            mask = np.zeros(len(vectors), dtype=bool)
            mask[np.argpartition(-values, count - 1)[:count]] = True
            found[f"{name} {share:.1%}"] = mask
    return found


def truth(vectors: np.ndarray, queries: np.ndarray, filters: dict[str, np.ndarray], path: Path) -> Any:
    """Exact lists int64 [users, 100] without a filter ("all") and with each, kept in `path`."""
    if not path.is_file():
        lists = {"all": exact_top_k(vectors, queries, max(DEPTHS))[0]}
        for name, mask in filters.items():
            rows = np.flatnonzero(mask)
            index = exact_top_k(vectors[rows], queries, max(DEPTHS))[0]
            lists[name] = np.where(index < 0, -1, rows[index])
        with replace_file(path) as temporary, temporary.open("wb") as handle:
            np.savez(handle, **lists)
    return np.load(path, allow_pickle=False)


def timed(
    search: ItemSearch, queries: np.ndarray, k: int, mask: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, float]]:
    """Lists int64 [users, k] of single requests; milliseconds: p50, p95, and the mean of processor time."""
    allowed = None if mask is None else mask[None]
    wall, processor = np.empty((PASSES, len(queries))), np.empty((PASSES, len(queries)))
    for turn in range(PASSES):
        lists = []
        for at, own in enumerate(queries):
            start, cpu = time.perf_counter(), time.process_time()
            lists.append(search.top_k(own[None], k, allowed)[0][0])
            wall[turn, at], processor[turn, at] = time.perf_counter() - start, time.process_time() - cpu
    p50, p95 = np.percentile(wall.min(axis=0), [50, 95]) * 1000
    return np.stack(lists), {"p50": p50, "p95": p95, "cpu": 1000 * processor.min(axis=0).mean()}


def precision(lists: np.ndarray, best: np.ndarray) -> float:
    """Mean share of the k exactly best items that are in the lists [users, k]."""
    shares = []
    for own, right in zip(lists, best[:, : lists.shape[1]], strict=True):
        right = right[right >= 0]
        shares.append(len(np.intersect1d(own, right)) / len(right))
    return float(np.mean(shares))


def measure_exact(vectors: np.ndarray, queries: np.ndarray, seed: int) -> dict[str, Any]:
    """Exact search of all items, and of so many random ones as a filter might leave, for comparison."""
    note(f"{len(vectors):,} items: exact search")
    results = {"kind": "exact", "items": len(vectors), "vectors_bytes": vectors.nbytes, "allowed": []}
    few, rng = queries[:EXACT_REQUESTS], np.random.default_rng(seed)
    for count in (each for each in ALLOWED if each < len(vectors)):
        mask = np.zeros(len(vectors), dtype=bool)
        mask[rng.choice(len(vectors), count, replace=False)] = True
        results["allowed"].append({"count": count, **timed(ItemSearch(vectors), few, DEPTHS[0], mask)[1]})
    results["took"] = {str(k): timed(ItemSearch(vectors), few, k)[1] for k in DEPTHS}
    return results


def measure_index(
    folder: Path, kind: str, queries: np.ndarray, filters: dict[str, np.ndarray], best: Any, threads: int
) -> dict[str, Any]:
    """Build an index of `kind` in a process of its own, and search with it."""
    vectors, directory = open_vectors(folder / "vectors.npy"), folder / kind
    built = folder / f"{kind}-build.json"
    if not (built.is_file() and directory.is_dir()):
        note(f"{len(vectors):,} items: building {kind}")
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            facts = pool.submit(_build, folder / "vectors.npy", directory, kind, threads).result()
        write_json(built, facts)
    note(f"{len(vectors):,} items: searching with {kind}")
    index = ItemIndex(directory)
    results: dict[str, Any] = {"kind": kind, "items": len(vectors), "vectors_bytes": vectors.nbytes}
    results["index_bytes"] = sum(path.stat().st_size for path in directory.iterdir())
    results["build"] = read_json(built, "build")
    results["rounds"] = []
    for k in DEPTHS:
        for rounds in ROUNDS:
            # Where all allowed items are few enough to be scored, search does not explore: here it must.
            settings = SearchSettings(kind, exact_up_to=0, rounds=rounds)
            lists, took = timed(ItemSearch(vectors, index, settings), queries, k)
            row = {"k": k, "rounds": rounds, "precision": precision(lists, best["all"]), **took}
            results["rounds"].append(row)
    results["filters"] = []
    for name, mask in filters.items():
        for k in DEPTHS:
            lists, took = timed(ItemSearch(vectors, index, SearchSettings(kind)), queries, k, mask)
            full = (lists >= 0).sum(axis=1) == min(k, mask.sum())
            if not (full.all() and mask[lists[lists >= 0]].all()):
                raise AssertionError(f"{name}: a list is short, or has an item that the filter forbids")
            row = {"filter": name, "allowed": int(mask.sum()), "k": k}
            results["filters"].append({**row, "precision": precision(lists, best[name]), **took})
    return results


def _build(vectors: Path, directory: Path, kind: str, threads: int) -> dict[str, float]:
    """Seconds to build an index, and the most memory that the process had, mapped files included."""
    faiss.omp_set_num_threads(threads)
    shutil.rmtree(directory, ignore_errors=True)
    start, processor = time.monotonic(), time.process_time()
    build_index(open_vectors(vectors), directory, kind)
    return {
        "seconds": time.monotonic() - start,
        "cpu_seconds": time.process_time() - processor,
        "peak_bytes": _most_memory(),
        "threads": threads,
    }


def _most_memory() -> int:
    """Bytes that this process had at most; `ru_maxrss` would count the process that started it, too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def run_size(
    folder: Path, items: int, kinds: list[str], real: np.ndarray, queries: np.ndarray, seed: int, threads: int
) -> None:
    """Everything about one size; what is done is not done again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vectors.npy"
    if not path.is_file():
        note(f"{items:,} items: drawing rows")
        with replace_file(path) as temporary:
            write_vectors(temporary, drawn_rows(real, items, seed), (items, real.shape[1]), "float16")
    vectors = open_vectors(path)
    filters = masks(vectors, seed)
    note(f"{items:,} items: exact lists")
    best = truth(vectors, queries, filters, folder / "truth.npz")
    makers: dict[str, Callable[[], dict[str, Any]]] = {"exact": lambda: measure_exact(vectors, queries, seed)}
    for kind in kinds:
        makers[kind] = lambda kind=kind: measure_index(folder, kind, queries, filters, best, threads)
    for kind, measure in makers.items():
        if not (folder / f"{kind}.json").is_file():
            write_json(folder / f"{kind}.json", measure())


def results_in(out: Path) -> list[dict[str, Any]]:
    """All results in DIR, by size and kind."""
    names = [path for kind in ("exact", "hnsw", "ivfpq") for path in out.glob(f"*/{kind}.json")]
    return sorted((read_json(path, "results") for path in names), key=lambda each: each["items"])


def mib(size: float) -> str:
    """Bytes for people."""
    return f"{size / 2**20:,.0f} MiB"


def report(results: list[dict[str, Any]], about: str) -> str:
    """The tables in Markdown."""
    indexed = [each for each in results if each["kind"] != "exact"]
    head = " | ".join(f"T = {rounds}" for rounds in ROUNDS)
    lines = [about, ""]
    for k in DEPTHS:
        lines += [f"Precision of the top {k} against exact scores, after T rounds:", ""]
        lines += [f"| items | index | {head} |", f"|---:|---|{'---:|' * len(ROUNDS)}"]
        for each in indexed:
            cells = " | ".join(f"{row['precision']:.4f}" for row in each["rounds"] if row["k"] == k)
            lines.append(f"| {each['items']:,} | {each['kind']} | {cells} |")
        lines += ["", f"Milliseconds a request for the top {k}, p50 / p95 (processor time):", ""]
        lines += [f"| items | index | {head} |", f"|---:|---|{'---:|' * len(ROUNDS)}"]
        for each in results:
            rows = [row for row in each.get("rounds", []) if row["k"] == k]
            cells = " | ".join(_times(row) for row in rows)
            if each["kind"] == "exact":
                cells = _times(each["took"][str(k)]) + " |" * (len(ROUNDS) - 1)
            lines.append(f"| {each['items']:,} | {each['kind']} | {cells} |")
        lines.append("")
    lines += ["Memory and building:", ""]
    lines += ["| items | index | rows | index | both | seconds to build (processor) | most memory then |"]
    lines += ["|---:|---|---:|---:|---:|---:|---:|"]
    for each in indexed:
        build, sizes = each["build"], (each["vectors_bytes"], each["index_bytes"])
        memory = " | ".join(mib(size) for size in (*sizes, sum(sizes)))
        lines.append(
            f"| {each['items']:,} | {each['kind']} | {memory} | "
            f"{build['seconds']:,.0f} ({build['cpu_seconds']:,.0f}) | {mib(build['peak_bytes'])} |"
        )
    if indexed:
        most = max(each["items"] for each in indexed)
        sums = ", ".join(
            f"{each['kind']} {mib(10 * (each['vectors_bytes'] + each['index_bytes']))}"
            for each in indexed
            if each["items"] == most
        )
        lines += ["", f"Rows and index grow with the items: for {10 * most:,} they would be {sums}."]
    lines += ["", "With filters (every list was full, and all of it allowed):", ""]
    lines += [
        "| items | index | filter leaves | allowed | precision@10 | precision@100 | ms for the top 10 |"
    ]
    lines += ["|---:|---|---|---:|---:|---:|---:|"]
    for each in indexed:
        for few, many in zip(each["filters"][::2], each["filters"][1::2], strict=True):
            lines.append(
                f"| {each['items']:,} | {each['kind']} | {few['filter']} | {few['allowed']:,} | "
                f"{few['precision']:.4f} | {many['precision']:.4f} | {_times(few)} |"
            )
    lines += ["", "Exact scores of allowed items alone, the top 10:", ""]
    lines += [f"| items | {' | '.join(f'{count:,} allowed' for count in ALLOWED)} |"]
    lines += [f"|---:|{'---:|' * len(ALLOWED)}"]
    for each in (one for one in results if one["kind"] == "exact"):
        took = {row["count"]: _times(row) for row in each["allowed"]}
        lines.append(f"| {each['items']:,} | {' | '.join(took.get(count, '') for count in ALLOWED)} |")
    return "\n".join(lines) + "\n"


def _times(row: dict[str, float]) -> str:
    return f"{row['p50']:.2f} / {row['p95']:.2f} ({row['cpu']:.2f})"


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Precision over milliseconds, a line for each size and kind, a point for each number of rounds."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "llmrec"  # the same figures give the same file
    from matplotlib import pyplot

    figure, both = pyplot.subplots(1, len(DEPTHS), figsize=(11, 4.5), sharey=True)
    for axes, k in zip(both, DEPTHS, strict=True):
        for each in (one for one in results if one["kind"] != "exact"):
            rows = [row for row in each["rounds"] if row["k"] == k]
            style = "o-" if each["kind"] == "hnsw" else "s--"
            label = f"{each['items']:,} items, {each['kind']}"
            axes.plot([row["cpu"] for row in rows], [row["precision"] for row in rows], style, label=label)
        axes.set(title=f"top {k}, T = 0 to 5", xlabel="processor time of a request, ms")
        axes.grid(alpha=0.3)
    both[0].set_ylabel("precision against exact scores")
    both[-1].legend(fontsize=8)
    figure.tight_layout()
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all sizes and write the report."""
    from llmrec.bundle import Bundle

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sizes", default="10000,100000,1000000,10000000")
    parser.add_argument("--kinds", default="hnsw,ivfpq")
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="Threads that build; one request has one.")
    given = parser.parse_args(arguments)
    given.out.mkdir(parents=True, exist_ok=True)
    bundle = Bundle(given.bundle)
    real = np.array(bundle.item_matrix(), dtype=np.float32)
    drawn_from = {"rows": sha256(real.tobytes()).hexdigest(), "users": given.users, "seed": given.seed}
    check_settings(given.out, drawn_from)
    queries = user_vectors(bundle, given.users, given.out / "users.npy")
    kinds = [kind for kind in given.kinds.split(",") if kind]
    for items in sorted(int(size) for size in given.sizes.split(",")):
        folder = given.out / str(items)
        run_size(folder, items, kinds, real, queries, given.seed, given.threads)
    machine = environment()
    about = (
        f"Rows drawn from the {len(real):,} trained rows of {bundle.prepared.name}, width {real.shape[1]}, "
        f"float16; {len(queries)} users with {queries.shape[1]} queries each; seed {given.seed}; "
        f"{machine['cores']} cores, one thread; faiss {faiss.__version__}, numpy {np.__version__}."
    )
    results = results_in(given.out)
    text = report(results, about)
    with replace_file(given.out / "report.md") as temporary:
        temporary.write_text(text, encoding="utf-8")
    plot(results, given.out / "search.svg")
    print(text)


if __name__ == "__main__":
    main()
