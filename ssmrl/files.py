"""Whole files, replaced so that no reader finds a part of one."""

import os
import tempfile
from pathlib import Path


def replace_file(path: Path, text: str) -> None:
    """Writes a whole file so that a reader finds the old one or the new one, never a part.

    Raises:
        OSError: If the folder cannot be written; the old file is then untouched.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's 0600 would keep the report from the user's colleagues
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
