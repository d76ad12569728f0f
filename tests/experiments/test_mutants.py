"""Mutants are small, whole and of the code alone; what finds them runs beside the project."""

import ast
import multiprocessing
import signal
import textwrap
import time
from pathlib import Path

import pytest

from experiments import mutants
from experiments.mutant_trial import ROOMS, Workshop
from experiments.mutants import PROJECT, TESTED, Outcome, Run, name_of, still_holds, summary
from experiments.mutation import Mutant, drawn, mutants_of
from tests.cluster.private_ray import is_alive


def changed(source: str) -> set[str]:
    """What the one line of a module becomes."""
    return {each.source for each in mutants_of("a.py", source)}


@pytest.mark.parametrize(
    ("source", "mutants"),
    [
        ("x = a < b", {"x = (a <= b)", "x = (a >= b)"}),
        ("x = a < b == c", {"x = (a <= b == c)", "x = (a >= b == c)", "x = (a < b != c)"}),
        ("x = a is None", {"x = (a is not None)"}),
        ("x = a + b", {"x = (a - b)"}),
        ("x = (a + b) * c", {"x = ((a + b) / c)", "x = ((a - b)) * c"}),
        ("x = a | b", {"x = a", "x = b"}),
        ("x = 3", {"x = 4", "x = 2"}),
        ("x = 0.5", {"x = 1.0", "x = 0.25"}),
        ("x = True", {"x = False"}),
        ("x = not a", {"x = a"}),
        ("x = -a", {"x = a"}),
        ("x = a and b", {"x = (a or b)"}),
        ("x = f(a, b)", {"x = f(b, a)"}),
        ("x = f(a, b=c)", {"x = f(a)"}),
        ("x = max(a, b)", {"x = min(a, b)"}),
        ("x = b if a else c", {"x = b if (not a) else c"}),
        ("x = [a for a in b if a]", {"x = [a for a in b if (not a)]"}),
        ("f()", {"pass"}),
        ("x += a", {"pass"}),
        ("if a:\n    raise E('text')", {"if (not a):\n    raise E('text')", "if a:\n    pass"}),
    ],
)
def test_each_kind_of_change(source: str, mutants: set[str]) -> None:
    assert changed(source) == mutants


@pytest.mark.parametrize(
    "source",
    [
        '"""A text with 3 and a < b."""',
        'x = "text"',
        'x = f"{a + 1}"',
        'x = "a" + b',
        "x: list[3]",
        "X: TypeAlias = A | B",
        "assert a < b",
        "import a",
        "@f(3)\ndef g(a: B | C) -> D | E:\n    return a",
        "x = len(a)",
    ],
)
def test_texts_types_and_what_is_only_asserted_stay(source: str) -> None:
    assert changed(source) == set()


def test_every_mutant_of_a_real_module_is_another_program() -> None:
    source = (PROJECT / "tuning/comparison.py").read_text()
    found = mutants_of("tuning/comparison.py", source)
    programs = {ast.dump(ast.parse(each.source)) for each in found}
    assert len(found) == len(programs) > 50
    assert ast.dump(ast.parse(source)) not in programs
    for each in found:
        lines = each.diff(source).splitlines()
        assert lines[0] == f"--- tuning/comparison.py:{each.line}"
        assert any(line.startswith("-") for line in lines[2:])
    assert any("LATER_LEVEL" in each.diff(source) for each in found), "constants of a module too"


def test_a_draw_follows_from_its_seed_and_keeps_the_order() -> None:
    everything = [Mutant("a.py", line, "constant", str(line)) for line in range(50)]
    one, same, other = (drawn(everything, 10, seed) for seed in (1, 1, 2))
    assert one == same != other
    assert one == sorted(one, key=lambda each: each.line)
    assert drawn(everything, 99, 0) == everything


def test_every_module_and_every_file_of_tests_is_there() -> None:
    for path, files in TESTED.items():
        assert (PROJECT / path).is_file(), path
        for file in files:
            assert (PROJECT / file).is_file(), file


def outcome(found_by: str, tests: dict[str, str]) -> Outcome:
    return Outcome("a.py", 1, "constant", "m", found_by, tests, 1.0)


def test_what_was_found_holds_while_its_test_does_and_what_was_not_while_nothing_changes() -> None:
    now = {"tests/a.py": "1", "tests/b.py": "2"}
    assert still_holds(outcome("tests/a.py::test", {"tests/a.py": "1"}), now)
    assert not still_holds(outcome("tests/a.py::test", {"tests/a.py": "0"}), now)
    assert still_holds(outcome("", now), now)
    assert not still_holds(outcome("", {"tests/a.py": "1"}), now)
    assert not still_holds(outcome("", now | {"tests/b.py": "0"}), now)


def test_the_score_counts_what_was_found() -> None:
    lines = summary([outcome("x", {}), outcome("x", {}), outcome("", {})])
    assert lines[-1].split() == ["all", "2", "of", "3", "found", "67%"]
    assert lines[0].split()[0] == "a.py"


# ---------------------------------------------------------------------- a project of one function

MODULE = "tuning/half.py"
TEST = "tests/test_half.py"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A room with one module, and a test that looks at one of its two branches."""
    root = tmp_path / "project"
    for name in (*ROOMS, "tests", "docs"):
        (root / name).mkdir(parents=True)
    for name in ROOMS:
        (root / name / "__init__.py").touch()
    (root / "pyproject.toml").write_text('[tool.pytest.ini_options]\nmarkers = ["slow: slow"]\n')
    (root / MODULE).write_text("def half(x):\n    return x / 2 if x > 0 else 3\n")
    text = """
        import pytest
        from tuning.half import half

        def test_half():
            assert half(4) == 2

        @pytest.mark.slow
        def test_never():
            assert False
    """
    (root / TEST).write_text(textwrap.dedent(text))
    return root


def test_a_mutant_is_found_in_a_copy_and_the_project_stays_as_it_is(
    project: Path, tmp_path: Path
) -> None:
    source = (project / MODULE).read_text()
    workshop = Workshop(project, tmp_path)
    told = workshop.measured([TEST], 60.0)
    assert (told.code, told.failed) == (0, "")
    assert list(told.seconds) == [f"{TEST}::test_half"]
    assert "pytest" in told.modules
    assert not [name for name in told.modules if name.split(".")[0] in ROOMS]
    tests = {f"{TEST}::test_half": 0.1}
    results = {
        wrong: workshop.tried(MODULE, wrong, tests, 60.0)
        for wrong in (
            source.replace("/", "*"),
            source.replace("3", "4"),
            source.replace("half", "hal"),
        )
    }
    found = [(each.found, each.failed) for each in results.values()]
    assert found == [(True, f"{TEST}::test_half"), (False, ""), (True, TEST)]
    endless = workshop.tried(MODULE, "while True: pass\n", tests, 1.0)
    assert endless.found
    assert endless.failed == "not finished after 1 s"
    assert (project / MODULE).read_text() == source
    assert (workshop.copy / MODULE).read_text() == source


def test_a_killed_run_leaves_no_fork_behind(project: Path, tmp_path: Path) -> None:
    """One in an endless loop would keep a core, and whatever lock the run was started under."""
    workshop = Workshop(project, tmp_path)
    source = "import os\nopen('pid', 'w').write(f'{os.getpid()} ')\nwhile True: pass\n"
    arguments = (MODULE, source, {f"{TEST}::test_half": 0.1}, 60.0)
    process = multiprocessing.get_context("fork").Process(target=workshop.tried, args=arguments)
    process.start()
    pid, deadline = workshop.copy / "pid", time.monotonic() + 30.0
    while not pid.exists() or not pid.read_text():
        assert time.monotonic() < deadline, "the fork did not come to the mutant"
        time.sleep(0.05)
    process.kill()
    process.join()
    while is_alive(int(pid.read_text())):
        assert time.monotonic() < deadline, "the fork goes on alone"
        time.sleep(0.05)


def test_a_run_that_was_stopped_goes_on_with_what_is_missing(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mutants, "PROJECT", project)
    monkeypatch.setattr(mutants, "TESTED", {MODULE: (TEST,)})
    storage, output = tmp_path / "kept", tmp_path / "table.csv"
    first = Run(storage, 100, 0)
    workshop = Workshop(project, storage)
    tests = first.measured(workshop)
    for mutant in first.mutants[:2]:
        first.tried(workshop, mutant, tests)
    again = Run(storage, 100, 0)
    known = [again.outcome(mutant) is not None for mutant in again.mutants]
    assert known == [True, True, *[False] * (len(known) - 2)]
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the tests' process keeps its own
    mutants.mutants(number=100, seed=0, seconds=None, output=output, storage=storage)
    last = Run(storage, 100, 0)
    outcomes = [last.outcome(mutant) for mutant in last.mutants]
    assert all(outcomes)
    survivors = [each for each in outcomes if each is not None and not each.found_by]
    assert 0 < len(survivors) < len(outcomes)
    rows = output.read_text().splitlines()
    assert len(rows) == 1 + len(outcomes)
    assert len((storage / "outcomes.jsonl").read_text().splitlines()) == len(outcomes)
    (project / TEST).write_text((project / TEST).read_text() + "\n# another test\n")
    assert not any(Run(storage, 100, 0).outcome(mutant) for mutant in last.mutants)
    assert name_of("a") != name_of("b")


def test_tests_that_fail_without_a_mutant_end_the_run(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / TEST).write_text("def test_broken():\n    assert 1 == 2\n")
    monkeypatch.setattr(mutants, "PROJECT", project)
    monkeypatch.setattr(mutants, "TESTED", {MODULE: (TEST,)})
    run = Run(tmp_path / "kept", 100, 0)
    with pytest.raises(RuntimeError, match="test_broken fails though nothing is changed"):
        run.measured(Workshop(project, tmp_path / "kept"))
