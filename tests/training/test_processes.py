"""Several processes learn what one does, write once, and fail together."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from latentwrap_test_processes import Job, run_together
from tests.conftest import TINY
from tests.training.conftest import FAST_ENOUGH
from tests.training.test_pretrain import tensors_of

from latentwrap.cli.common import SharedVerb, Verb
from latentwrap.cli.main import main
from latentwrap.errors import ConfigError
from latentwrap.launch import Launch
from latentwrap.runlog import read_metrics
from latentwrap.training import Loading, pretrain
from latentwrap.training.processes import Processes

COUNT = 2
KINDS = ["rssm", "discrete", "slac", "deterministic"]
STEPS = 14
REDUCED = {"precision": "bfloat16"}


def arguments_of(
    data: Path, output: Path, *, kind: str = "rssm", steps: int = STEPS, **more: Any
) -> dict[str, Any]:
    options = {
        **TINY[kind],
        **FAST_ENOUGH,
        "batch_size": 5,  # which two processes cannot divide evenly
        "decoded_fraction": 0.4,
        "max_grad_norm": 1.0,
        "learning_rate": 1e-3,
        "log_every": 1,
        "steps": steps,
        **more.pop("options", {}),
    }
    named = "rssm" if kind == "discrete" else kind
    common = {"kind": named, "options": options, "device": "cpu"}
    return {"data": data, "output": output, **common, **more}


class Runs:
    """What one process and two made of the same jobs."""

    def __init__(self, data: Path, folder: Path) -> None:
        self.data, self.folder = data, folder
        for kind in KINDS:
            pretrain(**self.arguments("one", kind, kind=kind))
        pretrain(**self.arguments("one", "bfloat16", options=REDUCED))
        pretrain(**self.arguments("two", "begun by one", steps=7))
        self.outcomes = run_together(list(self.jobs()))
        for name in ("begun by two", "ctrl-c"):
            pretrain(**self.arguments("two", name, resume=True))

    def jobs(self) -> Iterator[Job]:
        def job(name: str, trouble: str | None = None, **changes: Any) -> Job:
            return Job(name, self.arguments("two", name, **changes), trouble)

        for kind in KINDS:
            yield job(kind, kind=kind)
        yield job("bfloat16", options=REDUCED)
        yield job("streamed", loading=Loading(memory=0))
        yield job("begun by one", resume=True)
        yield job("begun by two", steps=7)
        yield job("ctrl-c", "ctrl-c")
        yield job("nan", "nan")
        yield job("damage", "damage")
        yield job("nan at once", options={"learning_rate": 1e30, "max_grad_norm": None})
        yield Job("again", self.arguments("two", "rssm"))
        yield job("nothing", resume=True)
        yield job("small", options={"batch_size": 1})
        apart = {"output": Path("apart.safetensors")}
        yield Job("apart", {**self.arguments("two", "apart", steps=7), **apart})
        yield Job("apart on", {**self.arguments("two", "apart", resume=True), **apart})
        yield job("death", "death")

    def path(self, who: str, name: str) -> Path:
        return self.folder / who / f"{name}.safetensors"

    def arguments(self, who: str, name: str, **changes: Any) -> dict[str, Any]:
        return arguments_of(self.data, self.path(who, name), **changes)

    def losses(self, who: str, name: str) -> list[dict[str, float]]:
        return read_metrics(self.path(who, name).with_suffix(".run") / "metrics.csv")


@pytest.fixture(scope="module")
def runs(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(data, tmp_path_factory.mktemp("runs"))


def assert_same_run(runs: Runs, name: str, kind: str = "rssm") -> None:
    """The same curve of losses and the same model, but for sums in another order.

    What was found is 3e-7 of a loss and 6e-8 of a weight. Windows that count a tenth too much move
    losses by 1e-2, and weights by as much as the learning rate.
    """
    ours, theirs = runs.losses("two", name), runs.losses("one", kind)
    assert len(ours) == STEPS + 2  # rows of updates, and of measurements
    for row, expected in zip(ours, theirs, strict=True):
        assert row == pytest.approx(expected, rel=1e-5)
    found = tensors_of(runs.path("two", name))
    for key, tensor in tensors_of(runs.path("one", kind)).items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-5, atol=1e-5, msg=key)


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_learn_what_one_does(runs: Runs, kind: str) -> None:
    assert_same_run(runs, kind, kind)


def test_two_processes_learn_in_bfloat16(runs: Runs) -> None:
    """Their shares of a gradient are rounded one by one; what was found is 4e-4 of a loss."""
    rows, float32 = runs.losses("one", "bfloat16"), runs.losses("one", "rssm")
    for row, expected, exact in zip(runs.losses("two", "bfloat16"), rows, float32, strict=True):
        assert row == pytest.approx(expected, rel=0.003)
        assert row != pytest.approx(exact, rel=1e-6)


def test_two_processes_that_stream_learn_the_same(runs: Runs) -> None:
    assert_same_run(runs, "streamed")


@pytest.mark.parametrize("name", ["begun by one", "begun by two"])
def test_a_run_is_resumed_in_another_number_of_processes(runs: Runs, name: str) -> None:
    assert_same_run(runs, name)


def test_ctrl_c_in_one_process_stops_all_of_them(runs: Runs) -> None:
    results = [outcome.result for outcome in runs.outcomes["ctrl-c"]]
    assert [(result.interrupted, result.steps) for result in results] == [(True, 8)] * COUNT
    assert_same_run(runs, "ctrl-c")


def test_a_loss_that_is_nan_in_one_process_stops_all_of_them(runs: Runs) -> None:
    for outcome in runs.outcomes["nan"]:
        assert "nan) in step 8" in outcome.result.diverged
        assert outcome.result.steps == 5
    assert not runs.path("two", "nan at once").with_suffix(".run").exists()


@pytest.mark.parametrize(
    ("name", "rank", "error", "words"),
    [
        ("again", 0, "OutputExists", "exists already"),
        ("nothing", 0, "CheckpointError", "nothing to resume"),
        ("small", 0, "ConfigError", "Training in 2 processes requires a batch_size of at least 2"),
        ("nan at once", 0, "TrainingDiverged", "in step 2"),
        ("damage", 1, "DatasetError", r"data\.h5 is damaged"),
    ],
)
def test_an_error_in_one_process_is_raised_in_all_and_owned_by_one(
    runs: Runs, name: str, rank: int, error: str, words: str
) -> None:
    outcomes = runs.outcomes[name]
    assert [o.error for o in outcomes] == [
        error if number == rank else "FailedElsewhere" for number in range(COUNT)
    ]
    assert len({o.words for o in outcomes}) == 1
    assert re.search(words, outcomes[0].words)


def test_a_process_that_dies_is_missed(runs: Runs) -> None:
    (outcome,) = runs.outcomes["death"]
    assert outcome.error == "ProcessLost"
    assert "--resume goes on" in outcome.words


def test_only_the_first_process_reads_and_writes_the_run(runs: Runs) -> None:
    first, other = runs.outcomes["apart on"]
    assert first.files == ["apart.run", "apart.safetensors"]
    assert other.files == []
    assert (other.result.begun_at, other.result.steps) == (7, STEPS)
    assert replace(other.result, seconds=0) == replace(first.result, seconds=0, note=None)


@pytest.mark.parametrize(("total", "count"), [(8, 2), (5, 2), (7, 3), (3, 3)])
def test_shares_make_up_the_batch(total: int, count: int) -> None:
    shares = [Processes(Launch(rank, count)).share(total) for rank in range(count)]
    assert [row for share in shares for row in range(total)[share.rows]] == [*range(total)]
    assert max(s.size for s in shares) - min(s.size for s in shares) <= 1
    assert sum(share.part for share in shares) == pytest.approx(1)


def test_processes_take_a_gpu_each(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    second = Processes(Launch(5, 8, local_rank=1, local_count=2))
    assert [second.device(name) for name in ("auto", "cuda", "cpu")] == ["cuda:1", "cuda:1", "cpu"]
    assert taken == [1, 1]
    with pytest.raises(ConfigError, match="require a GPU each, got --device cuda:0 for 2"):
        second.device("cuda:0")
    with pytest.raises(ConfigError, match="for 3 on a machine with 2"):
        Processes(Launch(0, 3, local_count=3)).device("auto")
    assert Processes().device("cuda:0") == "cuda:0"


def test_a_launch_is_read_from_the_environment() -> None:
    variables = {"RANK": "3", "WORLD_SIZE": "4", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    assert Launch.from_environment(variables) == Launch(3, 4, 3, 4)
    local = {"LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
    assert Launch.from_environment(variables | local) == Launch(3, 4, 1, 2)
    # Some clusters set a few of them for every program.
    assert Launch.from_environment({"RANK": "3", "WORLD_SIZE": "4"}) == Launch()
    with pytest.raises(ConfigError, match="RANK must be a whole number, got 'x'"):
        Launch.from_environment(variables | {"RANK": "x"})


def torchrun(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    launcher += ["--nproc-per-node", str(COUNT), "-m", "latentwrap.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*launcher, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_command_works_under_torchrun_and_speaks_once(data: Path, tmp_path: Path) -> None:
    options = {**TINY["rssm"], **FAST_ENOUGH, "steps": 3}
    settings = [word for item in options.items() for word in ("--set", "{}={}".format(*item))]
    settings = [word.replace("(", "[").replace(")", "]") for word in settings]
    words = ["pretrain", str(data), "-o", "m.safetensors", "--json", *settings]
    done = torchrun(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert json.loads(line)["steps"] == 3
    assert done.stderr.count("in each of 2 processes") == 1
    again = torchrun(tmp_path, *words)
    assert again.returncode != 0
    assert again.stdout == ""
    assert again.stderr.count("m.safetensors exists already") == 1
    assert "(exitcode: 2) local_rank: 0" in again.stderr


@pytest.mark.parametrize(
    "words", [["inspect", "data.h5"], ["encode", "m.safetensors", "data.h5", "-o", "z.h5"]]
)
def test_other_commands_work_in_one_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    variables = {"WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2
        assert f"{words[0]} works in one process, got 2" in result.output
    assert not list(tmp_path.iterdir())


def test_only_pretrain_shares_its_work() -> None:
    commands = {name: main.get_command(None, name) for name in main.list_commands(None)}
    assert all(isinstance(command, Verb) for command in commands.values())
    shared = [name for name, command in commands.items() if isinstance(command, SharedVerb)]
    assert shared == ["pretrain"]
