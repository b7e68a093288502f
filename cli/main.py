"""The command `latentwrap`."""

from __future__ import annotations

import importlib
import io
import keyword
import sys
from pathlib import Path

import click

from latentwrap._version import __version__
from latentwrap.allocator import keep_freed_memory

# Loaded when asked for, so that `--help` does not import torch.
_VERBS = {
    "collect": "Run a policy in an environment and write a dataset.",
    "import": "Turn the pixel data of others into a dataset.",
    "inspect": "Show what is in a dataset.",
    "verify": "Say whether a dataset is whole, and mend it.",
    "rechunk": "Lay a dataset out for speed.",
    "pretrain": "Train a latent model on a dataset.",
    "evaluate": "Measure a latent model: the quality report.",
    "encode": "Write a dataset as latents, for offline RL.",
    "export": "Write a latent model for a robot without torch.",
    "train": "Train SAC on latents, or with --joint model and agent together.",
    "improve": "Let agent and model teach each other, round by round.",
    "play": "Evaluate a trained agent and record a video.",
    "demo": "Solve a pixel task from nothing, in minutes.",
    "doctor": "Say what this machine has and lacks, and how to mend it.",
}


def _module(verb: str) -> str:
    """`import` is a word of Python's own, and cannot name a module."""
    return f"latentwrap.cli.{verb}_" if keyword.iskeyword(verb) else f"latentwrap.cli.{verb}"


class _Verbs(click.Group):
    """A group whose commands live in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Names in the order in which they are used."""
        return list(_VERBS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002
        cmd_name: str,
    ) -> click.Command | None:
        """Load one command."""
        if cmd_name not in _VERBS:
            return None
        command: click.Command = importlib.import_module(_module(cmd_name)).command
        return command

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, package_name="latentwrap")
def main() -> None:
    """Turn pixel observations into filtered latent states.

    \b
    A first tour:
      latentwrap demo
    Your own environment:
      latentwrap collect CarRacing-v3 -o car.h5 --steps 20000
      latentwrap pretrain car.h5 -o car.safetensors
      latentwrap train CarRacing-v3 --model car.safetensors --data car.h5
    """
    keep_freed_memory()
    sys.path.append(str(Path.cwd()))  # for module:id; last, so that nothing here hides a package
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without ± or θ is no reason to fail


if __name__ == "__main__":
    main()
