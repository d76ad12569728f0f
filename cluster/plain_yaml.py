"""Checks that hand-written YAML holds plain values only, whatever the file is for."""

from collections.abc import Callable
from typing import Any

import yaml


def check_events(text: str, *, max_depth: int, aliases: bool) -> None:
    """Check a file's parse events before any object is built from it.

    An alias can expand to a billion values, deep nesting can exceed the recursion limit, and a
    tag can build any type, some of which raise arbitrary errors on values that do not fit.

    Args:
        text: Content of the file.
        max_depth: Maximum nesting depth.
        aliases: Whether aliases are allowed.

    Raises:
        ValueError: If the text is nested deeper, or has a tag or a forbidden alias; names the line.
        yaml.YAMLError: If the text is not YAML.
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
                f"must not use tags, but line {line} does; write the value without a tag."
            )
        if isinstance(event, yaml.AliasEvent) and not aliases:
            raise ValueError(f"must not use aliases, but line {line} does; write the value out.")
        if isinstance(event, yaml.AliasEvent) and event.anchor in around:
            raise ValueError(
                f"must end somewhere, but the alias in line {line} contains itself; write the "
                "value out."
            )
        if len(around) > max_depth:
            raise ValueError(
                f"must be at most {max_depth} levels deep, but line {line} is deeper; write it "
                "flatter."
            )


def loaded(load: Callable[[str], Any], text: str) -> Any:
    """The values that YAML reads from a text.

    Args:
        load: A safe YAML loader.
        text: Content of the file.

    Raises:
        ValueError: If a value is invalid, such as an impossible date.
        yaml.YAMLError: If the text is not YAML.
    """
    try:
        return load(text)
    except ValueError as error:  # for example an impossible date
        raise ValueError(f"holds an invalid value: {error}; quote it.") from error
