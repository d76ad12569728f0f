"""The checks of types, made cheaper, still check each call."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jaxtyping
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from jaxtyping import Float
from torch import Tensor, zeros

from ssmrl.config import EvaluationConfig
from ssmrl.knobs import check_positive, whole
from ssmrl.models.policy import reset_hidden
from tests.checked_types import checked
from tests.ssmrl.unchecked_types import unchecked_types

jaxtyped = jaxtyping.jaxtyped(typechecker=checked)
REFUSED = (jaxtyping.TypeCheckError, BeartypeCallHintViolation)


def defined_anew(kind: type, default: Any = 0) -> Callable[[Any], Any]:
    """A function inside of another, as loops over inner steps define them."""

    @jaxtyped
    def inner(x: kind, scale: Any = default) -> kind:  # type: ignore[valid-type]
        return x if scale == 0 else scale

    return inner


@jaxtyped
def looked_up_in_the_body(x: Any) -> Any:
    return x if isinstance(x, Float[Tensor, "B B"]) else None


@jaxtyped
def told(x: int | list[int]) -> str:
    return "seven" if x == 7 else x  # type: ignore[return-value]


@jaxtyped
@dataclass(frozen=True)
class Sized:
    size: int
    shape: Float[Tensor, "B B"] | None = None


def test_functions_that_are_alike_share_a_check_and_keep_their_own_body() -> None:
    matrix = Float[Tensor, "B O"]
    first, second = defined_anew(matrix), defined_anew(matrix)
    for each in (first, second):
        assert each(zeros(2, 3)).shape == (2, 3)
        with pytest.raises(jaxtyping.TypeCheckError, match="parameters of"):
            each(zeros(3))


def test_another_type_or_default_has_a_check_of_its_own() -> None:
    assert defined_anew(int)(3) == 3
    with pytest.raises(jaxtyping.TypeCheckError, match="parameters of"):
        defined_anew(str)(3)
    assert defined_anew(bool, default=True)(False) is True
    with pytest.raises(jaxtyping.TypeCheckError, match="return value"):
        defined_anew(bool, default=1)(False)
    unhashable: list[int] = []
    assert defined_anew(list, default=unhashable)([1]) is unhashable


def test_what_names_no_shape_is_checked_too() -> None:
    assert told(7) == "seven"
    for wrong in ("7", 8, ["a"]):  # an argument, what is returned, what is inside
        with pytest.raises(REFUSED):
            told(wrong)  # type: ignore[arg-type]
    with unchecked_types():
        assert told(8) == 8  # type: ignore[comparison-overlap]


def test_shapes_are_compared_wherever_they_are_named() -> None:
    square, oblong = zeros(2, 2), zeros(2, 3)
    assert looked_up_in_the_body(square) is square
    assert looked_up_in_the_body(oblong) is None
    assert looked_up_in_the_body(zeros(3, 3)) is not None, (
        "the sizes of the call before are forgotten"
    )
    for wrong in ({"size": "2"}, {"size": 2, "shape": oblong}):
        with pytest.raises(REFUSED):
            Sized(**wrong)  # type: ignore[arg-type]
    assert replace(Sized(2, square), size=3).size == 3


def test_the_engine_is_checked_in_the_tests() -> None:
    hidden, first = zeros(2, 3), zeros(2, dtype=torch.bool)
    assert reset_hidden(hidden, first).shape == (2, 3)
    with pytest.raises(REFUSED, match="reset_hidden"):
        reset_hidden(hidden, zeros(1, dtype=torch.bool))
    assert whole("horizon", 7) == 7
    with pytest.raises(REFUSED, match="name"):
        whole(7, 7)  # type: ignore[arg-type]
    with pytest.raises(REFUSED, match="name"):
        check_positive(7, 7.0)  # type: ignore[arg-type]
    with pytest.raises(REFUSED, match="num_tasks"):
        EvaluationConfig(num_tasks="20")  # type: ignore[arg-type]
