"""The floors that the times of `make bench` are compared with."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
import speed
from speed_ours import (
    ACTION_SIZE,
    BATCH,
    WINDOWS,
    Cost,
    filter_cost,
    make_model,
    model_cost,
    sac_cost,
)

ROOT = Path(__file__).resolve().parents[2]
HIDDEN = 256


def layers(*sizes: int) -> int:
    """Weights and biases of a network of such layers."""
    return sum((a + 1) * b for a, b in itertools.pairwise(sizes))


def test_an_update_of_sac_moves_what_it_learns_and_draws() -> None:
    size = 20
    actor = layers(size, HIDDEN, HIDDEN, 2 * ACTION_SIZE)
    critics = 2 * layers(size + ACTION_SIZE, HIDDEN, HIDDEN, 1)
    drawn = BATCH * (2 * size + ACTION_SIZE + 2)
    cost = sac_cost(size)
    assert cost.moved == 4 * 2 * (4 * (actor + critics) + critics + drawn)
    # The actor in both states, the targets, and the critics twice; gradients take as much again,
    # or twice as much.
    forwards = 2 * BATCH * (2 * actor + 3 * critics)
    assert forwards < cost.flops < 3 * forwards


def test_a_step_of_the_filter_reads_frames_and_weights_once() -> None:
    one, many = filter_cost(1), filter_cost(32)
    assert many.flops == 32 * one.flops
    assert many.moved - one.moved == 31 * 64 * 64 * 3
    assert 64 * 64 * 3 < one.moved < 10 * one.flops


def test_an_update_of_a_model_moves_its_weights_eight_times() -> None:
    model, fast = make_model("fast"), model_cost("fast")
    windows = WINDOWS * (9 * 64 * 64 * 3 + 8 * (4 * (ACTION_SIZE + 1) + 1))
    assert fast.moved == 8 * sum(4 * p.numel() for p in model.parameters()) + windows


def test_a_floor_is_what_takes_longer() -> None:
    cost = Cost(flops=600, moved=50)
    found = speed.floor(cost, matrices=200.0, copy=10.0)
    assert (found["bound"], found["floor_seconds"]) == ("bytes", 5.0)
    found = speed.floor(cost, matrices=100.0, copy=10.0)
    assert (found["bound"], found["floor_seconds"]) == ("flops", 6.0)


def test_the_table_says_where_bytes_are_the_floor() -> None:
    def row(**rates: float) -> dict[str, Any]:
        seconds = {"latentwrap": 0.01, "SB3": 0.025}
        found = speed.floor(Cost(flops=600, moved=50), **rates)
        return {"title": "work", "seconds": seconds, "of_floor": ["latentwrap"], **found}

    table = speed.markdown([row(matrices=1e5, copy=1e5), row(matrices=1e6, copy=1e4)]).splitlines()
    assert table[2:] == [
        "| work | 6 | latentwrap | 10 |  | 60 % |",
        "|  |  | SB3 | 25 | 2.50 |  |",
        "| work | 5, bytes | latentwrap | 10 |  | 50 % |",
        "|  |  | SB3 | 25 | 2.50 |  |",
    ]


def test_the_page_on_speed_has_the_table_of_the_race() -> None:
    rows = json.loads((ROOT / "benchmarks" / "speed.json").read_text(encoding="utf-8"))["rows"]
    assert speed.markdown(rows).strip() in (ROOT / "docs" / "performance.md").read_text("utf-8")


def test_the_page_on_exports_has_the_figures_of_the_race() -> None:
    rows = json.loads((ROOT / "benchmarks" / "speed.json").read_text(encoding="utf-8"))["rows"]
    told = []
    for row in (row for row in rows if row["subject"] == "filter"):
        _, model, environments = row["title"].split(", ")
        by = (f"{1e6 * row['seconds'][who]:.0f}" for who in ("latentwrap", "latentwrap, onnx"))
        told.append(f"| {' | '.join((model, environments.split()[0], *by))} |")
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    table = page.partition("| model | environments | torch | onnx |\n|---|---|---|---|\n")[2]
    assert table.partition("\n\n")[0].splitlines() == told
