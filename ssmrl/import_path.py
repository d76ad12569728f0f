"""Objects of other packages, given by their import path ``package.module:NAME``."""

import hashlib
import inspect
import socket
import sys
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar("T")


class ImportPathError(ValueError):
    """An import path leads to nothing usable; the message says what is wrong."""


def is_import_path(name: object) -> bool:
    """Whether a name is an import path rather than a short name of this project.

    Example:
        >>> [is_import_path(name) for name in ("ant-vel", "my_package.tasks:FAMILY")]
        [False, True]
    """
    return isinstance(name, str) and ":" in name


@cache
def imported(path: str) -> Any:
    """The object at an import path; its module is imported if necessary.

    Raises:
        ImportPathError: If the path has another form, if this machine has no such module, if the
            module has no such name, or if the module's own code raises; the message then contains
            the traceback.

    Example:
        >>> imported("math:pi")
        3.141592653589793
    """
    module_name, _, name = path.partition(":")
    parts = [*module_name.split("."), *name.split(".")]
    if not all(part.isidentifier() for part in parts):
        raise ImportPathError(f"an import path must be `package.module:NAME`, but got {path!r}")
    found: Any = _module(module_name, path)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ImportPathError(
                f"{path!r} cannot be imported: {module_name} at "
                f"{getattr(sys.modules[module_name], '__file__', 'no file')} has no {name!r}"
            )
        found = getattr(found, part)
    return found


def imported_as(path: str, wanted: type[T], remedy: str) -> T:
    """The object at an import path, which must have a type.

    Args:
        path: Import path.
        wanted: The type.
        remedy: What makes such an object, for the message.

    Raises:
        ImportPathError: If there is none, or it has another type.
    """
    found = imported(path)
    if not isinstance(found, wanted):
        raise ImportPathError(
            f"{path!r} must be of type {wanted.__name__}, but is of type {type(found).__name__}; "
            f"{remedy}"
        )
    return found


def source_digest(path: str) -> str:
    """SHA-256 of the source file of an import path's module; empty if there is no such file.

    Raises:
        ImportPathError: If the path cannot be imported.
    """
    imported(path)
    file = inspect.getsourcefile(sys.modules[path.partition(":")[0]])
    if file is None or not Path(file).is_file():
        return ""
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def _module(module_name: str, path: str) -> Any:
    try:
        return import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise ImportPathError(
                f"{path!r} cannot be imported: there is no module {missing!r} on "
                f"{socket.gethostname()}; install its package there, or start in the folder that "
                "holds it"
            ) from error
        raise _own_fault(error, path) from error
    except Exception as error:
        raise _own_fault(error, path) from error


def _own_fault(error: Exception, path: str) -> ImportPathError:
    """The error for a module whose own code raises, with the traceback inside that module."""
    lines = traceback.format_exception(type(error), error, _outside_of_import(error.__traceback__))
    return ImportPathError(
        f"{path!r} cannot be imported: its own code raises\n{''.join(lines).rstrip()}"
    )


def _outside_of_import(trace: TracebackType | None) -> TracebackType | None:
    """The frames after those of this module and of Python's import."""
    while trace is not None and trace.tb_next is not None:
        file = trace.tb_frame.f_code.co_filename
        if file != __file__ and "importlib" not in file:
            break
        trace = trace.tb_next
    return trace
