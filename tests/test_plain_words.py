"""What was once thrown out of the texts does not come back."""

import re
from functools import cache

import pytest

from tests.test_repository import ROOT, own_files
from tests.thrown_out import THROWN_OUT, Phrase

# A lab book and a history say what was said on their day; tests may quote.
LEFT_ALONE = ("tests", "experiments/results", "experiments/LOG.md", "CHANGELOG.md")


@cache
def texts() -> dict[str, list[str]]:
    """The lines of code and documentation, by file."""
    paths = {path.relative_to(ROOT).as_posix(): path for path in own_files()}
    return {
        name: path.read_text().splitlines()
        for name, path in paths.items()
        if path.suffix in {".md", ".py", ".toml", ".yaml"} and not name.startswith(LEFT_ALONE)
    }


def test_the_list_is_long_and_each_pattern_finds_its_example_alone() -> None:
    assert len({phrase.pattern for phrase in THROWN_OUT}) == len(THROWN_OUT) >= 30
    for phrase in THROWN_OUT:
        assert re.search(phrase.pattern, phrase.example), phrase
        assert not re.search(phrase.pattern, phrase.instead), phrase


@pytest.mark.parametrize("phrase", THROWN_OUT, ids=lambda phrase: phrase.instead)
def test_no_text_has_it(phrase: Phrase) -> None:
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, lines in texts().items()
        for number, line in enumerate(lines, 1)
        if re.search(phrase.pattern, line)
    ]
    assert not found, f"write as in {phrase.instead!r}"
