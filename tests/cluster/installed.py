"""What this interpreter has installed, put into another environment as pip would have put it."""

import os
import shutil
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def required(project_file: Path, extras: Iterable[str]) -> dict[str, Distribution]:
    """All that a project asks for with some extras, and all that these ask for, by name.

    What this interpreter lacks is left out, with what only that asks for.

    Args:
        project_file: Its ``pyproject.toml``.
        extras: Of the project.
    """
    project = tomllib.loads(project_file.read_text())["project"]
    own = canonicalize_name(project["name"])
    optional = project["optional-dependencies"]
    found: dict[str, Distribution] = {}
    todo = [(own, ""), *((own, extra) for extra in extras)]
    seen = set(todo)
    while todo:
        name, extra = todo.pop()
        if name == own:
            lines = optional[extra] if extra else project["dependencies"]
        else:
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                continue
            lines = found[name].requires or []
        new = set(_asked_for(lines, extra)) - seen
        seen |= new
        todo += new
    return found


def _asked_for(lines: Iterable[str], extra: str) -> Iterator[tuple[str, str]]:
    for requirement in map(Requirement, lines):
        if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
            for one in ("", *requirement.extras):
                yield canonicalize_name(requirement.name), one


def put(distributions: Iterable[Distribution], site_packages: Path) -> None:
    """Give another environment the same files, of which the disk has only one copy if it can.

    Commands, which name their interpreter, are left out.

    Args:
        distributions: Of this interpreter.
        site_packages: Of the other environment.
    """
    folders: set[Path] = set()
    for one in distributions:
        for file in one.files or ():
            source, target = Path(str(file.locate())), site_packages / file
            if ".." in file.parts or not source.is_file() or target.exists():
                continue  # two distributions may have a file in common
            if target.parent not in folders:
                target.parent.mkdir(parents=True, exist_ok=True)
                folders.add(target.parent)
            try:
                os.link(source, target)
            except OSError:  # another disk
                shutil.copy2(source, target)
