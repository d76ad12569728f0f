"""The list of this project's task families, and access to those of other packages."""

from dataclasses import replace
from functools import cache

from ssmrl.envs.locomotion_families import LOCOMOTION_FAMILIES
from ssmrl.envs.point import POINT
from ssmrl.envs.task import TaskFamily
from ssmrl.import_path import imported_as, is_import_path
from ssmrl.unknown_name import UnknownNameError

FAMILIES: dict[str, TaskFamily] = {family.name: family for family in (*LOCOMOTION_FAMILIES, POINT)}

# In the literature and its published numbers, ant-dir is the family of two directions; the family
# of all directions is ant-dir-2d.
ALIASES = {"ant-dir": "ant-dir-fb"}


def get_family(name: str) -> TaskFamily:
    """The family with this name or alias, or at this import path.

    A family found by its import path has this path as its name, so that its tasks, checkpoints and
    rows lead back to it in every process.

    Args:
        name: Short name, or ``package.module:NAME`` of a ``TaskFamily``.

    Example:
        >>> get_family("ant-dir").name
        'ant-dir-fb'

    Raises:
        KeyError: If no family has the short name; the message lists the known ones.
        ImportPathError: If there is no family at the import path.
    """
    if is_import_path(name):
        return _own_family(name)
    known = FAMILIES.get(ALIASES.get(name, name))
    if known is None:
        raise UnknownNameError(
            f"unknown task {name!r}; the tasks are: {', '.join((*FAMILIES, *ALIASES))}; one of "
            "your own is given as `package.module:NAME`"
        )
    return known


@cache
def _own_family(path: str) -> TaskFamily:
    remedy = "make one with `ssmrl.gymnasium_family`, `ssmrl.robot_family` or `ssmrl.TaskFamily`"
    family = imported_as(path, TaskFamily, remedy)
    return replace(family, name=path)
