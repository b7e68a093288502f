"""The comparison as a table: what every run came to, and when it was first as good as asked.

    python benchmarks/comparison_table.py rows.csv

Markdown, with a row for each method and its seeds in order.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from comparison_rows import Row, read_rows

GOALS = {"pendulum": -200.0, "cartpole": 400.0}
"""Solved, and half of the distance to the best that the published agent comes to."""

METHODS = ("frozen", "finetuned", "joint", "cnn", "state", "random")


def main() -> None:
    """Print a table for each task, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("rows", type=Path)
    rows = read_rows(parser.parse_args().rows)
    for task, goal in GOALS.items():
        found = [row for row in rows if row.task == task]
        if not found:
            continue
        print(f"\n| {task} | return at the end | first ≥ {goal:.0f} | steps of the environment |")
        print("|---|---|---|---|")
        for method in METHODS:
            ours = [row for row in found if row.method == method]
            if ours:
                print(f"| {method} | {describe(ours, goal)} |")


def describe(rows: Sequence[Row], goal: float) -> str:
    """One method's cells, seed by seed."""
    runs = [[r for r in rows if r.seed == seed] for seed in sorted({r.seed for r in rows})]
    ended = [max(run, key=lambda row: row.learning_seconds) for run in runs]
    returns = ", ".join(f"{row.return_mean:.0f}" for row in ended)
    steps = ", ".join(f"{row.env_steps:,}" for row in ended)
    times = ", ".join(first(run, goal) for run in runs)
    return f"{returns} | {times} | {steps}"


def first(run: Sequence[Row], goal: float) -> str:
    """Minutes after which a run was first as good as the goal."""
    good = [row.learning_seconds / 60 for row in run if row.return_mean >= goal]
    return f"{min(good):.1f} min" if good else "–"


if __name__ == "__main__":
    main()
