"""What import paths lead to, and what is said where they lead nowhere."""

import hashlib
from pathlib import Path

import pytest

from ssmrl.config import TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.import_path import ImportPathError, imported, source_digest
from ssmrl.meta.algorithms import get_algorithm


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The name of a module of the user's with the given source."""
    name = f"of_a_user_{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"
    (tmp_path / f"{name}.py").write_text(request.param)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def has(source: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("module", [source], indirect=True)


@has("class Outer:\n    inner = 3\n")
def test_a_path_leads_to_what_it_names(module: str) -> None:
    assert imported(f"{module}:Outer.inner") == 3


@pytest.mark.parametrize("path", ["a b:NAME", "package.:NAME", ":NAME", "package:", "a:b:c", "a"])
def test_a_path_of_another_form_is_refused(path: str) -> None:
    with pytest.raises(ImportPathError, match=r"must be `package.module:NAME`, but got"):
        imported(path)


def test_a_module_that_is_not_there_is_named_with_the_machine() -> None:
    with pytest.raises(ImportPathError, match=r"no module 'nowhere' on .*; install its package"):
        imported("nowhere.tasks:FAMILY")


@has("import nowhere_to_be_found\n")
def test_what_a_module_lacks_itself_is_its_own_fault(module: str) -> None:
    with pytest.raises(ImportPathError, match=r"(?s)its own code raises\n.*nowhere_to_be_found"):
        imported(f"{module}:FAMILY")


@has("def broken():\n    return 1 / 0\n\nbroken()\n")
def test_code_that_raises_is_shown_from_its_own_lines_on(module: str) -> None:
    with pytest.raises(ImportPathError) as caught:
        imported(f"{module}:FAMILY")
    message = str(caught.value)
    assert "its own code raises\nTraceback" in message
    assert f'{module}.py", line 4' in message
    assert "ZeroDivisionError" in message
    assert "importlib" not in message
    assert "import_path.py" not in message


@has("")
def test_a_name_that_is_not_there_is_named_with_the_file(module: str) -> None:
    with pytest.raises(ImportPathError, match=rf"{module}.py has no 'FAMILY'"):
        imported(f"{module}:FAMILY")


@has("FAMILY = ALGORITHM = Method = 3\n")
def test_what_is_of_another_type_is_refused_with_how_to_make_one(module: str) -> None:
    with pytest.raises(
        ImportPathError, match=r"must be of type TaskFamily, but is of type int; make one with"
    ):
        get_family(f"{module}:FAMILY")
    with pytest.raises(
        ImportPathError, match=r"must be of type Algorithm, but is of type int; make one from"
    ):
        get_algorithm(f"{module}:ALGORITHM")
    with pytest.raises(ImportPathError, match=r"must be a class with `init_hidden` and `step`"):
        TrainConfig().with_knobs({"policy.method": f"{module}:Method"})


@has("A = 1\n")
def test_the_digest_is_that_of_the_source(module: str, tmp_path: Path) -> None:
    content = (tmp_path / f"{module}.py").read_bytes()
    assert source_digest(f"{module}:A") == hashlib.sha256(content).hexdigest()
    assert source_digest("math:pi") == ""
