"""The files and figures of the runs on dm_control."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
with pytest.MonkeyPatch.context() as patch:
    patch.setenv("MUJOCO_GL", "egl")  # which they choose themselves, for the whole process
    from dmc_curve import Evaluation, compare, published_for, read_curve, write_curve
    from dmc_env import TASKS
    from dmc_run import Progress, RunFolder


def evaluation(steps: int, value: float, seed: int = 0, var: float = 0.1) -> Evaluation:
    return Evaluation("cartpole", "swingup", 4.0, var, seed, value, steps, 3.0)


def test_curves_are_read_as_they_were_written_in_the_form_of_the_authors(tmp_path: Path) -> None:
    rows, path = [evaluation(0, 1.5), evaluation(10_000, 20.25, seed=3)], tmp_path / "r.csv"
    write_curve(path, rows)
    assert read_curve(path) == rows
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    assert lines[0] == [
        "", "domain_name", "task_name", "action_repeat", "decoder_var", "trial_id",
        "AverageReturnEvalPolicy", "OriginalEnvironmentSteps", "NumberOfEpisodes",
    ]  # fmt: skip
    assert [line[0] for line in lines[1:]] == ["0", "1"]


def test_runs_are_compared_at_the_published_steps() -> None:
    task = TASKS["cartpole_swingup"]
    mean, spread = task.published[100_000]
    rows = [evaluation(90_000, 1.0), evaluation(100_000, 300.0), evaluation(100_000, 310.0, 1)]
    (line,) = compare(task, rows)
    assert line.startswith("after 100000 environment steps: 305 ± 7 (2 seeds)")
    assert f"published {mean:.0f} ± {spread:.0f}" in line
    assert compare(task, rows[:1]) == []


@pytest.mark.parametrize(("var", "expected"), [(0.1, (0.1, (783, 290))), (0.04, (0.04, (918, 23)))])
def test_the_cups_figure_is_that_of_the_decoders_variance(
    var: float, expected: tuple[float, tuple[float, float]]
) -> None:
    found, figures = published_for(TASKS["ball_in_cup_catch"], var)
    assert (found, figures[100_000]) == expected


def test_a_folder_forgets_evaluations_that_the_agent_does_not_remember(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    assert not folder.has_agent
    assert folder.progress() == Progress()
    assert folder.evaluations(up_to=10) == []
    write_curve(folder.returns, [evaluation(0, 1.0), evaluation(10, 2.0), evaluation(20, 3.0)])
    kept = folder.evaluations(up_to=10)
    assert [each.OriginalEnvironmentSteps for each in kept] == [0, 10]


def test_a_folder_is_not_gone_on_with_by_other_settings(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.check_settings({"seed": 0, "task": "cheetah_run"})
    folder.check_settings({"seed": 0, "task": "cheetah_run"})
    with pytest.raises(SystemExit, match="holds a run with seed = 0, not 1"):
        RunFolder(tmp_path / "run").check_settings({"seed": 1, "task": "cheetah_run"})
