"""Format number of the project's files, and the check that refuses others; not a converter."""

FORMAT = 2
"""Format number in every configuration, checkpoint, space file and row."""


class FormatError(ValueError):
    """The file was written by another version of the project."""


def check_format(found: object, what: str) -> None:
    """Refuse formats that this version does not read; nothing is guessed from another format.

    Args:
        found: Format number in the file, as a number or text; None if there is none.
        what: Name of what was read, for the message.

    Raises:
        FormatError: If the format is not ``FORMAT``; the message says which version reads it.

    Example:
        >>> check_format(2, "trials.jsonl")
        >>> check_format(3, "x.json")
        Traceback (most recent call last):
        ssmrl.format.FormatError: x.json has format 3: another version of the project wrote it, this
        one reads format 2; use that version, or start anew
    """
    if type(found) in (int, str) and str(found) == str(FORMAT):
        return
    if found is None:
        raise FormatError(
            f"{what} has no format: version 0.1 of the project wrote it (commit 7ecee47 reads it), "
            f"this one reads format {FORMAT}; start anew"
        )
    shown = repr(found) if len(repr(found)) <= 20 else f"{repr(found)[:17]}..."
    raise FormatError(
        f"{what} has format {shown}: another version of the project wrote it, this one reads "
        f"format {FORMAT}; use that version, or start anew"
    )
