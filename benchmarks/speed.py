"""Time latentwrap beside its peers and beside what the machine could do at best.

    make bench SLAC_PYTORCH=PATH_TO_YOUR_CLONE
    python benchmarks/speed.py --slac-pytorch PATH_TO_YOUR_CLONE --only filter sac

Every contestant lives in a process of its own, as it would for its user, and they take turns; what
is given are medians. A floor is the arithmetic of the work at the rate of a large product of
matrices, or its bytes at the rate of a large copy, whichever takes longer; both rates are measured
in the same turns. Peers that are not installed are left out and named.
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
_SAME_WORK = {"latentwrap", "latentwrap, onnx", f"latentwrap, {_MANY}"}
_PACKAGES = ("torch", "numpy", "stable_baselines3", "sbx-rl", "jax", "onnxruntime")


@dataclass(frozen=True)
class Subject:
    """What is raced.

    Attributes:
        title: in the table.
        contestants: ours first.
        cost: of a unit of the work.
    """

    title: str
    contestants: Mapping[str, Contestant]
    cost: ours.Cost


def main() -> None:
    """Run the races and print a table."""
    arguments = _arguments()
    rows: list[dict[str, Any]] = []
    found = {"machine": _machine(arguments.threads), "rows": rows}
    for name, make in SUBJECTS.items():
        if arguments.only and name not in arguments.only:
            continue
        for subject in make(arguments.slac_pytorch):
            print(f"{subject.title}: {', '.join(subject.contestants)} take turns …", flush=True)
            rows.append(_measure(name, subject, arguments))
            print(_line(rows[-1]), flush=True)
            if arguments.output:
                arguments.output.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print("\n" + markdown(rows))
    absent = {name for row in rows for name in row["missing"]}
    if absent:
        raise SystemExit(f"Not raced: {', '.join(sorted(absent))}; see why above.")


def _measure(name: str, subject: Subject, arguments: argparse.Namespace) -> dict[str, Any]:
    limits = {"matrices": Contestant(ours.matrices, {}), "copy": Contestant(ours.copy, {})}
    contestants = {**subject.contestants, **limits}
    found = race(contestants, rounds=arguments.rounds, threads=arguments.threads)
    return {
        "subject": name,
        "title": subject.title,
        **floor(
            subject.cost,
            matrices=ours.MATRICES_FLOPS / float(found.pop("matrices")),
            copy=ours.COPIED_BYTES / float(found.pop("copy")),
        ),
        "of_floor": sorted({*subject.contestants} & _SAME_WORK),
        "seconds": {key: value for key, value in found.items() if isinstance(value, float)},
        "missing": {key: value for key, value in found.items() if isinstance(value, str)},
    }


def floor(cost: ours.Cost, *, matrices: float, copy: float) -> dict[str, Any]:
    """What bounds some work, and how long it takes at best.

    Args:
        cost: of the work.
        matrices: FLOPs of a product of matrices in a second.
        copy: bytes that a copy reads and writes in a second.
    """
    seconds = {"flops": cost.flops / matrices, "bytes": cost.moved / copy}
    bound = max(seconds, key=lambda name: seconds[name])
    return {
        "flops": cost.flops,
        "bytes": cost.moved,
        "matrices_flops_per_second": matrices,
        "copy_bytes_per_second": copy,
        "bound": bound,
        "floor_seconds": seconds[bound],
    }


def _filters(path: Path | None) -> list[Subject]:
    subjects = []
    for preset, counts in (("fast", (1, 4, 16, 32, 64, 256)), ("paper", (1, 32))):
        for num in counts:
            what = {"num": num, "preset": preset}
            who = {
                "latentwrap": Contestant(ours.filter_step, what),
                "latentwrap, onnx": Contestant(ours.filter_step, {**what, "backend": "onnx"}),
            }
            if num == 1:
                who |= _slac(path, "explore", preset=preset)
            title = f"filter step, `{preset}`, {num} environment{'s' * (num > 1)}"
            subjects.append(Subject(title, who, ours.filter_cost(num, preset)))
    return subjects


def _sac(_path: Path | None) -> list[Subject]:
    subjects = []
    for size in (64, 288):
        one = {"size": size, "updates": 1}
        many = {"size": size, "updates": _MANY}
        who = {
            "latentwrap": Contestant(ours.sac_update, one),
            f"latentwrap, {_MANY}": Contestant(ours.sac_update, many, units=_MANY),
            "SB3, one update a call": Contestant(peers.sb3_update, {"env": "vectors", **one}),
            f"SB3, {_MANY}": Contestant(peers.sb3_update, {"env": "vectors", **many}, units=_MANY),
            "SBX, one update a call": Contestant(peers.sbx_update, one),
            f"SBX, {_MANY}": Contestant(peers.sbx_update, many, units=_MANY),
        }
        subjects.append(Subject(f"SAC update, {size} numbers", who, ours.sac_cost(size)))
    return subjects


def _agent(path: Path | None) -> list[Subject]:
    size = ours.make_model("fast").latent_size
    who = {
        "latentwrap": Contestant(ours.sac_update, {"size": size}),
        "SB3 CnnPolicy": Contestant(peers.sb3_update, {"env": "pixels"}),
        **_slac(path, "agent"),
    }
    return [Subject("agent update from pixels, frozen `fast` model", who, ours.sac_cost(size))]


def _models(path: Path | None) -> list[Subject]:
    subjects = []
    for preset, kind in (
        ("paper", "slac"),
        ("fast", "rssm"),
        ("fast", "slac"),
        ("fast", "deterministic"),
    ):
        what = {"preset": preset, "kind": kind}
        rounded = {**what, "precision": "bfloat16"}
        who = {
            "latentwrap": Contestant(ours.model_update, what),
            "latentwrap, bfloat16": Contestant(ours.model_update, rounded),
            **_slac(path, "model", preset=preset),
        }
        subjects.append(Subject(f"model update, `{preset}` {kind}", who, ours.model_cost(**what)))
    return subjects


def _joint(path: Path | None) -> list[Subject]:
    who = {
        "latentwrap": Contestant(ours.joint_update, {"published": False}),
        "latentwrap, fresh latents": Contestant(ours.joint_update, {"published": True}),
        **_slac(path, "joint", preset="paper"),
    }
    return [Subject("joint update of model and agent, `paper`", who, ours.joint_cost())]


SUBJECTS = {
    "filter": _filters,
    "sac": _sac,
    "agent": _agent,
    "model": _models,
    "joint": _joint,
}


def _slac(path: Path | None, work: str, *, preset: str = "fast") -> dict[str, Contestant]:
    """It has one size of model, which is said where ours is of another."""
    if path is None:
        return {}
    name = "slac.pytorch" if preset == "paper" else "slac.pytorch, paper's size"
    return {name: Contestant(peers.slac_pytorch, {"path": path, "work": work})}


def _line(row: Mapping[str, Any]) -> str:
    times = ", ".join(f"{name} {1000 * s:.3f}" for name, s in row["seconds"].items())
    missing = "".join(f"\n    {name} is missing: {why}" for name, why in row["missing"].items())
    return f"{row['title']}: ms {times}, floor {_told_floor(row)}{missing}"


def _told_floor(row: Mapping[str, Any]) -> str:
    """In milliseconds; nothing is said of what bounds nearly all work."""
    bound = ", bytes" if row["bound"] == "bytes" else ""
    return f"{1000 * row['floor_seconds']:.3g}{bound}"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table of the documentation."""
    lines = [
        "| work | floor, ms | who | ms | times ours | of the floor |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        reference, floor = row["seconds"].get("latentwrap"), row["floor_seconds"]
        for index, (name, seconds) in enumerate(row["seconds"].items()):
            title, at_best = (row["title"], _told_floor(row)) if index == 0 else ("", "")
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
