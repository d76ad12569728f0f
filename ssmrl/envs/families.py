"""The one list of task families."""

from ssmrl.envs.locomotion import ANT_VELOCITY, HALF_CHEETAH_DIRECTION, HALF_CHEETAH_VELOCITY
from ssmrl.envs.point import POINT
from ssmrl.envs.task import TaskFamily

FAMILIES: dict[str, TaskFamily] = {
    family.name: family
    for family in (ANT_VELOCITY, HALF_CHEETAH_VELOCITY, HALF_CHEETAH_DIRECTION, POINT)
}


def get_family(name: str) -> TaskFamily:
    """The family of this name.

    Raises:
        KeyError: If there is none; the message lists the known ones.
    """
    if name not in FAMILIES:
        raise KeyError(f"unknown task {name!r}; the tasks are: {', '.join(FAMILIES)}")
    return FAMILIES[name]
