"""`latentwrap train --joint`, `improve`, and what takes their runs."""

from __future__ import annotations

import json
import multiprocessing
import shlex
import warnings
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.cli.test_cli import run
from tests.conftest import make_tiny_model

from latentwrap import SLAC, LatentObservation, load_model
from latentwrap.agents.run_folder import AgentRun
from latentwrap.agents.runs import Watching
from latentwrap.datasets import Dataset
from latentwrap.envs import PIXEL_PENDULUM
from latentwrap.errors import CheckpointError, ConfigError
from latentwrap.joint import improving
from latentwrap.joint.improving import Round, Rounds, improve, one_more, why_over
from latentwrap.joint.runs import JointOptions, train_joint
from latentwrap.joint.saving import SavedState
from latentwrap.models import save_model

TINY = [
    "--set", "hidden=[8]", "--set", "batch_size=4", "--set", "learning_starts=20",
    "--set", "model.window=6", "--set", "model.batch_size=2",
]  # fmt: skip
NEW = [*TINY, "--set", "initial_model_updates=2", "--size", "16x16"]
SHORT = ["--evaluate-every", "25", "--evaluation-episodes", "1", "--final-episodes", "1"]


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_model(path, make_tiny_model(), training={})
    return path


def train(folder: Path, *words: str, steps: int = 30) -> dict:
    result = run("train", PIXEL_PENDULUM, "--joint", *SHORT, "--steps", str(steps),
                 "-o", str(folder), "--json", *words)  # fmt: skip
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("actor_input", ["latent", "history"])
def test_a_run_is_trained_resumed_and_played(tmp_path: Path, actor_input: str) -> None:
    folder, words = tmp_path / "run", [*NEW, "--set", f"actor_input={actor_input}"]
    assert train(folder, *words)["steps"] == 30
    assert train(folder, *words, "--resume", steps=40)["steps"] == 40
    played = run("play", str(folder), "--episodes", "1", "--video-episodes", "0", "--json")
    assert played.exit_code == 0, played.stderr
    assert len(json.loads(played.stdout.splitlines()[-1])["returns"]) == 1
    # Its last words go on with the run.
    assert {"train", "--joint", "--resume", "model.window=6"} <= set(words_of_play(folder))


def test_what_a_run_leaves_is_a_checkpoint_and_a_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, *NEW)
    model = load_model(folder / "agent-model.safetensors")
    assert model.frame_spec.height == 16
    files = sorted((folder / "replay").glob("*.h5"))
    assert sum(Dataset(path).num_transitions for path in files) == 30
    assert {Dataset(path).info.env_id for path in files} == {PIXEL_PENDULUM}
    env = AgentRun(folder).make_env()
    assert env.model_fingerprint == model.fingerprint
    env.close()


@pytest.mark.parametrize("actor_input", ["latent", "history"])
def test_an_agent_collects(tmp_path: Path, actor_input: str) -> None:
    folder, data = tmp_path / "run", tmp_path / "data.h5"
    train(folder, *NEW, "--set", f"actor_input={actor_input}")
    result = run("collect", PIXEL_PENDULUM, "-o", str(data), "--steps", "10",
                 "--size", "16x16", "--policy", f"agent:{folder}")  # fmt: skip
    assert result.exit_code == 0, result.stderr
    options = Dataset(data).info.provenance["policy_options"]
    assert options["model"] == load_model(folder / "agent-model.safetensors").fingerprint


def test_a_checkpoint_goes_on_learning_and_stays_as_it_is(tmp_path: Path, checkpoint: Path) -> None:
    before = checkpoint.read_bytes()
    words = [*TINY, "--model", str(checkpoint)]
    assert train(tmp_path / "tuned", *words)["steps"] == 30
    train(tmp_path / "frozen", *words, "--frozen")
    assert checkpoint.read_bytes() == before
    given = load_model(checkpoint).fingerprint
    models = [
        load_model(tmp_path / name / "agent-model.safetensors") for name in ("tuned", "frozen")
    ]
    assert models[0].fingerprint != given
    assert models[1].fingerprint == given


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--steps", "5"], "requires a latent model"),
        (["--model", "x.safetensors", "--num-envs", "2"], "--num-envs would not be heard"),
        (["--joint", "--frozen"], "name a checkpoint"),
        (["--joint", "--model", "x.safetensors", "--size", "32x32"], "--size would not be heard"),
        (["--joint", "--set", "model.windo=3"], "did you mean 'window'"),
        (["--joint", "--set", "gama=3"], "did you mean 'gamma'"),
        (["--joint", "--resume"], "latentwrap train wrote"),
        (["--joint", "--set", "buffer_size=100000000000"], "set a smaller buffer_size"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    result = run("train", PIXEL_PENDULUM, "-o", str(tmp_path / "run"), *words)
    assert result.exit_code == 2
    assert sentence in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr


def test_improve_goes_through_its_rounds(tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "rounds"
    words = ["improve", PIXEL_PENDULUM, "--model", str(checkpoint), *TINY, "--steps", "25",
             "--model-updates", "2", "--settling", "1", "--patience", "9",
             "--evaluation-episodes", "1", "-o", str(folder), "--json"]  # fmt: skip
    result = run(*words, "--rounds", "2")
    assert result.exit_code == 0, result.stderr
    rounds = json.loads(result.stdout.splitlines()[-1])["rounds"]
    assert [each["env_steps"] for each in rounds] == [25, 50]
    assert [each["model_updates"] for each in rounds] == [0, 2]
    assert [each["settled"] is None for each in rounds] == [False, True]
    longer = run(*words, "--rounds", "3", "--resume")
    assert longer.exit_code == 0, longer.stderr
    again = json.loads(longer.stdout.splitlines()[-1])["rounds"]
    assert again[0] == rounds[0]
    assert [each["model_updates"] for each in again] == [0, 2, 4]
    other = run(*words, "--rounds", "3", "--resume", "--steps", "30")
    assert other.exit_code == 2
    assert "another joint.rounds.steps" in " ".join(other.stderr.split())


@pytest.mark.parametrize(("words", "processes"), [((), 0), (("--overlap",), 1)])
def test_improve_may_step_in_a_process_of_its_own(
    tmp_path: Path,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    processes: int,
) -> None:
    before, learn, running = set(multiprocessing.active_children()), SLAC.learn, []

    def watched(agent: SLAC, *args: Any, **kwargs: Any) -> SLAC:
        running.append(len(set(multiprocessing.active_children()) - before))
        return learn(agent, *args, **kwargs)

    monkeypatch.setattr(SLAC, "learn", watched)
    begin = ["improve", PIXEL_PENDULUM, "--model", str(checkpoint), *TINY, "--steps", "25",
             "--model-updates", "2", "--settling", "1", "--rounds", "2", "--evaluation-episodes",
             "1", "-o", str(tmp_path / "rounds"), "--json"]  # fmt: skip
    result = run(*begin, *words)
    assert result.exit_code == 0, result.stderr
    rounds = json.loads(result.stdout.splitlines()[-1])["rounds"]
    assert [each["env_steps"] for each in rounds] == [25, 50]
    assert running == [processes] * 2
    assert set(multiprocessing.active_children()) <= before


def returns(*learned: float) -> list[Round]:
    return [Round(n, 0, 0, value, error=3.0) for n, value in enumerate(learned)]


@pytest.mark.parametrize(
    ("learned", "patience", "why"),
    [
        ((), 1, None),
        ((-100,), 1, None),  # nothing to compare with
        ((-100, -90), 1, None),  # 10 are more than √18 errors of chance
        ((-100, -96), 1, "patience"),
        ((-100, -120), 1, "patience"),
        ((-100, -96), 2, None),  # it waits for one more
        ((-100, -96, -90), 2, None),
        ((-100, -96, -97), 2, "patience"),
        ((-100, -50, -60, -40), 2, None),
        ((-100, -50, -60, -70), 2, "patience"),
        ((-100, -50, -20, 0, 50), 1, "rounds"),
    ],
)
def test_rounds_end_when_the_latest_bring_no_more(
    learned: tuple[float, ...], patience: int, why: str | None
) -> None:
    done, rounds = returns(*learned), Rounds(most=5, patience=patience)
    assert why_over(done, rounds) == why
    more = one_more(done, rounds)
    assert why_over(done, more) is None
    assert (more == rounds) == (why is None)


@pytest.mark.parametrize("name", ["most", "steps", "model_updates", "patience", "episodes"])
def test_rounds_of_nothing_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name} of at least 1, got 0"):
        Rounds(**{name: 0})
    with pytest.raises(ConfigError, match="settling of at least 0, got -1"):
        Rounds(settling=-1)


AGENT = {"hidden": (8,), "batch_size": 4, "learning_starts": 20}
FEW = Rounds(most=2, steps=25, model_updates=2, settling=1, patience=9, episodes=1)


def test_improve_leaves_the_model_alone_within_a_round(tmp_path: Path, checkpoint: Path) -> None:
    options = JointOptions(model=checkpoint, agent_options=AGENT, device="cpu",
                           model_options={"window": 6, "batch_size": 2})  # fmt: skip
    result = improve(PIXEL_PENDULUM, tmp_path / "rounds", options, rounds=FEW)
    assert [each.model_updates for each in result.rounds] == [0, 2]


def test_improve_refuses_windows_that_no_episode_holds(tmp_path: Path, checkpoint: Path) -> None:
    for learn in (partial(improve, rounds=FEW), partial(train_joint, steps=30)):
        options = JointOptions(model=checkpoint, model_options={"window": 201}, device="cpu")
        with pytest.raises(ConfigError, match=r"PixelPendulum-v0 has at most 200: .*window=200"):
            learn(PIXEL_PENDULUM, tmp_path / "run", options=options)


@pytest.mark.parametrize("killed_at", [3, 25, 40])
def test_a_killed_improve_goes_on(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    """With saves at every step nothing is lost."""
    monkeypatch.setattr(improving, "_SAVE_EVERY", 1)
    options = JointOptions(model=checkpoint, agent_options=AGENT, device="cpu",
                           model_options={"window": 6, "batch_size": 2})  # fmt: skip
    go_on = partial(improve, PIXEL_PENDULUM, tmp_path / "run", options, rounds=FEW)
    save = SLAC.save

    def killed(agent: SLAC, path: Path) -> None:
        save(agent, path)
        if agent.num_timesteps == killed_at:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(SLAC, "save", killed)
        go_on()
    rounds = go_on(resume=True).rounds
    assert [each.env_steps for each in rounds] == [25, 50]
    assert [each.model_updates for each in rounds] == [0, 2]


def words_of_play(folder: Path) -> list[str]:
    """The command that goes on, without its first word."""
    played = run("play", str(folder), "--episodes", "1", "--video-episodes", "0", "--json")
    assert played.exit_code == 0, played.stderr
    lines = played.stderr.splitlines()
    (line,) = [e for e in lines if "latentwrap improve" in e or "latentwrap train" in e]
    return shlex.split(line.partition("latentwrap ")[2])


@pytest.mark.parametrize("envs", ["1", "2"])
def test_the_last_words_of_play_go_on_with_improve(
    tmp_path: Path, checkpoint: Path, envs: str
) -> None:
    folder = tmp_path / "run"
    begun = run("improve", PIXEL_PENDULUM, "--model", str(checkpoint), *TINY, "--steps", "26",
                "--model-updates", "2", "--settling", "1", "--patience", "7", "--rounds", "1",
                "--evaluation-episodes", "1", "--num-envs", envs, "-o", str(folder))  # fmt: skip
    assert begun.exit_code == 0, begun.stderr
    for rounds in (2, 3):
        words = words_of_play(folder)
        assert words[words.index("--patience") + 1] == "7"
        longer = run(*words, "--json")
        assert longer.exit_code == 0, longer.stderr
        result = json.loads(longer.stdout.splitlines()[-1])
        assert len(result["rounds"]) == rounds
        assert result["ended"] == "rounds"
        assert f"All rounds are done; --resume --rounds {rounds + 1} goes on." in longer.stderr


def test_the_last_words_of_play_are_more_patient(tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "run"
    options = JointOptions(model=checkpoint, agent_options=AGENT, device="cpu",
                           model_options={"window": 6, "batch_size": 2})  # fmt: skip
    improve(PIXEL_PENDULUM, folder, options, rounds=replace(FEW, most=4, patience=1))
    rows = [asdict(each) for each in returns(-100, -120)]
    (folder / "rounds.json").write_text(json.dumps(rows), encoding="utf-8")
    words = words_of_play(folder)
    assert words[words.index("--patience") + 1] == "2"
    assert words[words.index("--rounds") + 1] == "4"


def test_another_window_may_follow(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    train(folder, *NEW)
    train(folder, *NEW, "--set", "model.window=3", "--resume", steps=40)
    words = words_of_play(folder)
    assert "model.window=3" in words
    assert "model.window=6" not in words
    assert SavedState(folder).recipe.training.window == 3
    train(folder, *NEW, "--resume", steps=50)  # the command that began it means what it did
    assert SavedState(folder).recipe.training.window == 6
    assert "model.window=6" in words_of_play(folder)


def test_improve_may_go_on_with_another_window(tmp_path: Path, checkpoint: Path) -> None:
    learn = partial(improve, PIXEL_PENDULUM, tmp_path / "run", rounds=FEW)

    def options(window: int) -> JointOptions:
        learning = {"window": window, "batch_size": 2}
        return JointOptions(model=checkpoint, agent_options=AGENT, model_options=learning)

    learn(options(6))
    with pytest.raises(ConfigError, match="has at most 200"):
        learn(options(201), resume=True)
    assert AgentRun(tmp_path / "run").read_card().joint.model_options["window"] == 6
    result = learn(options(5), resume=True, rounds=replace(FEW, most=3))
    assert [each.model_updates for each in result.rounds] == [0, 2, 4]
    assert SavedState(tmp_path / "run").recipe.training.window == 5


def test_a_run_that_is_killed_at_once_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(SLAC, "learn", lambda *_, **__: (_ for _ in ()).throw(SystemExit(9)))
        result = run("train", PIXEL_PENDULUM, "--joint", *SHORT, *NEW, "-o", str(folder))
        assert result.exit_code == 9
    assert train(folder, *NEW, "--resume")["steps"] == 30


def test_a_run_from_python_goes_on_by_the_words_of_play(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = JointOptions(
        agent_options={**AGENT, "initial_model_updates": 2},
        model_options={"window": 6, "batch_size": 2},
    )
    watching = Watching(every=25, episodes=1, final_episodes=1)
    train_joint(PIXEL_PENDULUM, folder, steps=30, options=options, watching=watching)
    words = words_of_play(folder)
    assert words[words.index("--preset") + 1] == "fast"
    result = run(*words, *SHORT)
    assert result.exit_code == 0, result.stderr
    assert SavedState(folder).config.hidden == (8,)


def test_warnings_are_sentences(tmp_path: Path, checkpoint: Path) -> None:
    """Nobody at a terminal wants to see the line of code."""

    def warn(*_: object, **__: object) -> None:
        warnings.warn("Sensors fail.", UserWarning, stacklevel=1)
        raise ConfigError("That was it.")

    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("always")
        patched.setattr("latentwrap.joint.runs.train_joint", warn)
        result = run("train", PIXEL_PENDULUM, "--joint", "-o", str(tmp_path / "run"))
    assert result.stderr.splitlines()[0] == "Warning: Sensors fail."


def test_rounds_that_are_gone_are_missed(tmp_path: Path, checkpoint: Path) -> None:
    folder = tmp_path / "run"
    options = JointOptions(model=checkpoint, agent_options=AGENT, device="cpu",
                           model_options={"window": 6, "batch_size": 2})  # fmt: skip
    improve(PIXEL_PENDULUM, folder, options, rounds=FEW)
    (folder / "rounds.json").write_text("?", encoding="utf-8")
    assert words_of_play(folder)[0] == "improve"
    (folder / "rounds.json").unlink()
    with pytest.raises(CheckpointError, match=r"rounds\.json is gone"):
        improve(PIXEL_PENDULUM, folder, options, rounds=FEW, resume=True)


def test_data_may_be_a_pattern(tmp_path: Path) -> None:
    first, again = tmp_path / "first", tmp_path / "again"
    train(first, *NEW)
    train(first, *NEW, "--resume", steps=40)
    words = [*NEW, "--data", str(first / "replay" / "*.h5")]
    train(again, *words)
    assert words_of_play(again)[words_of_play(again).index("--data") + 1] == words[-1]
    train(again, *words, "--resume", steps=40)
    before = sorted(first.rglob("*"))
    result = run("train", PIXEL_PENDULUM, "--joint", *words, "-o", str(first), "--force")
    assert result.exit_code == 2
    assert "is not replaced (it holds" in " ".join(result.stderr.split())
    assert sorted(first.rglob("*")) == before


def test_improve_needs_what_carries_over(tmp_path: Path, checkpoint: Path) -> None:
    words = ["improve", PIXEL_PENDULUM, "-o", str(tmp_path / "r"), "--model", str(checkpoint)]
    result = run(*words, "--set", "actor_input=history")
    assert result.exit_code == 2
    assert "requires actor_input=latent" in result.stderr


def test_a_wrapper_takes_the_model_of_a_run(tmp_path: Path) -> None:
    import gymnasium as gym

    folder = tmp_path / "run"
    train(folder, *NEW, "--num-envs", "2")
    env = LatentObservation(gym.make(PIXEL_PENDULUM), folder / "agent-model.safetensors")
    assert env.reset(seed=0)[0].shape == (160,)
    env.close()
