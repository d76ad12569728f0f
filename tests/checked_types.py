"""The checks of types that the tests make at every call of the engine, none of them left out.

``pyproject.toml`` names ``checked``, so that whatever is tested first brings this module along. It
saves what jaxtyping does at every call of a function of whose signature it says nothing, and what
is done again for functions that are alike.
"""

import dataclasses
import functools
import inspect
from types import FunctionType
from typing import Any, get_args, get_type_hints

import jaxtyping
from beartype import beartype
from beartype.roar import BeartypeException

_checked_with_shapes = inspect.unwrap(jaxtyping.jaxtyped)  # this module may be imported twice
_MADE: dict[Any, Any] = {}


def checked(function: Any) -> Any:
    """A function or class whose calls are checked, as by ``beartype`` itself.

    Jaxtyping asks for the check of a signature wherever a function is defined, also of one that is
    defined inside of another at each of its calls. What it hands over has no body of its own: of
    equal signatures, with the same objects as types and defaults, the checks are the same, and to
    write one takes milliseconds.

    Args:
        function: What jaxtyping makes of a signature, or a class.
    """
    if not isinstance(function, FunctionType) or function.__closure__:
        return beartype(function)
    try:
        signature = (
            function.__module__,
            function.__qualname__,
            function.__code__,
            tuple(function.__annotations__.items()),
            tuple((type(value), value) for value in function.__defaults__ or ()),
            tuple((k, type(v), v) for k, v in (function.__kwdefaults__ or {}).items()),
        )
        if signature not in _MADE:
            _MADE[signature] = beartype(function)
    except TypeError:  # a default that cannot be hashed
        return beartype(function)
    return _MADE[signature]


@functools.wraps(_checked_with_shapes)
def _jaxtyped(function: Any = None, *, typechecker: Any) -> Any:
    """As jaxtyping's own, but where no shape is named, types are checked and no shapes compared."""
    if function is None:
        return functools.partial(_jaxtyped, typechecker=typechecker)
    if inspect.isclass(function) and dataclasses.is_dataclass(function):
        constructor = vars(function).get("__init__")
        if _is_checked_alone(constructor):
            function.__init__ = _jaxtyped(constructor, typechecker=typechecker)
            return function
    by_shapes = functools.partial(_checked_with_shapes, typechecker=typechecker)
    is_inner = "<locals>" in getattr(function, "__qualname__", "")
    if is_inner or not _is_checked_alone(function):
        return by_shapes(function)
    try:
        with_check = beartype(function)
    except BeartypeException:  # of a type that only a class tells, such as Self
        return by_shapes(function)

    @functools.wraps(function)
    def called(*arguments: Any, **named: Any) -> Any:
        is_off = jaxtyping.config.jaxtyping_disable
        return (function if is_off else with_check)(*arguments, **named)

    return called


def _is_checked_alone(function: Any) -> bool:
    """Whether it is a function that names no shape, neither in its types nor in its body."""
    if not isinstance(function, FunctionType):
        return False
    try:
        types = list(get_type_hints(function).values())
    except (NameError, TypeError, ValueError):  # of a class that is still to come
        return False
    looked_up = [function.__globals__.get(name) for name in function.__code__.co_names]
    return not any(map(_is_shaped, types)) and not any(
        inspect.isclass(one) and issubclass(one, jaxtyping.AbstractDtype) for one in looked_up
    )


def _is_shaped(kind: Any) -> bool:
    is_array = inspect.isclass(kind) and issubclass(kind, jaxtyping.AbstractArray)
    return is_array or any(map(_is_shaped, get_args(kind)))


jaxtyping.jaxtyped = _jaxtyped
