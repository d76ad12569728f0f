"""YAML of plain values: what may stand in a file that a person wrote; no kind of file."""

from collections.abc import Callable
from typing import Any

import yaml


def check_events(text: str, *, max_depth: int, aliases: bool) -> None:
    """Look at a file flatly before anything is made of it.

    An alias can stand for a billion values, depth for none, and a tag for any type, some of which
    raise anything when they are made of what they do not fit.

    Args:
        text: Of the file.
        max_depth: How deep it may be nested.
        aliases: Whether it may have them.

    Raises:
        ValueError: If it is deeper, has tags, or an alias that it may not have; names the line.
        yaml.YAMLError: If it is not YAML.
    """
    around: list[str | None] = []
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionStartEvent):
            around.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            around.pop()
        if getattr(event, "tag", None) is not None:
            raise ValueError(
                f"must not use tags, but line {line} does; write the value as YAML reads it."
            )
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise ValueError(f"must not use aliases, but line {line} does; write the value out.")
        if isinstance(event, yaml.AliasEvent) and event.anchor in around:
            raise ValueError(
                f"must end somewhere, but the alias in line {line} stands for what it is in; write "
                "the value out."
            )
        if len(around) > max_depth:
            raise ValueError(
                f"must be at most {max_depth} levels deep, but line {line} is deeper; write it "
                "flatter."
            )


def loaded(load: Callable[[str], Any], text: str) -> Any:
    """What YAML makes of a text.

    Args:
        load: One of YAML's safe ways.
        text: Of the file.

    Raises:
        ValueError: If a value is none.
        yaml.YAMLError: If it is not YAML.
    """
    try:
        return load(text)
    except ValueError as error:  # what looks like a date, say, but is none
        raise ValueError(f"holds what is no value: {error}; quote it.") from error
