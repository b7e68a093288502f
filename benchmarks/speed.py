"""Time latentwrap beside its peers and beside what the machine could do at best.

    make bench SLAC_PYTORCH=PATH_TO_YOUR_CLONE
    python benchmarks/speed.py --slac-pytorch PATH_TO_YOUR_CLONE --only filter sac

Every contestant lives in a process of its own, as it would for its user, and they take turns; what
is given are medians. A floor is the arithmetic of the work at the rate of a large product of
matrices, measured in the same turns. Peers that are not installed are left out and named.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import speed_ours as ours
import speed_peers as peers
from speed_race import Contestant, race

_MANY = 150
_SAME_WORK = {"latentwrap", "latentwrap, onnx"}
_PACKAGES = ("torch", "numpy", "stable_baselines3", "sbx-rl", "jax", "onnxruntime")


@dataclass(frozen=True)
class Subject:
    """What is raced.

    Attributes:
        title: in the table.
        contestants: ours first.
        flops: of a unit of the work; the floor.
    """

    title: str
    contestants: Mapping[str, Contestant]
    flops: int


def main() -> None:
    """Run the races and print a table."""
    arguments = _arguments()
    rows = []
    for name, make in SUBJECTS.items():
        if arguments.only and name not in arguments.only:
            continue
        for subject in make(arguments.slac_pytorch):
            rows.append(_measure(name, subject, arguments))
            print(_line(rows[-1]), flush=True)
    found = {"machine": _machine(arguments.threads), "rows": rows}
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("\n" + markdown(rows))
    absent = {name for row in rows for name in row["missing"]}
    if absent:
        raise SystemExit(f"Not raced: {', '.join(sorted(absent))}; see why above.")


def _measure(name: str, subject: Subject, arguments: argparse.Namespace) -> dict[str, Any]:
    contestants = {**subject.contestants, "matrices": Contestant(ours.matrices, {})}
    found = race(contestants, rounds=arguments.rounds, threads=arguments.threads)
    rate = ours.MATRICES_FLOPS / float(found.pop("matrices"))
    return {
        "subject": name,
        "title": subject.title,
        "flops": subject.flops,
        "matrices_flops_per_second": rate,
        "floor_seconds": subject.flops / rate,
        "of_floor": sorted({*subject.contestants} & _SAME_WORK),
        "seconds": {key: value for key, value in found.items() if isinstance(value, float)},
        "missing": {key: value for key, value in found.items() if isinstance(value, str)},
    }


def _filters(path: Path | None) -> list[Subject]:
    subjects = []
    for num in (1, 4, 16, 32, 64, 256):
        who = {
            "latentwrap": Contestant(ours.filter_step, {"num": num}),
            "latentwrap, onnx": Contestant(ours.filter_step, {"num": num, "backend": "onnx"}),
        }
        if num == 1:
            who |= _slac(path, "explore")
        title = f"filter step, `fast`, {num} environment{'s' * (num > 1)}"
        subjects.append(Subject(title, who, ours.encoder_flops(num)))
    return subjects


def _sac(_path: Path | None) -> list[Subject]:
    subjects = []
    for size in (64, 288):
        many = {"size": size, "updates": _MANY}
        who = {
            "latentwrap": Contestant(ours.sac_update, {"size": size}),
            "SB3": Contestant(peers.sb3_update, {"env": "vectors", "size": size}),
            "SBX, one update a call": Contestant(peers.sbx_update, {"size": size, "updates": 1}),
            f"SBX, {_MANY}": Contestant(peers.sbx_update, many, units=_MANY),
        }
        flops = ours.flops(ours.sac_update(size))
        subjects.append(Subject(f"SAC update, {size} numbers", who, flops))
    return subjects


def _agent(path: Path | None) -> list[Subject]:
    size = ours.make_model("fast").latent_size
    who = {
        "latentwrap": Contestant(ours.sac_update, {"size": size}),
        "SB3 CnnPolicy": Contestant(peers.sb3_update, {"env": "pixels"}),
        **_slac(path, "agent"),
    }
    flops = ours.flops(ours.sac_update(size))
    return [Subject("agent update from pixels, frozen `fast` model", who, flops)]


def _models(path: Path | None) -> list[Subject]:
    paper = Contestant(ours.model_update, {"preset": "paper"})
    subjects = [
        Subject(
            "model update, `paper`",
            {"latentwrap": paper, **_slac(path, "model")},
            ours.flops(ours.model_update("paper")),
        )
    ]
    for kind in ("rssm", "slac", "deterministic"):
        what = {"preset": "fast", "kind": kind}
        who = {"latentwrap": Contestant(ours.model_update, what), **_slac(path, "model")}
        subjects.append(
            Subject(f"model update, `fast` {kind}", who, ours.flops(ours.model_update(**what)))
        )
    return subjects


def _joint(path: Path | None) -> list[Subject]:
    who = {
        "latentwrap": Contestant(ours.joint_update, {"published": False}),
        "latentwrap, fresh latents": Contestant(ours.joint_update, {"published": True}),
        **_slac(path, "joint"),
    }
    flops = ours.flops(ours.joint_update(published=False))
    return [Subject("joint update of model and agent, `paper`", who, flops)]


SUBJECTS = {
    "filter": _filters,
    "sac": _sac,
    "agent": _agent,
    "model": _models,
    "joint": _joint,
}


def _slac(path: Path | None, work: str) -> dict[str, Contestant]:
    if path is None:
        return {}
    return {"slac.pytorch": Contestant(peers.slac_pytorch, {"path": path, "work": work})}


def _line(row: Mapping[str, Any]) -> str:
    times = ", ".join(f"{name} {1000 * s:.3f}" for name, s in row["seconds"].items())
    missing = "".join(f"\n    {name} is missing: {why}" for name, why in row["missing"].items())
    return f"{row['title']}: ms {times}, floor {1000 * row['floor_seconds']:.3f}{missing}"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of the documentation."""
    lines = [
        "| work | floor, ms | who | ms | times ours | of the floor |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        reference, floor = row["seconds"].get("latentwrap"), row["floor_seconds"]
        for index, (name, seconds) in enumerate(row["seconds"].items()):
            title, at_best = (row["title"], f"{1000 * floor:.3g}") if index == 0 else ("", "")
            ratio = f"{seconds / reference:.2f}" if reference and index else ""
            # Others may do more arithmetic, or less.
            share = f"{100 * floor / seconds:.0f} %" if name in row["of_floor"] else ""
            cells = [title, at_best, name, f"{1000 * seconds:.3g}", ratio, share]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _machine(threads: int) -> dict[str, Any]:
    installed = {found.name: found.version for found in distributions()}
    return {
        "processor": _processor(),
        "threads": threads,
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in _PACKAGES if name in installed},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--slac-pytorch", type=Path, help="a clone of slac.pytorch")
    parser.add_argument("--only", nargs="+", choices=SUBJECTS, help="what to race")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("-o", "--output", type=Path, help="write all figures as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
