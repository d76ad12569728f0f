"""Reads the one JSON object in a model's reply, strictly; it ignores the meaning of its fields.

A reply is foreign text: nothing in it is run, followed or opened, and its size is bounded.
"""

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeVar

OptionT = TypeVar("OptionT", bound=StrEnum)

MAX_REPLY_LENGTH = 65_536
MAX_DEPTH = 12
MAX_REASON_LENGTH = 300

_MAX_QUOTE_LENGTH = 60
_MAX_DIGITS = 18  # of an integer; no knob has more
_MAX_BRACKETS = 4096  # a finding has a few dozen
# Matches up to the next bracket and skips whole strings. It is possessive, so an unclosed string
# fails once, not once for each of its characters.
_TO_BRACKET = re.compile(r'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]])', re.DOTALL)


class RefusedError(ValueError):
    """A reply cannot be used; the message says why, in one short line.

    Args:
        reason: The message; put on one line, and truncated if it is long.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(clean_text(reason[: 4 * MAX_REASON_LENGTH], MAX_REASON_LENGTH))


def find_object(raw: object) -> dict[str, Any]:
    """The one JSON object in a reply: bare, fenced or between sentences.

    Braces without a quotation mark between them, as in a formula, count as prose.

    Args:
        raw: The raw reply.

    Raises:
        RefusedError: If there is no object or more than one, or ``read_object`` refuses it.
    """
    groups = [group for group in _groups(_checked_text(raw)) if '"' in group]
    if len(groups) != 1:
        found = "none" if not groups else f"{len(groups)} of them"
        raise RefusedError(f"the reply must hold exactly one JSON object, but holds {found}")
    return read_object(groups[0])


def read_object(raw: object) -> dict[str, Any]:
    """The JSON object that makes up a whole text.

    Args:
        raw: The raw text.

    Raises:
        RefusedError: If the text is too long, too deep, or not an object; if a key occurs twice; or
            if a number is not finite or has too many digits.
    """
    text = _checked_text(raw)
    _measure(text, 0)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_refuse_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        raise RefusedError(
            f"the reply must be valid JSON, but at character {error.pos}: {error.msg}"
        ) from None
    if not isinstance(value, dict):
        raise RefusedError(f"the reply must be a JSON object, but is {quote(value)}")
    return value


def clean_text(text: str, max_length: int) -> str:
    """One line of printable characters, truncated to a length.

    Newlines, control characters, invisible characters, marks of writing direction and surrogates
    become spaces; runs of spaces become one.
    """
    visible = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    line = " ".join(visible.split())
    return line if len(line) <= max_length else f"{line[: max_length - 3]}..."


def quote(value: object) -> str:
    """A value for a message: short and on one line, with only the size of lists and objects."""
    if isinstance(value, str):
        text = value[: 4 * _MAX_QUOTE_LENGTH]
    elif isinstance(value, dict | list | tuple):
        return f"{'an object' if isinstance(value, dict) else 'a list'} of {len(value)}"
    else:
        text = str(value)
    return repr(clean_text(text, _MAX_QUOTE_LENGTH)) if isinstance(value, str) else text[:40]


def check_keys(fields: Mapping[str, Any], names: Sequence[str], whose: str) -> None:
    """Check that an object has exactly these keys.

    Raises:
        RefusedError: If it has others, or one is missing.
    """
    if unknown := [name for name in fields if name not in names]:
        known = ", ".join(names)
        raise RefusedError(f"{whose} must have only the keys {known}, not {quote(unknown[0])}")
    if missing := [name for name in names if name not in fields]:
        raise RefusedError(f"{whose} must have the key `{missing[0]}`")


def text_of(fields: Mapping[str, Any], name: str, max_length: int) -> str:
    """A text field, as one line.

    Raises:
        RefusedError: If it is not text, is too long, or has no visible characters.
    """
    value = fields[name]
    if not isinstance(value, str) or len(value) > max_length:
        found = f"has {len(value)}" if isinstance(value, str) else f"is {quote(value)}"
        raise RefusedError(
            f"`{name}` must be a text of at most {max_length} characters, but {found}"
        )
    if not (text := clean_text(value, max_length)):
        raise RefusedError(f"`{name}` must not be empty")
    return text


def one_of(fields: Mapping[str, Any], name: str, known: type[OptionT]) -> OptionT:
    """A field that must be one of the known words.

    Raises:
        RefusedError: If it is not.
    """
    value = fields[name]
    options = [option.value for option in known]
    if not isinstance(value, str) or value not in options:
        raise RefusedError(f"`{name}` must be one of {options}, but is {quote(value)}")
    return known(value)


def count_of(fields: Mapping[str, Any], name: str) -> int:
    """A field that must be an integer of at least 0.

    Raises:
        RefusedError: If it is not; ``8.0`` and bools are not integers.
    """
    value = fields[name]
    if type(value) is not int or value < 0:
        raise RefusedError(f"`{name}` must be an integer of at least 0, but is {quote(value)}")
    return value


def _checked_text(raw: object) -> str:
    if not isinstance(raw, str):
        raise RefusedError(f"the reply must be text, but is {type(raw).__name__}")
    if len(raw) > MAX_REPLY_LENGTH:
        raise RefusedError(
            f"the reply must have at most {MAX_REPLY_LENGTH} characters, but has {len(raw)}"
        )
    if not raw.strip():
        raise RefusedError("the reply is empty; answer with one JSON object")
    return raw


def _groups(raw: str) -> list[str]:
    """The outermost brace groups of a text; quotation marks outside them count as prose."""
    groups = []
    num_brackets = 0
    start = raw.find("{")
    while start >= 0:
        end, num_inside = _measure(raw, start)
        if end is None:
            raise RefusedError(
                "the JSON object has no end: the reply was cut, or a quotation mark is missing"
            )
        if (num_brackets := num_brackets + num_inside) > _MAX_BRACKETS:
            raise RefusedError(_TOO_MANY)
        groups.append(raw[start:end])
        start = raw.find("{", end)
    return groups


def _measure(text: str, start: int) -> tuple[int | None, int]:
    """The end of the bracket group that begins at ``start``, and its number of brackets.

    Raises:
        RefusedError: If it has too many brackets, or is so deep that the parser would recurse.
    """
    depth, position = 0, start
    for num_brackets in range(1, _MAX_BRACKETS + 1):
        if (found := _TO_BRACKET.match(text, position)) is None:
            return None, num_brackets
        position = found.end()
        depth += 1 if found.group(1) in "{[" else -1
        if depth > MAX_DEPTH:
            raise RefusedError(_TOO_DEEP)
        if depth <= 0:
            return position, num_brackets
    raise RefusedError(_TOO_MANY)


_TOO_DEEP = f"the reply must nest at most {MAX_DEPTH} deep"
_TOO_MANY = f"the reply must have at most {_MAX_BRACKETS} brackets"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RefusedError(f"every key must occur once, but {quote(key)} occurs twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> None:
    raise RefusedError(f"every number must be finite, but one is {name}")


def _float(text: str) -> float:
    if len(text) > 2 * _MAX_DIGITS + 8:
        raise RefusedError(f"a number must be short, but one has {len(text)} characters")
    if not math.isfinite(value := float(text)):
        raise RefusedError(f"every number must be finite, but one is {text}")
    return value


def _int(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_DIGITS:
        raise RefusedError(f"an integer must have at most {_MAX_DIGITS} digits, not {len(text)}")
    return int(text)
