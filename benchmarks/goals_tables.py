"""The tables of benchmarks/goals.py: one universal model beside specialists, from what each reached."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data.prepared import Prepared
from llmrec.evaluate.bootstrap import compare
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import Evaluation, comparison
from llmrec.files import read_json
from llmrec.tune.goals import GoalMaker

UNIVERSAL = "universal"
COMPARED = ("ndcg@10", "recall@10")
WAYS = (False, True, "served")
"""Without words, with them, and with what filters can hold of them enforced."""
Answered = Mapping[tuple[str, bool | str], Evaluation]
"""What a model reached, by goal and one of `WAYS`."""


def evaluations(figures: Path) -> dict[tuple[str, bool | str], Evaluation]:
    """What a finished model reached; {} while there is no such file."""
    if not figures.is_file():
        return {}
    found = read_json(figures, "figures")
    return {
        (row["objective"].partition(":")[2], "served" if row["enforced"] else row["said"]): Evaluation(
            row, {metric: np.array(values) for metric, values in each.items()}
        )
        for row, each in zip(found["rows"], found["per_user"], strict=True)
    }


def heard(found: Answered, goal: str) -> Evaluation | None:
    """The lists with the goal's words; for a goal without words those without."""
    return found.get((goal, True)) or found.get((goal, False))


def served(found: Answered, goal: str) -> Evaluation | None:
    """The lists as answers are served: limits enforced where filters can hold them."""
    return found.get((goal, "served")) or heard(found, goal)


def asked(found: Answered, goal: str, way: bool | str) -> Evaluation | None:
    """The lists of a goal asked in one of `WAYS`."""
    find = {True: heard, "served": served}
    return find[way](found, goal) if way in find else found.get((goal, way))


def mean(values: Sequence[float]) -> float | None:
    """The mean over seeds, None for no value."""
    return statistics.fmean(values) if values else None


def shown(value: float | None, form: str = ".4f") -> str:
    """A figure of a table; a dash for none."""
    return "–" if value is None else format(value, form)


class Tables:
    """The tables of one dataset from the models that are done."""

    def __init__(
        self,
        found: Mapping[str, Mapping[int, Answered]],
        goals: GoalMaker,
        popular: Sequence[Evaluation],
    ) -> None:
        """`found`: what finished models reached, by name and seed; `popular`: popularity's answers."""
        self.found, self.goals, self.popular = found, goals, popular
        universal = self.found.get(UNIVERSAL, {})
        self.asked = list(dict.fromkeys(goal for done in universal.values() for goal, _ in done))
        self.seeds = len(universal)

    def figure(self, model: str, goal: str, metric: str, way: bool | str = True) -> float | None:
        """Mean over seeds of a model's figure for a goal, asked in one of `WAYS`."""
        rows = [asked(done, goal, way) for done in self.found.get(model, {}).values()]
        return mean([each.row[metric] for each in rows if each is not None and metric in each.row])

    def lead(self, goal: str, metric: str, way: bool | str = True) -> float | None:
        """How much better the universal model is than the goal's specialist, as a share of its figure."""
        ours, theirs = self.figure(UNIVERSAL, goal, metric, way), self.figure(goal, goal, metric, way)
        return ours / theirs - 1 if ours is not None and theirs else None

    def bounds(self, goal: str, metric: str, way: bool | str = True) -> str:
        """95% interval of universal minus specialist, paired over users; means over seeds are compared."""
        ours, theirs = (self.per_user(model, goal, metric, way) for model in (UNIVERSAL, goal))
        if ours is None or theirs is None:
            return "–"
        found = compare(ours, theirs)
        return f"{found.low:+.4f} to {found.high:+.4f}"

    def per_user(self, model: str, goal: str, metric: str, way: bool | str) -> np.ndarray | None:
        """A model's figures for each question of a goal, mean over seeds; None where it was not asked."""
        found = [asked(done, goal, way) for done in self.found.get(model, {}).values()]
        rows = [each.per_user[metric] for each in found if each is not None]
        return np.mean(rows, axis=0) if rows else None

    def comparisons(self) -> list[dict[str, Any]]:
        """Universal against the goal's specialist, paired over users, for each seed and metric."""
        return [
            comparison(ours, theirs, metric)
            for goal in self.asked
            for seed, done in self.found[UNIVERSAL].items()
            for way in WAYS[1:]
            if (ours := done.get((goal, way)))
            and (theirs := self.found.get(goal, {}).get(seed, {}).get((goal, way)))
            for metric in COMPARED
        ]

    def rows(self) -> list[dict[str, Any]]:
        """All rows for report.json."""
        runs = (done for by_seed in self.found.values() for done in by_seed.values())
        return [each.row for each in self.popular] + [each.row for done in runs for each in done.values()]

    def versus(self) -> Iterator[str]:
        """The tables of universal against specialists, the models alone and as served, and their sums."""
        trained = [goal for goal in self.asked if "+" not in goal]
        for title, way in (
            ("The models alone.", True),
            ("As served: what filters can hold is enforced.", "served"),
        ):
            yield title
            yield self._versus(trained, way)
            for metric in COMPARED:
                leads = {goal: lead for goal in trained if (lead := self.lead(goal, metric, way)) is not None}
                if leads:
                    worst = min(leads, key=lambda goal: leads[goal])
                    average = statistics.fmean(leads.values())
                    yield (
                        f"{metric}: the universal model is {average:+.1%} on average over {len(leads)} "
                        f"goals; at worst {leads[worst]:+.1%} ({worst})."
                    )

    def _versus(self, trained: Sequence[str], way: bool | str) -> str:
        """One of these tables."""
        popular = {each.row["objective"].partition(":")[2]: each.row["ndcg@10"] for each in self.popular}
        header = ["goal", "questions", "popularity", "no words", "universal", "specialist", "difference"]
        header += ["95% interval", "recall@10 universal", "specialist", "difference"]
        lines = []
        for goal in trained:
            lines.append(
                [
                    goal,
                    shown(self.figure(UNIVERSAL, goal, "users"), ",.0f"),
                    shown(popular.get(goal)),
                    shown(self.figure(UNIVERSAL, goal, "ndcg@10", False)),
                    shown(self.figure(UNIVERSAL, goal, "ndcg@10", way)),
                    shown(self.figure(goal, goal, "ndcg@10", way)),
                    shown(self.lead(goal, "ndcg@10", way), "+.1%"),
                    self.bounds(goal, "ndcg@10", way),
                    shown(self.figure(UNIVERSAL, goal, "recall@10", way)),
                    shown(self.figure(goal, goal, "recall@10", way)),
                    shown(self.lead(goal, "recall@10", way), "+.1%"),
                ]
            )
        return table(header, lines)

    def instruction(self) -> Iterator[str]:
        """What saying the goal does to the universal model's lists."""
        header = ["goal"]
        columns = ("long_tail@10", "coverage", "honoured@10", "ndcg@10")
        for column in columns:
            header += [f"{column}, no words", "said"]
        lines = [
            [goal, *(shown(self.figure(UNIVERSAL, goal, c, said)) for c in columns for said in (False, True))]
            for goal in self.asked
        ]
        yield table(header, lines)

    def combinations(self) -> Iterator[str]:
        """Goals at once, trained and never trained, beside the specialists of their parts."""
        header = ["combination", "trained", "questions", "no words", "universal", "as served"]
        header.append("specialists of the parts")
        lines = []
        for goal in (goal for goal in self.asked if "+" in goal):
            parts = [
                f"{part} {shown(value)}"
                for part in self.goals.named(goal).parts
                if (value := self.figure(part, goal, "ndcg@10")) is not None
            ]
            lines.append(
                [
                    goal,
                    "yes" if goal in self.goals.trained else "never",
                    shown(self.figure(UNIVERSAL, goal, "users"), ",.0f"),
                    shown(self.figure(UNIVERSAL, goal, "ndcg@10", False)),
                    shown(self.figure(UNIVERSAL, goal, "ndcg@10")),
                    shown(self.figure(UNIVERSAL, goal, "ndcg@10", "served")),
                    ", ".join(parts) or "–",
                ]
            )
        if lines:
            yield table(header, lines)

    def budget(self) -> Iterator[str]:
        """What training took, for each model."""
        header = ["model", "seeds", "updates", "tokens", "minutes"]
        lines = []
        for name, by_seed in self.found.items():
            rows = [next(iter(done.values())).row for done in by_seed.values()]
            lines.append(
                [
                    name,
                    len(rows),
                    shown(mean([row["updates"] for row in rows]), ",.0f"),
                    shown(mean([row["tokens"] for row in rows]), ",.0f"),
                    shown(mean([row["fit_seconds"] / 60 for row in rows]), ".1f"),
                ]
            )
        yield table(header, lines)


def page(name: str, prepared: Prepared, split: str, tables: Tables) -> str:
    """The tables of one dataset, for report.md."""
    users = int((np.diff(prepared.train(split).offsets) > 0).sum())
    parts = [
        f"# {name}: {prepared.name}",
        f"{users:,} users, {len(prepared.catalog):,} items, split {split}; means over {tables.seeds} seeds. "
        "ndcg@10 unless the column says otherwise; all of the catalogue is ranked.",
        "## Universal against specialists",
        *tables.versus(),
        "## What saying the goal does",
        *tables.instruction(),
        "## Several goals at once (ndcg@10)",
        *tables.combinations(),
        "## Budget",
        *tables.budget(),
    ]
    return "\n\n".join(parts) + "\n"
