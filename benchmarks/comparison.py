"""Five ways to learn a task seen as pixels, at equal wall-clock time on the same machine.

    python benchmarks/comparison.py pendulum --minutes 20 --seeds 3 -o rows.csv
    python benchmarks/comparison.py cartpole frozen cnn --minutes 60 --seeds 3 -o rows.csv
    python benchmarks/comparison.py pendulum joint --seed 0 --minutes 20 -o rows.csv
    python benchmarks/comparison_plot.py rows.csv -o docs/images/comparison.png

`pendulum` is PixelPendulum, `cartpole` dm_control's cartpole swingup with action repeat 4, which
needs what dmc_env.py names; `all` is both. The methods, all of them without a name:

frozen     random experience, a model pretrained on it, then SAC on its latents
finetuned  the same, then SLAC: model and agent go on together
joint      SLAC from nothing
cnn        Stable-Baselines3's SAC("CnnPolicy") on three stacked frames
state      Stable-Baselines3's SAC("MlpPolicy") on the true state
random     a random policy, for the picture

The minutes are those of learning: collecting and pretraining count, evaluations do not, nor does
making environments. With `--seed` one run is done here; else every run in a process of its own,
`--parallel` of them at a time, each on a core of its own. Runs that are done are left out, so that
the same command goes on after an interruption.
"""

from __future__ import annotations

import argparse
import os
import queue
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

TASKS = ("pendulum", "cartpole")
METHODS = ("random", "frozen", "finetuned", "joint", "cnn", "state")


@dataclass(frozen=True)
class Run:
    """Something to be done."""

    task: str
    method: str
    seed: int

    @property
    def key(self) -> tuple[str, str, int]:
        """As the rows have it."""
        return self.task, self.method, self.seed

    def __str__(self) -> str:
        return f"{self.task}-{self.method}-{self.seed}"


def main() -> None:
    """Do one run here, or many in processes."""
    arguments = _arguments()
    tasks = TASKS if arguments.task == "all" else (arguments.task,)
    methods = arguments.methods or METHODS
    if arguments.seed is None:
        do_all(_runs(tasks, methods, arguments.seeds), arguments)
        return
    if len(tasks) != 1 or len(methods) != 1:
        sys.exit("--seed means a single run: name one task and one method, or give --seeds.")
    do_here(Run(tasks[0], methods[0], arguments.seed), arguments)


def do_here(run: Run, arguments: argparse.Namespace) -> None:
    """Do a run in this process and add its rows to the file."""
    _settle(arguments)
    # Only now: torch and MuJoCo look at the cores when they are imported.
    import torch
    from comparison_methods import METHODS as LEARN
    from comparison_methods import TASKS as MADE
    from comparison_methods import Plan
    from comparison_rows import Watch, forget_run, is_done, read_rows

    torch.set_num_threads(arguments.threads)
    if is_done(read_rows(arguments.output), run.key, _minutes(run, arguments)):
        print(f"{run} is done already.")
        return
    forget_run(arguments.output, run.key)
    task = MADE[run.task]
    watch = Watch(
        arguments.output,
        run.key,
        threads=arguments.threads,
        action_repeat=task.action_repeat,
        minutes=arguments.minutes,
        every=arguments.every or arguments.minutes / 20,
    )
    plan = Plan(task, run.seed, watch, arguments.episodes, arguments.frames, arguments.updates)
    LEARN[run.method](plan)


def do_all(runs: list[Run], arguments: argparse.Namespace) -> None:
    """Do every run that is not done in a process of its own, and merge the rows."""
    from comparison_rows import is_done, merge, read_rows

    output: Path = arguments.output
    parts = output.with_suffix(".parts")
    parts.mkdir(parents=True, exist_ok=True)
    cores: queue.Queue[int] = queue.Queue()
    for core in sorted(os.sched_getaffinity(0))[: arguments.parallel]:
        cores.put(core)

    def do(run: Run) -> None:
        core = cores.get()
        try:
            code = _spawn(run, parts / f"{run}.csv", core, arguments)
        finally:
            cores.put(core)
        done = is_done(read_rows(parts / f"{run}.csv"), run.key, _minutes(run, arguments))
        ended = "done" if done else f"ended with {code}, see {parts}/{run}.log"
        print(f"{run}: {ended}", flush=True)

    # What an interrupted comparison did last has not been merged yet.
    for part in parts.glob("*.csv"):
        merge(output, part)
    rows = read_rows(output)
    left = [run for run in runs if not is_done(rows, run.key, _minutes(run, arguments))]
    print(f"{len(runs) - len(left)} of {len(runs)} runs are done.", flush=True)
    pool = ThreadPoolExecutor(cores.qsize())
    try:
        for run, _ in zip(left, pool.map(do, left), strict=True):
            merge(output, parts / f"{run}.csv")
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C no other run begins


def _spawn(run: Run, part: Path, core: int, arguments: argparse.Namespace) -> int:
    options = ["minutes", "threads", "episodes", "frames", "updates"]
    options += [] if arguments.every is None else ["every"]
    command = [sys.executable, __file__, run.task, run.method, "--seed", str(run.seed)]
    command += ["--core", str(core), "-o", str(part)]
    for name in options:
        command += [f"--{name}", str(getattr(arguments, name))]
    with part.with_suffix(".log").open("w", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=log, stderr=log, check=False)  # noqa: S603
    return done.returncode


def _runs(tasks: tuple[str, ...], methods: tuple[str, ...], seeds: int) -> list[Run]:
    """All methods of a seed before the next seed, so that half of it can be compared too."""
    runs = [Run(task, m, seed) for seed in range(seeds) for task in tasks for m in methods]
    return [run for run in runs if run.method != "random" or run.seed == 0]


def _minutes(run: Run, arguments: argparse.Namespace) -> float:
    minutes: float = arguments.minutes
    return 0 if run.method == "random" else minutes


def _settle(arguments: argparse.Namespace) -> None:
    """Stay on one's core, with as many threads as are asked for."""
    if arguments.core is not None:
        os.sched_setaffinity(0, {arguments.core})
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(arguments.threads)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=[*TASKS, "all"])
    parser.add_argument("methods", nargs="*", metavar="METHOD", help=", ".join(METHODS))
    parser.add_argument("--minutes", type=float, default=20, help="of learning, for each run")
    parser.add_argument("--every", type=float, help="minutes between evaluations  [a twentieth]")
    parser.add_argument("--episodes", type=int, default=10, help="in an evaluation")
    parser.add_argument("--seed", type=int, help="do this run here")
    parser.add_argument("--seeds", type=int, default=3, help="do runs of seeds 0, 1, ...")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time")
    parser.add_argument("--threads", type=int, default=1, help="of each run")
    parser.add_argument("--core", type=int, help="stay on it")
    parser.add_argument("--frames", type=int, default=20_000, help="to pretrain on")
    parser.add_argument("--updates", type=int, default=3000, help="of the model in pretraining")
    parser.add_argument("-o", "--output", type=Path, default=Path("comparison.csv"))
    arguments = parser.parse_args()
    unknown = set(arguments.methods) - set(METHODS)
    if unknown:
        parser.error(f"there is no method {sorted(unknown)[0]!r}, but {', '.join(METHODS)}")
    arguments.methods = tuple(arguments.methods)
    return arguments


if __name__ == "__main__":
    main()
