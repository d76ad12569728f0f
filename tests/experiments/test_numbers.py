"""The numbers of README and docs are those of the committed rows, and a wrong one is found."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from experiments import numbers
from experiments.claims import CLAIMS, Claim
from experiments.numbers import ROOT, Unproved, app, disagreements, find, rewrite, unproved

WITHOUT_ROWS = {
    "5.1": "ProMP was read off the terminal",
    "-2.5": "ProMP was read off the terminal",
    "-58.4": "ProMP was read off the terminal",
    "-57.9": "ProMP was read off the terminal",
    "59.4": "has no row",
    "0.52": "has no row",
}
"""Of the column of results, each with the words in its line that say so."""


def test_every_number_is_what_its_rows_say() -> None:
    found = disagreements()
    assert not found, "\n".join(found)
    assert len(CLAIMS) > 25


def test_the_column_of_results_has_no_other_numbers() -> None:
    left = unproved("docs/measured.md", "# What was measured", "Targets that were missed")
    results = [each for each in left if is_result(each)]
    assert {each.number for each in results} == set(WITHOUT_ROWS), results
    for each in results:
        assert WITHOUT_ROWS[each.number] in each.line


def is_result(each: Unproved) -> bool:
    """Whether a number stands in the last column of a table."""
    return each.line.startswith("| ") and each.place > each.line.rstrip("| ").rindex(" | ")


def test_the_least_flattering_row_is_told() -> None:
    in_readme, in_full = (each for each in CLAIMS if each.rows == "benchmark-layers.csv")
    for claim, words in ((in_readme, "the whole state space policy"), (in_full, "whole policy")):
        text = (ROOT / claim.file).read_text()
        assert [f"{value:.1f}" for value in claim.values()][-2:] == ["1.2", "1.3"]
        assert words in text[: find(claim, text).span[0]].rpartition("\n")[2]


TEXT = "It learns {:,.0f} steps in\n{:.1f} s, and +-3 is no claim.\n"


def made_up(folder: Path, text: str, *values: float) -> list[Claim]:
    (folder / "a.md").write_text(text)
    return [Claim("a.md", "{:,.0f} steps in {:.1f} s", "rows.csv", lambda: values)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TEXT.format(1234, 2.5), None),
        (TEXT.format(1235, 2.5), "says 1,235, but rows.csv says 1,234"),
        (TEXT.format(1234, 2.4), "says 2.4, but rows.csv says 2.5"),
        (TEXT.format(1234, -2.5), "says -2.5, but rows.csv says 2.5"),
        ("It learns 1234 steps in 2.5 s.", "says 1234, but rows.csv says 1,234"),
        ("It learns 1,234 steps in 2.50 s.", "says 2.50, but rows.csv says 2.5"),
        ("It learns.", "must hold"),
        (TEXT.format(1234, 2.5) * 2, "2 times"),
    ],
)
def test_a_number_that_the_rows_do_not_give_is_found(
    text: str, message: str | None, tmp_path: Path
) -> None:
    found = disagreements(made_up(tmp_path, text, 1234.4, 2.52), tmp_path)
    assert len(found) == (message is not None)
    assert message is None or message in found[0]


def test_rewriting_changes_the_numbers_and_nothing_else(tmp_path: Path) -> None:
    claims = made_up(tmp_path, TEXT.format(99, 12345.6), 1234.4, 2.52)
    assert rewrite(claims, tmp_path) == ["a.md"]
    assert (tmp_path / "a.md").read_text() == TEXT.format(1234, 2.5)
    assert rewrite(claims, tmp_path) == []


def test_where_a_phrase_is_lost_nothing_is_written(tmp_path: Path) -> None:
    lost = Claim("a.md", "gone {:.0f}", "rows.csv", lambda: [1.0])
    claims = [*made_up(tmp_path, TEXT.format(99, 2.5), 1234.0, 2.5), lost]
    with pytest.raises(ValueError, match=r"a.md must hold `gone \{:.0f\}` once, but .* 0 times"):
        rewrite(claims, tmp_path)
    assert (tmp_path / "a.md").read_text() == TEXT.format(99, 2.5)


def test_the_command_ends_with_1_where_numbers_disagree(monkeypatch: pytest.MonkeyPatch) -> None:
    right = CliRunner().invoke(app, [])
    assert (right.exit_code, right.output) == (0, f"{len(CLAIMS)} phrases, 0 disagreements\n")
    monkeypatch.setattr(numbers, "disagreements", lambda: ["README.md: `1` says 1, but a says 2"])
    wrong = CliRunner().invoke(app, [])
    assert wrong.exit_code == 1
    assert wrong.output.endswith("1 disagreements\n")
