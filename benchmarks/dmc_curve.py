"""Returns on a task of dm_control in the form of SLAC's authors, and their picture beside theirs.

    python benchmarks/dmc_curve.py cheetah_run runs/0/returns.csv runs/1/returns.csv \\
        --authors dm_control_cheetah_run_slac.csv -o cheetah_run.png

Their files lie in `data/slac` of github.com/alexlee-gk/slac. Without one, only the figures of the
table in dmc_env.py are drawn.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import stdev
from typing import Any

import numpy as np
from dmc_env import TASKS, Figure, Task

from latentwrap.files import written_whole
from latentwrap.types import FloatArray

OURS, THEIRS = "#0072b2", "#d55e00"
USUAL_VAR = 0.1


@dataclass(frozen=True)
class Evaluation:
    """A row of the authors' files, which begin with a column that numbers the rows.

    Attributes:
        domain_name, task_name: as dm_control has them.
        action_repeat: environment steps in a step of the agent.
        decoder_var: of the model.
        trial_id: the seed.
        AverageReturnEvalPolicy: mean return of the episodes of this evaluation.
        OriginalEnvironmentSteps: before it, random ones included.
        NumberOfEpisodes: finished before it.
    """

    domain_name: str
    task_name: str
    action_repeat: float
    decoder_var: float
    trial_id: int
    AverageReturnEvalPolicy: float
    OriginalEnvironmentSteps: int
    NumberOfEpisodes: float


COLUMNS = [field.name for field in fields(Evaluation)]


def read_curve(path: Path) -> list[Evaluation]:
    """Our own evaluations, or the authors'."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Evaluation(
                row["domain_name"],
                row["task_name"],
                float(row["action_repeat"]),
                float(row["decoder_var"]),
                int(row["trial_id"]),
                float(row["AverageReturnEvalPolicy"]),
                int(float(row["OriginalEnvironmentSteps"])),
                float(row["NumberOfEpisodes"]),
            )
            for row in csv.DictReader(file)
        ]


def write_curve(path: Path, rows: Iterable[Evaluation]) -> None:
    """Replace a file."""
    with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["", *COLUMNS])
        for number, row in enumerate(rows):
            writer.writerow([number, *asdict(row).values()])


def published_for(task: Task, decoder_var: float) -> tuple[float, Mapping[int, Figure]]:
    """The decoder variance to compare with, and the published figures at it.

    Ours, if the table has figures at it; else that with which the authors' SLAC did best.
    """
    if decoder_var == USUAL_VAR and task.published_at_01:
        return decoder_var, task.published_at_01
    return task.decoder_var or USUAL_VAR, task.published


def compare(task: Task, rows: Sequence[Evaluation]) -> list[str]:
    """A line for each published figure that our runs have reached."""
    var, figures = published_for(task, rows[0].decoder_var)
    lines = []
    for steps, figure in figures.items():
        ours = [r.AverageReturnEvalPolicy for r in rows if r.OriginalEnvironmentSteps == steps]
        if ours:
            spread = f" ± {np.std(ours, ddof=1):.0f} ({len(ours)} seeds)" if len(ours) > 1 else ""
            lines.append(
                f"after {steps} environment steps: {np.mean(ours):.0f}{spread}; "
                f"published {_words(figure)} (10 seeds, decoder variance {var})"
            )
    return lines


def draw_curve(
    output: Path, name: str, rows: Sequence[Evaluation], *, label: str, authors: Path | None = None
) -> None:
    """Draw our runs beside the authors'.

    Args:
        output: the picture.
        name: of the task.
        rows: of one run or of several, told apart by their trials.
        label: what ours are called.
        authors: the authors' file of the task.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    var, figures = published_for(TASKS[name], rows[0].decoder_var)
    end = max(100_000, *(row.OriginalEnvironmentSteps for row in rows))
    figure, axis = plt.subplots(figsize=(6.4, 4.2))
    if authors is not None:
        theirs = [
            row
            for row in read_curve(authors)
            if row.decoder_var == var and row.OriginalEnvironmentSteps <= end
        ]
        _draw_theirs(axis, theirs, f"SLAC's authors, 10 seeds, mean ± sd, variance {var}")
    _draw_figures(
        axis, {s: f for s, f in figures.items() if s <= end}, f"published, variance {var}"
    )
    _draw_ours(axis, rows, label)
    axis.set_title(name.replace("_", " "))
    axis.set_xlabel("environment steps (thousands)")
    axis.set_ylabel("mean return of an evaluation")
    axis.set_xlim(0, 1.03 * end / 1000)
    axis.set_ylim(bottom=0)
    axis.grid(color="0.92")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9, loc="best")
    figure.tight_layout()
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=150)
    plt.close(figure)


def _draw_ours(axis: Any, rows: Sequence[Evaluation], label: str) -> None:
    trials = sorted({row.trial_id for row in rows})
    for trial in trials:
        steps, returns = _series([row for row in rows if row.trial_id == trial])
        name = f"{label}, seed{'s' * (len(trials) > 1)} {', '.join(map(str, trials))}"
        named = name if trial == trials[0] else None
        axis.plot(steps, returns, color=OURS, linewidth=1.8, marker="o", markersize=3, label=named)


def _draw_theirs(axis: Any, rows: Sequence[Evaluation], label: str) -> None:
    steps = np.array(sorted({row.OriginalEnvironmentSteps for row in rows}))
    at = [
        [r.AverageReturnEvalPolicy for r in rows if r.OriginalEnvironmentSteps == s] for s in steps
    ]
    mean, std = np.array([np.mean(each) for each in at]), np.array([stdev(each) for each in at])
    axis.plot(steps / 1000, mean, color=THEIRS, linestyle="--", linewidth=1.5, label=label)
    axis.fill_between(steps / 1000, mean - std, mean + std, color=THEIRS, alpha=0.15, linewidth=0)


def _draw_figures(axis: Any, figures: Mapping[int, Figure], label: str) -> None:
    for number, (steps, (mean, spread)) in enumerate(figures.items()):
        axis.errorbar(
            [steps / 1000],
            [mean],
            yerr=[spread],
            color=THEIRS,
            marker="s",
            markersize=5,
            capsize=4,
            linestyle="none",
            label=None if number else label,
        )


def _series(rows: Sequence[Evaluation]) -> tuple[FloatArray, FloatArray]:
    """Thousands of steps, and returns."""
    ordered = sorted(rows, key=lambda row: row.OriginalEnvironmentSteps)
    pairs = [(row.OriginalEnvironmentSteps / 1000, row.AverageReturnEvalPolicy) for row in ordered]
    steps, returns = np.array(pairs).T
    return steps, returns


def _words(figure: Figure) -> str:
    mean, spread = figure
    return f"{mean:.0f} ± {spread:.0f}"


def main() -> None:
    """Draw runs that are named, and print how they compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("returns", type=Path, nargs="+", help="files that dmc.py wrote")
    parser.add_argument("--authors", type=Path, help="the authors' file of the task")
    parser.add_argument("--label", default="latentwrap")
    parser.add_argument("-o", "--output", type=Path, default=Path("curve.png"))
    arguments = parser.parse_args()
    rows = [row for path in arguments.returns for row in read_curve(path)]
    draw_curve(
        arguments.output, arguments.task, rows, label=arguments.label, authors=arguments.authors
    )
    print("\n".join(compare(TASKS[arguments.task], rows)))


if __name__ == "__main__":
    main()
