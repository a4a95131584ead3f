"""The tables of benchmarks/goals.py: one universal model beside specialists, from what each reached."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llmrec.data.prepared import Prepared
from llmrec.evaluate.page import table
from llmrec.evaluate.protocol import Evaluation, comparison
from llmrec.files import read_json
from llmrec.tune.goals import GoalMaker

UNIVERSAL = "universal"
COMPARED = ("ndcg@10", "recall@10")
Answered = Mapping[tuple[str, bool], Evaluation]
"""What a model reached, by goal and whether its words were said."""


def evaluations(figures: Path) -> dict[tuple[str, bool], Evaluation]:
    """What a finished model reached; {} while there is no such file."""
    if not figures.is_file():
        return {}
    found = read_json(figures, "figures")
    return {
        (row["objective"].partition(":")[2], row["said"]): Evaluation(
            row, {metric: np.array(values) for metric, values in each.items()}
        )
        for row, each in zip(found["rows"], found["per_user"], strict=True)
    }


def heard(found: Answered, goal: str) -> Evaluation | None:
    """The lists with the goal's words; for a goal without words those without."""
    return found.get((goal, True)) or found.get((goal, False))


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

    def figure(self, model: str, goal: str, metric: str, said: bool | None = None) -> float | None:
        """Mean over seeds of a model's figure for a goal, heard or (`said` false) not."""
        runs = self.found.get(model, {}).values()
        rows = [done.get((goal, said)) if said is not None else heard(done, goal) for done in runs]
        return mean([each.row[metric] for each in rows if each is not None and metric in each.row])

    def lead(self, goal: str, specialist: str, metric: str) -> float | None:
        """How much better the universal model is than a specialist, as a share of the latter's figure."""
        ours, theirs = self.figure(UNIVERSAL, goal, metric), self.figure(specialist, goal, metric)
        return ours / theirs - 1 if ours is not None and theirs else None

    def comparisons(self) -> list[dict[str, Any]]:
        """Universal against the goal's specialist, paired over users, for each seed and metric."""
        return [
            comparison(ours, theirs, metric)
            for goal in self.asked
            for seed, done in self.found[UNIVERSAL].items()
            if (ours := heard(done, goal)) and (theirs := heard(self.found.get(goal, {}).get(seed, {}), goal))
            for metric in COMPARED
        ]

    def rows(self) -> list[dict[str, Any]]:
        """All rows for report.json."""
        runs = (done for by_seed in self.found.values() for done in by_seed.values())
        return [each.row for each in self.popular] + [each.row for done in runs for each in done.values()]

    def versus(self) -> Iterator[str]:
        """The table of universal against specialists, and what comes of it."""
        popular = {each.row["objective"].partition(":")[2]: each.row["ndcg@10"] for each in self.popular}
        trained = [goal for goal in self.asked if "+" not in goal]
        header = ["goal", "questions", "popularity", "no words", "universal", "specialist", "difference"]
        header += ["recall@10 universal", "specialist", "difference"]
        lines = []
        for goal in trained:
            ours, recall = self.lead(goal, goal, "ndcg@10"), self.lead(goal, goal, "recall@10")
            lines.append(
                [
                    goal,
                    shown(self.figure(UNIVERSAL, goal, "users"), ",.0f"),
                    shown(popular.get(goal)),
                    shown(self.figure(UNIVERSAL, goal, "ndcg@10", False)),
                    shown(self.figure(UNIVERSAL, goal, "ndcg@10")),
                    shown(self.figure(goal, goal, "ndcg@10")),
                    shown(ours, "+.1%"),
                    shown(self.figure(UNIVERSAL, goal, "recall@10")),
                    shown(self.figure(goal, goal, "recall@10")),
                    shown(recall, "+.1%"),
                ]
            )
        yield table(header, lines)
        for metric in COMPARED:
            leads = {goal: lead for goal in trained if (lead := self.lead(goal, goal, metric)) is not None}
            if leads:
                worst = min(leads, key=lambda goal: leads[goal])
                average = statistics.fmean(leads.values())
                yield (
                    f"{metric}: the universal model is {average:+.1%} on average over {len(leads)} goals; "
                    f"at worst {leads[worst]:+.1%} ({worst})."
                )

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
        header = ["combination", "trained", "questions", "no words", "universal", "specialists of the parts"]
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
