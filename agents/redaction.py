"""Removes secrets from texts, and limits the length of the texts."""

import json
import math
from collections.abc import Mapping
from typing import Any

MAX_TEXT_LENGTH = 8192
MIN_SECRET_LENGTH = 4  # shorter texts occur in ordinary words


class Redaction:
    """Replaces secrets by ``***``.

    Args:
        secrets: Secret texts; those shorter than ``MIN_SECRET_LENGTH`` are ignored.
    """

    def __init__(self, secrets: tuple[str, ...]) -> None:
        self._secrets = _spellings(secrets)

    def text(self, text: str) -> str:
        """The text without the secrets, in their plain and their JSON spelling."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        if len(text) > MAX_TEXT_LENGTH:
            text = f"{text[:MAX_TEXT_LENGTH]}... ({len(text) - MAX_TEXT_LENGTH} characters more)"
        return text

    def finds_any_in(self, value: Any) -> bool:
        """Whether a text inside a value holds a secret; field names do not count."""
        if isinstance(value, Mapping):
            return any(self.finds_any_in(item) for item in value.values())
        if isinstance(value, list | tuple | set | frozenset):
            return any(self.finds_any_in(item) for item in value)
        return any(secret in str(value) for secret in self._secrets)

    def value(self, value: Any) -> Any:
        """The value with all texts in it redacted; anything that JSON cannot hold becomes text."""
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value(item) for item in value]
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float) and math.isfinite(value):
            return value
        return self.text(str(value))


def _spellings(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """The secrets in plain text, in JSON, and in JSON quoted within JSON, as in a reply.

    The longest come first, since one secret may contain another.
    """
    found = {secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH}
    for _ in range(2):
        dumps = json.dumps  # noqa: TID251  # of texts alone, in both spellings
        found |= {dumps(text, ensure_ascii=a)[1:-1] for text in found for a in (True, False)}
    return tuple(sorted(found, key=lambda spelling: (-len(spelling), spelling)))
