"""Damages to files of a sweep, as a bad disk or a killed process would leave them."""

from pathlib import Path

import numpy as np


def damage(path: Path, how: str, rng: np.random.Generator) -> None:
    """Damage a file.

    Args:
        path: An existing file that is not empty.
        how: ``truncated`` at some byte, ``flipped`` in one bit, ``deleted``, or ``zeroed``: filled
            with zeros at equal length.
        rng: Generator of the place.

    Raises:
        KeyError: If ``how`` is not known.
    """
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content)))
    if how == "truncated":
        path.write_bytes(content[:place])
    elif how == "flipped":
        content[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
    elif how == "deleted":
        path.unlink()
    elif how == "zeroed":
        path.write_bytes(bytes(len(content)))
    else:
        known = "truncated, flipped, deleted, zeroed"
        raise KeyError(f"unknown damage {how!r}; the damages are: {known}")


def tear(path: Path, rng: np.random.Generator) -> int:
    """Append half a record, as a process leaves it that is killed while it writes.

    Args:
        path: File of lines, the last of them complete.
        rng: Generator of the length.

    Returns:
        Number of bytes appended.
    """
    line = path.read_bytes().splitlines(keepends=True)[-1]
    half = line[: int(rng.integers(1, len(line) - 1))]
    with path.open("ab") as file:
        file.write(half)
    return len(half)
