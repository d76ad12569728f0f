"""What is written can be read by any program, and what is read is what was meant."""

import math

import pytest

from ssmrl.strict_json import json_object, json_text, json_value


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_no_number_is_written_that_json_has_not(number: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        json_text({"rows": [{"score": number}]})


def test_what_is_written_reads_back_exactly() -> None:
    value = {"a": [0.1, 1e-300, -7, True, None, "ü\n"], "b": {"c": 2**70}}
    assert json_value(json_text(value), "x") == value
    assert json_value(json_text(value, indent=1).encode(), "x") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1"),
        ('{"a": 1', "line 1, column 8"),
        ("{'a': 1}", "line 1, column 2"),
        ('{"a": NaN}', "NaN"),
        ("[-Infinity]", "-Infinity"),
        ('{"a": 1e999}', "1e999"),
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "'c' occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "digits"),
        (b"\xff\x00\x00", "not text"),
        (b"\x80", "not text"),
    ],
)
def test_what_is_no_json_is_refused_in_one_line(text: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=r"^x\.json must be JSON, but ") as caught:
        json_value(text, "x.json")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("text", ["[1]", "null", "5", '"text"', "[" + "1," * 999 + "1]"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^x must be a JSON object, but is ") as caught:
        json_object(text, "x")
    assert len(str(caught.value)) < 100
