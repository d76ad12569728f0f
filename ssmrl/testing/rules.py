"""Checks the rules of a contract one by one without pytest, which need not be installed."""

import inspect
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_PREFIX = "test_"


@dataclass(frozen=True)
class Verdict:
    """Outcome of one rule.

    Attributes:
        rule: The rule in words.
        broken: Why the rule fails, in one line; empty if it holds.
    """

    rule: str
    broken: str = ""


def judged(contract: type[Any]) -> Iterator[Verdict]:
    """Check every rule of a contract, each on a new instance, as pytest does.

    Args:
        contract: A class whose methods ``test_*`` are its rules.

    Yields:
        One verdict for each rule, in the order in which the class has them.

    Raises:
        RuntimeError: If Python runs without assertions (``-O``), so that every rule would hold.
    """
    for name in rule_names(contract):
        yield judge(contract, name)


def judge(contract: type[Any], name: str) -> Verdict:
    """Check one rule of a contract.

    Args:
        contract: Class of the contract.
        name: Name of the method.

    Raises:
        RuntimeError: If Python runs without assertions (``-O``), so that every rule would hold.
    """
    if not __debug__:
        raise RuntimeError(
            "the rules are assertions, but Python runs without assertions; start it without -O "
            "and without PYTHONOPTIMIZE"
        )
    return Verdict(in_words(name), _how_broken(getattr(contract(), name)))


def rule_names(contract: type[Any]) -> list[str]:
    """The methods that are rules, in the order of definition, inherited ones first."""
    names = [name for kind in reversed(contract.__mro__) for name in vars(kind)]
    return [name for name in dict.fromkeys(names) if name.startswith(_PREFIX)]


def in_words(name: str) -> str:
    """The rule that a method's name states.

    Example:
        >>> in_words("test_a_returned_step_is_a_copy")
        'a returned step is a copy'
    """
    return name.removeprefix(_PREFIX).replace("_", " ")


def _how_broken(rule: Any) -> str:
    try:
        rule()
    except AssertionError as error:
        return _line(str(error)) or _raised(error)
    except Exception as error:  # any error of the part breaks the rule
        return _raised(error)
    return ""


def _raised(error: Exception) -> str:
    """The error, and the line of code that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{_line(f'{type(error).__name__}: {error}')} (at {frame.filename}:{frame.lineno})"


def _line(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split())
