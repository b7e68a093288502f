"""The rows that the tests in integrations/ recorded, as the table in docs/libraries.md.

LATENTWRAP_RESULTS=rows.jsonl make integrations
python integrations/table.py rows.jsonl
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs" / "libraries.md"
BEGIN, END = "<!-- rows -->\n", "<!-- /rows -->\n"
COLUMNS = ("library", "version", "gymnasium", "algorithm", "steps", "result", "date")


def main() -> None:
    """Replace the rows of the published table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rows", type=Path)
    lines = parser.parse_args().rows.read_text(encoding="utf-8").splitlines()
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    table = as_table([json.loads(line) for line in lines])
    DOCS.write_text(f"{before}{BEGIN}{table}{END}{after}", encoding="utf-8")


def as_table(rows: list[dict[str, object]]) -> str:
    """Markdown, the latest row of each library and algorithm, in the order of their names."""
    latest = {(row["library"], row["algorithm"]): row for row in rows}
    ordered = sorted(latest.values(), key=lambda row: str(row["library"]).lower())
    body = [[f"{row[name]:,}" if name == "steps" else str(row[name]) for name in COLUMNS]
            for row in ordered]  # fmt: skip
    lines = [COLUMNS, ["---"] * len(COLUMNS), *body]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


if __name__ == "__main__":
    main()
