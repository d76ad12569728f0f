"""Parser of knobs set on the command line: ``--set KNOB=VALUE``."""

from collections.abc import Sequence
from typing import Any

from ssmrl.strict_json import json_value

_OWN_FLAGS = {"algorithm": "--algorithm", "env.task": "--task"}


def parsed_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Values by knob: JSON numbers, ``true`` and ``false`` are parsed; all else stays text.

    Args:
        settings: Settings, each ``KNOB=VALUE``.

    Raises:
        ValueError: If a setting has another form, or its knob has an option of its own.

    Example:
        >>> parsed_settings(["meta.inner_lr=0.1", "policy.gated=true"])
        {'meta.inner_lr': 0.1, 'policy.gated': True}
    """
    parsed: dict[str, Any] = {}
    for setting in settings:
        knob, sign, text = setting.partition("=")
        if not (knob and sign and text):
            raise ValueError(f"`--set` must be KNOB=VALUE, but got {setting!r}")
        if knob in _OWN_FLAGS:
            raise ValueError(f"`{knob}` has a flag of its own; use {_OWN_FLAGS[knob]} {text}")
        try:
            parsed[knob] = json_value(text)
        except ValueError:
            parsed[knob] = text
    return parsed
