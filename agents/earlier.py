"""Findings of earlier studies of a task, read from their folders as untrusted foreign text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agents.strict_json import clean_text
from ssmrl.strict_json import json_value

FILE_NAME = "findings.json"
MAX_BYTES = 256 * 1024
MAX_FINDINGS = 12
MAX_TEXT_LENGTH = 400


def earlier_findings(folder: Path, task: str) -> tuple[Mapping[str, Any], ...]:
    """Findings of other studies of the task in the same storage folder, the newest study first.

    A file that is too large or malformed is skipped: the findings are optional.

    Args:
        folder: This study's folder; the others lie next to it.
        task: The task family.

    Returns:
        At most ``MAX_FINDINGS`` objects of short texts: ``study``, ``author``, ``hypothesis``,
        ``verdict`` and ``trial_ids``.
    """
    others = [
        (path.stat().st_mtime, path)
        for path in folder.parent.glob(f"*/{FILE_NAME}")
        if path.parent != folder and path.is_file()
    ]
    found: list[Mapping[str, Any]] = []
    for _, path in sorted(others, reverse=True):
        found += _read(path, task)
    return tuple(found[:MAX_FINDINGS])


def _read(path: Path, task: str) -> list[Mapping[str, Any]]:
    try:
        if path.stat().st_size > MAX_BYTES:
            return []
        content = json_value(path.read_text(encoding="utf-8"), str(path))
        if content["task"] != task:
            return []
        return [_short(path.parent.name, entry) for entry in content["findings"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _short(study: str, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    texts = {
        name: clean_text(str(entry[name]), MAX_TEXT_LENGTH)
        for name in ("author", "hypothesis", "verdict")
    }
    trial_ids = [clean_text(str(trial_id), 40) for trial_id in list(entry["trial_ids"])[:8]]
    return {"study": clean_text(study, 100), **texts, "trial_ids": trial_ids}
