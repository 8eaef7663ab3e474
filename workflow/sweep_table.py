"""Writes a sweep's points as one tidy table, and beside it a .json that says how it was made.

python workflow/sweep_table.py SWEEP.yaml DATA ARTIFACTS OUTPUT.csv
"""

from __future__ import annotations

import sys
from pathlib import Path

from medddist.base.files import write_bytes, write_json
from medddist.base.version import about
from medddist.measure.intervals import INTERVAL
from medddist.study.sweep import load_sweep, table


def main() -> int:
    path, data, out, output = sys.argv[1:]
    sweep = load_sweep(path, data)
    rows = table(sweep, out)
    settings = sweep.model_dump(mode="json") | {"data": sorted(set(rows["data"]))}
    write_json(
        Path(output).with_suffix(".json"),
        {"sweep": settings, "interval": INTERVAL, "about": about()},
    )
    write_bytes(output, rows.to_csv(index=False).encode())
    print(f"{len(rows)} rows in {output}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
