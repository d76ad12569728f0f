"""`ssmrl check`: the examples pass, a broken part does not, and what there is to read."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ssmrl.testing.rules import judged
from ssmrl_command.app import app

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = {
    "own_task:FAMILY": ("a task family", 17),
    "own_robot:FAMILY": ("a task family", 17),
    "own_policy:LeakyIntegrator": ("a sequence model", 15),
    "own_algorithm:ALGORITHM": ("an algorithm", 6),
    "own_searcher:StepFromBest": ("a searcher", 4),
}
BROKEN = "tests.contracts.broken_families:WRONG_SIZE"


def check(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["check", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, result.output


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_keeps_all_rules(example: str) -> None:
    kind, num_rules = EXAMPLES[example]
    code, said = check(f"examples.{example}")
    first, *rules, last = said.splitlines()
    assert code == 0, said
    assert first == f"examples.{example}, {kind}"
    assert [line[:10] for line in rules] == ["  ok      "] * num_rules
    assert last == f"{num_rules} rules, none broken"


def test_a_rule_that_is_broken_is_named_and_the_exit_code_is_1() -> None:
    code, said = check(BROKEN)
    assert code == 1
    assert said.splitlines()[1] == (
        "  BROKEN  sizes are those of the environment: `action_dim` of the environment must be "
        "that of `spec`, 1, but is 2"
    )
    assert "  ok      train and test are two objects" in said.splitlines()


def test_what_is_broken_for_one_reason_is_told_once() -> None:
    code, said = check("tests.contracts.broken_parts:OnesAtFirst")
    assert code == 1
    assert said.count("must return (1, S) zeros") == 1
    assert said.count('for the same reason as "the memory starts as zeros') == 14


def test_as_json() -> None:
    code, said = check(BROKEN, "--json")
    told = json.loads(said)
    assert code == 1
    assert (told["path"], told["kind"]) == (BROKEN, "a task family")
    assert len(told["rules"]) == 17
    assert told["broken"] == sum(bool(why) for why in told["rules"].values()) >= 1
    assert told["rules"]["train and test are two objects"] == ""


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("ant-vel", "an import path must be `package.module:NAME`, but got 'ant-vel'"),
        ("no_such_module:FAMILY", "there is no module 'no_such_module'"),
        ("math:pi", "'math:pi' must be a TaskFamily, a class with `init_hidden` and `step`"),
    ],
)
def test_nothing_to_check_is_exit_code_2(path: str, why: str) -> None:
    code, said = check(path)
    assert code == 2
    assert said.startswith("error: ")
    assert why in said


def test_rules_need_assertions_and_no_test_library() -> None:
    """Where Python was told to leave assertions out, every rule would hold."""
    code = (
        "import sys; from ssmrl.testing.rules import judged; "
        "print({'pytest', 'hypothesis', '_pytest'} & sys.modules.keys()); "
        "list(judged(type('C', (), {'test_a': 1})))"
    )
    done = subprocess.run(
        [sys.executable, "-O", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "set()"
    assert "but Python runs without assertions; start it without -O" in done.stderr


def test_whatever_a_rule_raises_is_told_in_a_line() -> None:
    class Contract:
        def test_one_thing(self) -> None:
            raise ZeroDivisionError("by\n  nothing")

        def test_another(self) -> None:
            raise AssertionError("must be empty")

        def test_a_third(self) -> None: ...

    first, second, third = judged(Contract)
    assert first.rule == "one thing"
    assert first.broken.startswith("ZeroDivisionError: by nothing (at ")
    assert (second.broken, third.broken) == ("must be empty", "")
