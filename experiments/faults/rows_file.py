"""Results of the fault experiments as CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ssmrl.files import replace_file


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows to a CSV file, replacing it.

    Args:
        path: CSV file; its folder is made if missing.
        rows: Rows, each with the columns of the first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(path, text.getvalue())
