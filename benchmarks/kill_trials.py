"""SIGKILL at random moments of collect, import, rechunk and encode: what is left, what is lost.

    python benchmarks/kill_trials.py [--trials 50] [--seed 0] [--verbs collect,import] [--json]

Floor, of at least 200 trials: no unreadable file, at most one episode lost in each, and the run
that goes on ends with what an uninterrupted one writes. A third of the trials begin with nothing,
a third replace a finished file (`--force`) and a third continue one (`--resume`). Half of the
moments are drawn from the whole run, half from its end, when the episodes are joined. A run that
was over before it could be killed is no trial.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from latentwrap.datasets import Dataset, collect, rechunk
from latentwrap.datasets.importers import import_dataset
from latentwrap.datasets.wholeness.parts import PartialRun, partial_folder
from latentwrap.datasets.wholeness.verify import verify
from latentwrap.datasets.writer import EpisodeWriter

EPISODES = 6
STEPS = 200
FRAMES = ("frames", "latents")


@dataclass(frozen=True)
class Verb:
    """One command.

    Attributes:
        run: writes all episodes to a path.
        begin: writes some of them, so that `run` can go on.
        repeatable: whether two runs write the same, also where one was interrupted.
    """

    run: Callable[..., object]
    begin: Callable[[Path], object]
    repeatable: bool


@dataclass(frozen=True)
class Killed:
    """A process that was killed, or not.

    Attributes:
        begun, safe: episodes that it began to keep, and that it was told were kept.
        ended: it came to its end.
        seconds: it took.
        joining: seconds of these after the first sight of the joined file.
    """

    begun: int
    safe: int
    ended: bool
    seconds: float
    joining: float


def main() -> int:
    """Kill, look, go on, and count."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=50, help="by verb")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", default="collect,import,rechunk,encode")
    parser.add_argument("--json", action="store_true", help="print the result as one line")
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        known = verbs(Path(folder))
        for name in arguments.verbs.split(","):
            rng = np.random.default_rng([arguments.seed, len(results)])
            results[name] = trials(known[name], Path(folder) / name, arguments.trials, rng)
            print(name, json.dumps(results[name]), file=sys.stderr, flush=True)
    print(json.dumps(results, indent=None if arguments.json else 2))
    return 1 if any(result["failures"] for result in results.values()) else 0


def verbs(folder: Path) -> dict[str, Verb]:
    """The commands, and what they read."""
    from latentwrap.encoding import encode
    from latentwrap.training import pretrain

    source, model = folder / "source.h5", folder / "model.safetensors"
    arrays = folder / "visual-cube-play-v0.npz"
    env = "latentwrap/PixelPendulum-v0"
    collect(env, source, steps=EPISODES * STEPS)
    small = {"window": 9, "batch_size": 2}
    pretrain(source, model, options={**small, "steps": 2}, device="cpu")
    data = Dataset(source)
    np.savez(
        arrays,
        observations=data.frames(slice(0, data.num_frames)),
        actions=data.actions,
        terminals=data.terminations | np.roll(data.truncations, 1) | False,
    )
    half = folder / "half.h5"
    collect(env, half, steps=EPISODES // 2 * STEPS)

    def encoded(path: Path, **options: bool) -> object:
        return encode(model, source, path, device="cpu", **options)

    return {
        "collect": Verb(
            lambda path, **options: collect(env, path, steps=EPISODES * STEPS, **options),
            lambda path: collect(env, path, steps=EPISODES // 2 * STEPS),
            repeatable=False,
        ),
        "import": Verb(
            lambda path, **options: import_dataset(arrays, path, **options),
            lambda path: import_dataset(arrays, path, limit=EPISODES // 2),
            repeatable=True,
        ),
        "rechunk": Verb(
            lambda path, **options: rechunk(source, path, codec="zstd", **options),
            lambda path: rechunk(half, path, codec="zstd"),
            repeatable=True,
        ),
        # What was made of other data is never gone on with, so that nothing is left to do.
        "encode": Verb(encoded, encoded, repeatable=True),
    }


def trials(verb: Verb, folder: Path, count: int, rng: np.random.Generator) -> dict:
    """Kill a command so many times.

    Returns:
        How many trials ended how, the most episodes lost in one, and what went wrong.
    """
    folder.mkdir()
    reference, half = folder / "reference.h5", folder / "half.h5"
    whole = watched(verb, reference)
    verb.begin(half)
    seen: collections.Counter[str] = collections.Counter()
    lost, failures = 0, []
    number = -1
    while seen["killed"] < count and number < 5 * count:
        number += 1
        path = folder / str(number) / "data.h5"
        path.parent.mkdir()
        options = ({}, {"force": True}, {"resume": True})[number % 3]
        if options:
            shutil.copy(half, path)
        before = path.stat().st_ino if options else None
        begun = episodes_in(half) if "resume" in options else 0
        moment = rng.uniform(0, 1)
        if number // 3 % 2:
            killed = watched(verb, path, options, joining=moment * whole.joining)
        else:
            killed = watched(verb, path, options, after=moment * whole.seconds)
        if killed.ended:
            seen["ended before"] += 1
            compare(path, reference, repeatable=verb.repeatable)
            shutil.rmtree(path.parent)
            continue
        seen["killed"] += 1
        try:
            lost = max(lost, examine(path, before, begun, killed, seen))
            go_on(verb, path, before, options)
            compare(path, reference, repeatable=verb.repeatable)
        except Exception as error:  # noqa: BLE001 - every failure is counted
            failures.append(f"trial {number} {options}: {type(error).__name__}: {error}")
            continue
        shutil.rmtree(path.parent)
    return {**seen, "most_lost": lost, "failures": failures}


def watched(
    verb: Verb,
    path: Path,
    options: dict | None = None,
    *,
    after: float = math.inf,
    joining: float = math.inf,
) -> Killed:
    """Run a command in a process of its own, and kill it and all its children.

    Args:
        verb: the command.
        path: what it writes.
        options: `force` or `resume`.
        after: seconds after its start.
        joining: seconds after the first sight of the joined file.
    """
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if not child:
        _run(verb, path, options or {}, writing)
    os.setpgid(child, child)
    os.close(writing)
    ended, joined = False, math.inf
    while not ended:
        now = time.monotonic()
        if joined == math.inf and is_joining(path):
            joined = now
        if now - started >= after or now - joined >= joining:
            break
        ended = os.waitpid(child, os.WNOHANG)[0] != 0
        time.sleep(0.0005)
    over = time.monotonic()
    if not ended:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        said = pipe.read()
    spent = max(over - joined, 0)
    return Killed(said.count(b"<"), said.count(b">"), ended, over - started, spent)


def is_joining(path: Path) -> bool:
    """Whether the joined file is being written, or is there."""
    try:
        names = [entry.name for entry in partial_folder(path).iterdir()]
    except OSError:
        return False
    return any(name == "joined" or name.lstrip(".").startswith("whole") for name in names)


def _run(verb: Verb, path: Path, options: dict, pipe: int) -> None:
    """What the process does; it says when it begins to keep an episode and when that is safe."""
    add = EpisodeWriter.add

    def told(self: EpisodeWriter, episode: object) -> None:
        os.write(pipe, b"<")
        add(self, episode)
        os.write(pipe, b">")

    EpisodeWriter.add = told
    code = 1
    try:
        verb.run(path, **options)
        code = 0
    finally:
        os._exit(code)


def episodes_in(path: Path) -> int:
    """How many there are."""
    with h5py.File(path) as file:
        return len(file["episodes/length"])


def examine(
    path: Path, before: int | None, begun: int, killed: Killed, seen: collections.Counter
) -> int:
    """What is left must be whole; returns how many episodes are lost."""
    old = path.exists() and path.stat().st_ino == before
    run = PartialRun.of(path)
    if not path.exists() and not run.worth_keeping:
        assert before is None, "the old file is gone"
        seen["nothing yet"] += 1
        return killed.begun
    found = verify(path)
    assert found.file is None or found.file.whole, found.file
    assert found.partial is None or not found.partial.damaged, found.partial
    seen["old file" if old else "new file" if path.exists() else "no file"] += 1
    if found.partial is not None:
        seen["and a partial"] += 1
    finished = 0 if found.file is None else len(found.file.sound)
    if found.partial is None:
        kept = begun if old else finished
    elif run.whole is not None or run.continues is None:
        kept = found.partial.episodes
    else:
        kept = finished + found.partial.episodes
    assert kept >= begun + killed.safe, f"{kept} of {begun} + {killed.safe} were kept"
    return begun + killed.begun - kept


def go_on(verb: Verb, path: Path, before: int | None, options: dict) -> None:
    """The same command again, with --resume where it left something of itself."""
    left = PartialRun.of(path).worth_keeping
    old = path.exists() and path.stat().st_ino == before
    if not left and old and "force" in options:
        verb.run(path, force=True)
    else:
        verb.run(path, resume=True)


def compare(path: Path, reference: Path, *, repeatable: bool) -> None:
    """The file holds what an uninterrupted run writes, and nothing is left over."""
    assert not partial_folder(path).exists(), "the folder is still there"
    with h5py.File(path) as ours, h5py.File(reference) as theirs:
        lengths = theirs["episodes/length"][:]
        np.testing.assert_array_equal(ours["episodes/length"][:], lengths)
        if repeatable:
            seen = next(name for name in FRAMES if name in theirs)
            for name in ("actions", "terminations", "truncations"):
                np.testing.assert_array_equal(ours[name][:], theirs[name][:])
            # Latents are filtered in batches of episodes, which begin elsewhere after a resume:
            # sums in another order differ in their last bits. Frames are exact.
            np.testing.assert_allclose(ours[seen][:], theirs[seen][:], rtol=0, atol=1e-4)
        else:
            assert all(len(ours[name][:]) == lengths.sum() for name in ("frames", "actions"))


if __name__ == "__main__":
    sys.exit(main())
