"""This project's rules for a Containerfile; no image is built here."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.launch.fault import Fault

_EXACT_TAG = re.compile(r":[\w.-]*\d+\.\d+\.\d+[\w.-]*$|@sha256:[0-9a-f]{64}$")


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Containerfile.

    Attributes:
        line: Number of its first line.
        name: Keyword in capitals, for example ``RUN``.
        text: Rest of the instruction, with continued lines joined.
    """

    line: int
    name: str
    text: str


def instructions(text: str) -> list[Instruction]:
    r"""The instructions of a Containerfile, without comments.

    Example:
        >>> [i.text for i in instructions("FROM a AS b\n# why\nRUN x \\\n  && y\n")]
        ['a AS b', 'x && y']
    """
    found: list[Instruction] = []
    parts: list[str] = []
    begin = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begin = begin if parts else number
        parts.append(line.strip().removesuffix("\\").strip())
        if not line.rstrip().endswith("\\"):
            name, _, rest = " ".join(parts).partition(" ")
            found.append(Instruction(begin, name.upper(), rest.strip()))
            parts = []
    return found


def containerfile_faults(text: str) -> list[Fault]:
    """All faults of a Containerfile."""
    steps = instructions(text)
    return [*_stages(steps), *_user(steps), *_installs(steps), *_secrets(steps)]


def _stages(steps: list[Instruction]) -> Iterator[Fault]:
    stages = [step for step in steps if step.name == "FROM"]
    if len(stages) < 2:
        yield Fault(
            "FROM",
            f"there must be two stages, so that no build tools are in the image, but there are "
            f"{len(stages)}",
        )
    names: set[str] = set()
    for step in stages:
        image, _, name = re.sub(r"--platform=\S+\s+", "", step.text).partition(" ")
        if image not in names and not _EXACT_TAG.search(image):
            yield Fault(
                f"line {step.line}",
                f"the base image must be pinned to a full version or a digest, but is {image}",
            )
        names.add(re.sub(r"^(?i:as)\s+", "", name).strip())


def _user(steps: list[Instruction]) -> Iterator[Fault]:
    last_stage = max((i for i, step in enumerate(steps) if step.name == "FROM"), default=0)
    users = [step for step in steps[last_stage:] if step.name == "USER"]
    if not users:
        yield Fault("USER", "the last stage must have a USER, or all of it runs as root")
    elif users[-1].text.partition(":")[0] in ("root", "0"):
        yield Fault(f"line {users[-1].line}", "the last USER must not be root")


def _installs(steps: list[Instruction]) -> Iterator[Fault]:
    installs = [step for step in steps if step.name == "RUN" and "pip install" in step.text]
    for step in installs:
        if "-c constraints.txt" not in step.text:
            yield Fault(
                f"line {step.line}",
                "installs the newest versions; write `pip install -c constraints.txt ...`",
            )
    if not installs:
        yield Fault("RUN", "no step installs the project with `-c constraints.txt`")


def _secrets(steps: list[Instruction]) -> Iterator[Fault]:
    for step in steps:
        words = [word for word in step.text.split() if not word.startswith("--")]
        if step.name in ("COPY", "ADD") and words and set(words[:-1]) & {".", "./", "*"}:
            yield Fault(
                f"line {step.line}",
                "copies the whole folder, including any keys and results; name the files that are "
                "needed",
            )
        if step.name in ("ENV", "ARG") and "RAY_AUTH_TOKEN" in step.text:
            yield Fault(f"line {step.line}", "a token must not be part of an image")
