"""The one list of task families."""

from ssmrl.envs.locomotion_families import LOCOMOTION_FAMILIES
from ssmrl.envs.point import POINT
from ssmrl.envs.task import TaskFamily
from ssmrl.unknown_name import UnknownNameError

FAMILIES: dict[str, TaskFamily] = {family.name: family for family in (*LOCOMOTION_FAMILIES, POINT)}

# What the literature calls ant-dir, and what its published numbers belong to, is the family of
# two directions; the one of all directions has a name of its own.
ALIASES = {"ant-dir": "ant-dir-fb"}


def get_family(name: str) -> TaskFamily:
    """The family of this name, or of this other name of it.

    Example:
        >>> get_family("ant-dir").name
        'ant-dir-fb'

    Raises:
        KeyError: If there is none; the message lists the known ones.
    """
    known = FAMILIES.get(ALIASES.get(name, name))
    if known is None:
        raise UnknownNameError(
            f"unknown task {name!r}; the tasks are: {', '.join((*FAMILIES, *ALIASES))}"
        )
    return known
