"""Rules for the repository as a whole: file length, no machine paths, every dependency pinned."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
MAX_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_README_LINES = 120
# The home of a user or of a build, at the start of a path; written so that this line is none.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(root|home|work)/")


def own_files() -> list[Path]:
    """What is tracked, and what would be after `git add --all`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip(f"needs a git checkout: {listing.stderr.strip()}")
    paths = (ROOT / name for name in listing.stdout.split("\0") if name)
    return sorted(path for path in paths if path.is_file())


def pins() -> dict[str, str]:
    """The version that constraints.txt gives each distribution."""
    lines = (
        line.split("#")[0].strip() for line in (ROOT / "constraints.txt").read_text().splitlines()
    )
    requirements = [Requirement(line) for line in lines if line]
    not_exact = [str(r) for r in requirements if not re.fullmatch(r"==[\w.!]+", str(r.specifier))]
    assert not not_exact, f"every line must read name==public.version, but got {not_exact}"
    return {canonicalize_name(r.name): str(r.specifier)[2:] for r in requirements}


def declared() -> list[Requirement]:
    """Every dependency that pyproject.toml names, in the base and in all extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    requirements = [Requirement(line) for group in groups for line in group]
    return [r for r in requirements if r.name != project["name"]]


def test_no_python_file_is_longer_than_the_limit() -> None:
    lengths = {p: len(p.read_text().splitlines()) for p in own_files() if p.suffix == ".py"}
    assert lengths, "found no Python file at all"
    too_long = {str(p.relative_to(ROOT)): n for p, n in lengths.items() if n > MAX_LINES}
    assert not too_long, f"no file may exceed {MAX_LINES} lines, but {too_long}: split it by topic"


def test_the_map_of_the_project_has_every_module() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = ("ssmrl", "cluster", "tuning", "agents", "experiments", "ssmrl_command")
    modules = [
        path.relative_to(ROOT)
        for path in own_files()
        if path.suffix == ".py" and path.relative_to(ROOT).parts[0] in rooms
    ]
    lacking = [str(path) for path in modules if path.name not in text]
    lacking = [each for each in lacking if not re.search(r"__init__|/gpu_\w+\.py$", each)]
    assert not lacking, f"docs/architecture.md must have a line for {lacking}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_README_LINES


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, without the docstring."""
    is_documented = ast.get_docstring(function, clean=False) is not None
    body = function.body[is_documented:]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_function_is_longer_than_the_limit() -> None:
    too_long = {
        f"{path.relative_to(ROOT)}:{node.name}": lines
        for path in own_files()
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := code_lines(node)) > MAX_FUNCTION_LINES
    }
    assert not too_long, f"no function may exceed {MAX_FUNCTION_LINES} lines, but {too_long}"


def test_no_file_names_a_path_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in own_files()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not found, "\n".join(found)


def test_machine_paths_are_recognised() -> None:
    inside_home = "/".join(["", "home", "someone", "data"])
    assert MACHINE_PATH.search(f"storage = '{inside_home}'")
    assert MACHINE_PATH.search(f"file://{inside_home}")
    assert not MACHINE_PATH.search(f"docs{inside_home}")


def test_torch_is_pinned_to_the_tested_version() -> None:
    assert pins()["torch"] == "2.13.0"


@pytest.mark.parametrize("requirement", declared(), ids=str)
def test_declared_dependency_is_pinned_inside_its_own_range(requirement: Requirement) -> None:
    pinned = pins()
    name = canonicalize_name(requirement.name)
    assert name in pinned, f"add `{requirement.name}==...` to constraints.txt"
    assert requirement.specifier.contains(pinned[name], prereleases=True)
