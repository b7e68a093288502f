"""What every verb shares: its options, how it reports, and how it fails."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from latentwrap.errors import ConfigError, FailedElsewhere, LatentwrapError
from latentwrap.files import to_json
from latentwrap.launch import Launch

F = TypeVar("F", bound=Callable[..., Any])

MISTAKE = 2
"""Exit code of a user's mistake."""

DEBUG = "latentwrap.debug"
"""Where a command finds whether --debug was given, in `Context.meta`."""

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class Mistake(click.ClickException):
    """A user's mistake: one sentence on standard error and exit code 2."""

    exit_code = MISTAKE


class Interrupted(click.ClickException):
    """Ctrl-C where nothing could be kept: one sentence on standard error."""

    exit_code = INTERRUPTED

    def __init__(self) -> None:
        super().__init__("Interrupted; what was finished before stays, see --resume.")


class Verb(click.Command):
    """A command that turns expected errors into one sentence, unless --debug is given."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        debug = ctx.meta[DEBUG] = ctx.params.pop("debug", False)
        try:
            self.check_launch(Launch.from_environment())
            with warnings.catch_warnings():
                if not debug:
                    warnings.showwarning = _tell_warning
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted from None
        except FailedElsewhere:
            if debug:
                raise
            # Whose error it is says it. It also alone gives the exit code: torchrun ends all others
            # as soon as one has failed, maybe before that one has spoken.
            ctx.exit(0)
        except (LatentwrapError, OSError) as error:
            if debug:
                raise
            raise Mistake(" ".join(str(error).split())) from error

    def check_launch(self, launch: Launch) -> None:
        """Refuse to do the same work in several processes, over each other.

        Raises:
            ConfigError: there are several.
        """
        if launch.count > 1:
            # Each says so: who started it, and whether another is there to say it, is not known.
            raise ConfigError(
                f"latentwrap {self.name} works in one process, got {launch.count} (WORLD_SIZE): "
                "only pretrain shares its work, start this without torchrun."
            )


class SharedVerb(Verb):
    """A command whose work the processes that torchrun starts share; the first one speaks."""

    def check_launch(self, launch: Launch) -> None:
        """Any number will do."""


def _tell_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """As a sentence; where in the code it arose is nothing to a user."""
    if Launch.from_environment().first:
        click.echo(f"Warning: {message}", err=True)


class Report:
    """Prints results: for people on standard output, or as one JSON line with --json.

    Args:
        as_json: people's lines go to standard error, and the JSON object ends the output.
        silent: print nothing at all.
    """

    def __init__(self, *, as_json: bool, silent: bool = False) -> None:
        self._as_json = as_json and not silent
        self._console = Console(stderr=as_json, highlight=False, soft_wrap=True, quiet=silent)

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(text, markup=False)

    def table(self, title: str, rows: dict[str, Any]) -> None:
        """Print names and values."""
        table = Table(title=Text(title), show_header=False, title_justify="left", box=None)
        table.add_column(style="dim")
        table.add_column(overflow="fold")
        for name, value in rows.items():
            table.add_row(Text(name), Text(str(value)))
        self._console.print(table)

    def print(self, renderable: Any) -> None:
        """Print anything that rich can draw."""
        self._console.print(renderable)

    def next(self, *commands: Sequence[object]) -> None:
        """Say what to type next; each command comes as its words."""
        self.say("\nNext:")
        for words in commands:
            self.say(f"  {shlex.join(str(word) for word in words)}")

    def result(self, **values: Any) -> None:
        """End with the JSON object, if it was asked for."""
        if self._as_json:
            click.echo(to_json(values))


def verb_options(function: F) -> F:
    """Add --json and --debug."""
    function = click.option("--debug", is_flag=True, help="Show the traceback of an error.")(
        function
    )
    return click.option(
        "--json", "as_json", is_flag=True, help="End with one line of JSON; the rest to stderr."
    )(function)


def seed_option(function: F) -> F:
    """Add --seed."""
    return click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)(
        function
    )


def device_option(function: F) -> F:
    """Add --device."""
    return click.option(
        "--device",
        default="auto",
        show_default=True,
        help="auto, cpu or cuda; auto takes CUDA where there is one.",
    )(function)


def run_options(function: F) -> F:
    """Add --resume and --force."""
    function = click.option("--force", is_flag=True, help="Replace what is there.")(function)
    return click.option("--resume", is_flag=True, help="Go on with an interrupted run.")(function)


def frame_options(function: F) -> F:
    """Add --size and --grey."""
    function = click.option("--grey", is_flag=True, help="Store grey frames of coloured images.")(
        function
    )
    return click.option(
        "--size",
        metavar="HxW",
        callback=_parse_size,
        default="64x64",
        show_default=True,
        help="Height and width of the frames; one number for a square.",
    )(function)


def _parse_size(_ctx: click.Context, _param: click.Parameter, text: str) -> tuple[int, int]:
    from latentwrap.pixels.frames import SMALLEST_SIDE

    numbers = text.lower().split("x")
    sides = [int(number) for number in numbers if number.isdecimal()]
    if len(sides) < len(numbers) or len(sides) > 2 or min(sides) < SMALLEST_SIDE:
        raise click.BadParameter(
            f"expected HxW such as 96x128, no side below {SMALLEST_SIDE}, got {text!r}"
        )
    return sides[0], sides[-1]


def observation_options(function: F) -> F:
    """Add --image-key, --vector-key and --layout."""
    for option in (
        click.option(
            "--layout", help="Of the images, such as CHW or THW.  [default: by their shape]"
        ),
        click.option(
            "--vector-key",
            "vector_keys",
            multiple=True,
            metavar="KEY",
            help="Entry that is a vector, kept beside the frames; may be repeated.",
        ),
        click.option(
            "--image-key",
            "image_keys",
            multiple=True,
            metavar="KEY",
            help="Entry of a Dict observation that is an image; repeated, cameras side by side.",
        ),
    ):
        function = option(function)
    return function


def observation_words(
    image_keys: Sequence[str], vector_keys: Sequence[str], layout: str | None
) -> list[str]:
    """What to type to say the same by `observation_options`."""
    words = [word for key in image_keys for word in ("--image-key", key)]
    words += [word for key in vector_keys for word in ("--vector-key", key)]
    return [*words, "--layout", layout] if layout else words


def making_options(function: F) -> F:
    """Add what decides how the frames of an environment are made."""
    for option in (
        click.option(
            "--camera",
            "cameras",
            multiple=True,
            metavar="NAME",
            help="Camera that MuJoCo renders, or its number; repeated, side by side.",
        ),
        click.option(
            "--rendering",
            type=click.Choice(["fast", "full"]),
            default="fast",
            show_default=True,
            help="What MuJoCo renders; fast: no multisampling, shadows and reflections.",
        ),
        observation_options,
        frame_options,
        click.option(
            "--frame-skip",
            type=click.IntRange(min=1),
            default=1,
            show_default=True,
            help="How often each action is repeated.",
        ),
    ):
        function = option(function)
    return function


def parse_making(options: dict[str, Any]) -> dict[str, Any]:
    """The values of `making_options` as arguments of `FrameEnvMaker`."""
    height, width = options["size"]
    kept = ("frame_skip", "grey", "vector_keys", "layout", "rendering", "cameras")
    return {
        "height": height,
        "width": width,
        "image_keys": options["image_keys"] or None,
        **{name: options[name] for name in kept},
    }


def making_words(making: Mapping[str, Any]) -> list[str]:
    """What to type to say the same by `making_options`."""
    from latentwrap.pixels import DEFAULT_SIZE

    height, width = (making.get(side, DEFAULT_SIZE) for side in ("height", "width"))
    words = ["--size", f"{height}x{width}"]
    words += ["--grey"] if making.get("grey") else []
    words += ["--frame-skip", str(making.get("frame_skip", 1))]
    words += ["--rendering", str(making.get("rendering", "fast"))]
    words += [word for name in making.get("cameras") or () for word in ("--camera", str(name))]
    keys = making.get("image_keys") or (), making.get("vector_keys") or ()
    return words + observation_words(*keys, making.get("layout"))


def parse_settings(config: Path | None, settings: tuple[str, ...]) -> dict[str, Any]:
    """Hyperparameters from a YAML file, then from `name=value` pairs, which win.

    Raises:
        ConfigError: the file cannot be read.
        click.BadParameter: a pair without `=`.
    """
    import yaml

    from latentwrap.config import load_yaml

    options = {} if config is None else load_yaml(config)
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals:
            raise click.BadParameter(f"expected NAME=VALUE, got {setting!r}", param_hint="--set")
        try:
            options[name.strip()] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise click.BadParameter(
                f"the value in {setting!r} is no YAML", param_hint="--set"
            ) from None
    return options


def settings_options(function: F) -> F:
    """Add --config and --set."""
    function = click.option(
        "--set",
        "settings",
        multiple=True,
        metavar="NAME=VALUE",
        help="Change one hyperparameter; may be repeated.",
    )(function)
    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        help="A YAML file of hyperparameters.",
    )(function)


def path_argument(name: str, metavar: str) -> Callable[[F], F]:
    """A positional file or folder; whether it exists is checked by who reads it."""
    return click.argument(name, metavar=metavar, type=click.Path(path_type=Path))


def output_option(help_text: str, *, required: bool = True) -> Callable[[F], F]:
    """Add -o/--output."""
    return click.option(
        "-o",
        "--output",
        required=required,
        type=click.Path(path_type=Path),
        help=help_text,
    )
