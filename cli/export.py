"""`latentwrap export`."""

from __future__ import annotations

from pathlib import Path

import click

from latentwrap.cli.common import Report, Verb, output_option, path_argument, verb_options
from latentwrap.files import to_json


@click.command("export", cls=Verb)
@path_argument("model", "MODEL.safetensors")
@click.option("--onnx", is_flag=True, required=True, help="As ONNX graphs, which onnxruntime runs.")
@output_option("A folder.  [default: beside the model, MODEL.onnx]", required=False)
@click.option("--force", is_flag=True, help="Replace a folder of graphs that is there.")
@verb_options
def command(
    *,
    model: Path,
    onnx: bool,  # noqa: ARG001 - the only form there is; it is required
    output: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write encoder and filter steps of a model for a robot without torch.

    The graphs are compared with torch before they are kept. `latentwrap.OnnxFilter` runs them on
    numpy and onnxruntime; with backend="onnx" the wrappers run those that lie beside the model.

    \b
    Example:
      latentwrap export car.safetensors --onnx
    """
    from latentwrap.exporting import export_onnx

    report = Report(as_json=as_json)
    result = export_onnx(model, output, force=force, show_progress=True)
    card = result.card
    report.say(
        f"{result.path}: {', '.join(result.sizes)}; {sum(result.sizes.values()) / 1e6:.1f} MB, "
        f"opset {card.opset}, latents within {result.difference:.0e} of torch's."
    )
    report.next(_show(result.path))
    report.result(
        output=result.path,
        model=card.model_fingerprint,
        kind=card.kind,
        opset=card.opset,
        belief=card.belief,
        latent_size=card.latent_size,
        bytes=result.sizes,
        difference=result.difference,
        seconds=result.seconds,
    )


def _show(folder: Path) -> list[object]:
    """A command that opens the graphs with the program that runs them."""
    # JSON's quotes are not those that a shell takes.
    code = f"from latentwrap import OnnxFilter; print(OnnxFilter({to_json(str(folder))}).card)"
    return ["python", "-c", code]
