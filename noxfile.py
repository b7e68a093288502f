"""Runs latentwrap in the RL libraries themselves, each in an environment of its own.

Their pins conflict, so one environment cannot hold them all:

    nox                   every library
    nox -s sb3 zoo        some of them
    nox -r                in the environments of the last run, which takes seconds to prepare
    nox -s sb3 -- -k PPO  the rest goes to pytest

A folder `integrations/<library>` with its `requirements.txt` and tests is a session. With
`LATENTWRAP_RESULTS=rows.jsonl` every test that passes appends its row of the published table.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

ROOT = Path(__file__).resolve().parent
# pip's own settings (wheels at hand, another index, the cache that CI keeps) hold here as well.
nox.options.default_venv_backend = "virtualenv"


def torch_pin() -> str:
    """The torch that latentwrap is tested with; named to pip, so that no library takes another."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return next(line for line in lines if line.startswith("torch=="))


def add_session(library: str) -> None:
    """Let `nox -s library` run the tests in `integrations/library`."""

    @nox.session(name=library)
    def run(session: nox.Session) -> None:
        folder = f"integrations/{library}"
        # One resolution, so that a library that asks for another torch fails here and says so;
        # what is never imported need not be compiled.
        requirements = ["-r", f"{folder}/requirements.txt", "-e", "."]
        session.install("--no-compile", torch_pin(), *requirements)
        # The networks are small: a second thread only makes them slower.
        threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        options = ["-p", "no:cacheprovider", "-c", "integrations/pytest.ini"]
        session.run("pytest", *options, folder, *session.posargs, env=threads)

    run.__doc__ = f"latentwrap in {library}"


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """latentwrap beside its peers: `nox -s bench -- --slac-pytorch PATH_TO_YOUR_CLONE`."""
    # Figures are told with versions; unlike those of the integrations, these agree with our own.
    requirements = ["-r", "benchmarks/requirements.txt", "-e", ".[onnx]"]
    session.install("-c", "constraints.txt", *requirements)
    session.run("python", "benchmarks/speed.py", *session.posargs)


for _requirements in sorted(ROOT.glob("integrations/*/requirements.txt")):
    add_session(_requirements.parent.name)
