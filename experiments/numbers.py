"""``python -m experiments.numbers``: check the numbers of README and docs against their rows.

``experiments/claims.py`` lists the numbers and the committed rows they come from.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Annotated, NamedTuple

import typer

from experiments.claims import CLAIMS, Claim
from ssmrl.command_line import command_app, refuse
from ssmrl.files import replace_file

ROOT = Path(__file__).resolve().parents[1]
_NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?"

app = command_app()


class Unproved(NamedTuple):
    """A number that no row proves.

    Attributes:
        number: Number as it is written.
        line: Line that contains it.
        place: Position in the line.
    """

    number: str
    line: str
    place: int


@dataclass(frozen=True)
class Found:
    """Position of a claim in a text.

    Attributes:
        claim: Claim that was found.
        span: Span of the whole phrase.
        numbers: Span of each number.
        wanted: Numbers of the rows, each formatted as in the text.
    """

    claim: Claim
    span: tuple[int, int]
    numbers: tuple[tuple[int, int], ...]
    wanted: tuple[str, ...]

    def disagreements(self, text: str) -> Iterator[str]:
        """A sentence for each number that differs from its rows."""
        for (start, end), wanted in zip(self.numbers, self.wanted, strict=True):
            if text[start:end] != wanted:
                phrase = " ".join(text[slice(*self.span)].split())
                yield (
                    f"{self.claim.file}: `{phrase}` says {text[start:end]}, but {self.claim.rows} "
                    f"says {wanted}"
                )


def find(claim: Claim, text: str) -> Found:
    """Find a claim in a text.

    Args:
        claim: Claim to look for; lines may break anywhere between its words.
        text: Text of its file.

    Raises:
        ValueError: If the phrase does not occur exactly once.
    """
    parts = [(words, spec) for words, _, spec, _ in Formatter().parse(claim.phrase)]
    pattern = "".join(
        r"\s+".join(map(re.escape, re.split(r"\s+", words)))
        + ("" if spec is None else f"({_NUMBER})")
        for words, spec in parts
    )
    matches = list(re.finditer(pattern, text))
    if len(matches) != 1:
        raise ValueError(
            f"{claim.file} must hold `{claim.phrase}` once, but holds it {len(matches)} times; "
            "change the phrase in experiments/claims.py together with the text"
        )
    (match,) = matches
    specs = [spec for _, spec in parts if spec is not None]
    wanted = tuple(format(value, spec) for value, spec in zip(claim.values(), specs, strict=True))
    spans = tuple(match.span(number) for number in range(1, len(specs) + 1))
    return Found(claim, match.span(), spans, wanted)


def disagreements(claims: Sequence[Claim] = CLAIMS, root: Path = ROOT) -> list[str]:
    """A sentence for each number that differs from its rows, and for each missing phrase."""
    sentences: list[str] = []
    for claim in claims:
        text = (root / claim.file).read_text()
        try:
            sentences.extend(find(claim, text).disagreements(text))
        except ValueError as error:
            sentences.append(str(error))
    return sentences


def rewrite(claims: Sequence[Claim] = CLAIMS, root: Path = ROOT) -> list[str]:
    """Write the numbers of the rows into the files.

    Returns:
        The files that changed.

    Raises:
        ValueError: If a phrase does not occur exactly once in its file; nothing is written then.
    """
    texts = {claim.file: (root / claim.file).read_text() for claim in claims}
    changed = dict(texts)
    for claim in claims:
        text = changed[claim.file]
        found = find(claim, text)
        for (start, end), wanted in zip(found.numbers[::-1], found.wanted[::-1], strict=True):
            text = text[:start] + wanted + text[end:]
        changed[claim.file] = text
    files = [file for file, text in changed.items() if text != texts[file]]
    for file in files:
        replace_file(root / file, changed[file])
    return files


def unproved(file: str, start: str, end: str, root: Path = ROOT) -> list[Unproved]:
    """The numbers in a part of a file that no phrase of ``CLAIMS`` covers.

    Args:
        file: Path relative to the root.
        start: Words with which the part begins.
        end: Words at which it ends.
        root: Root of the project.
    """
    text = (root / file).read_text()
    begin = text.index(start)
    stop = text.index(end, begin)
    spans = [find(claim, text).span for claim in CLAIMS if claim.file == file]
    left = []
    for match in re.finditer(_NUMBER, text[begin:stop]):
        place = begin + match.start()
        if not any(low <= place < high for low, high in spans):
            first = text.rfind("\n", 0, place) + 1
            line = text[first : text.find("\n", place)]
            left.append(Unproved(match.group(), line, place - first))
    return left


@app.command()
def numbers(
    write: Annotated[
        bool, typer.Option("--write", help="Write the numbers of the rows into the files.")
    ] = False,
) -> None:
    """Check the numbers in README and docs against their rows; exit code 1 if some disagree."""
    if write:
        try:
            files = rewrite()
        except ValueError as error:
            refuse(str(error))
        typer.echo(f"rewritten: {', '.join(files)}" if files else "nothing to rewrite")
        return
    sentences = disagreements()
    for sentence in sentences:
        typer.echo(sentence)
    typer.echo(f"{len(CLAIMS)} phrases, {len(sentences)} disagreements")
    raise typer.Exit(1 if sentences else 0)


if __name__ == "__main__":
    app()
