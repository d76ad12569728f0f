"""Moves: the way to a line and back, and what is refused."""

import json

import pytest

from tests.tuning.handmade import CLIP, CLIPS
from tuning.spaces.space import Int
from tuning.table.move import Move


def test_a_move_returns_from_its_line() -> None:
    move = Move("policy.window", Int(1, 9), Int(1, 13), "expand", "so it is", ("t0001", "t0002"))
    assert "\n" not in move.to_json()
    assert Move.from_json(move.to_json()) == move
    assert json.loads(move.to_json())["new"]["high"] == 13


@pytest.mark.parametrize("text", ["{}", "[]", "3", '{"knob": "a", "old": 1, "new": 2}', "{"])
def test_what_is_no_move_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a move|must have a kind|Expecting"):
        Move.from_json(text)


def test_an_unknown_kind_of_move_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`kind` must be one of \['expand'"):
        Move(CLIP, CLIPS, CLIPS, "jump", "because", ())
