"""Registers every task family with Gymnasium; importing this module does it.

Example:
    >>> env = gymnasium.make("ssmrl/HalfCheetahVel-v0")
    >>> observation, info = env.reset(seed=0)
    >>> observation.shape, info
    ((17,), {})
    >>> gymnasium.make_vec("ssmrl/AntDir2d-v0", num_envs=4).observation_space.shape
    (4, 27)
"""

import gymnasium

from ssmrl.envs.families import FAMILIES


def gymnasium_id(family: str) -> str:
    """The Gymnasium id of a family.

    Example:
        >>> gymnasium_id("halfcheetah-vel"), gymnasium_id("ant-dir-2d")
        ('ssmrl/HalfCheetahVel-v0', 'ssmrl/AntDir2d-v0')
    """
    words = [word.capitalize() for word in family.split("-")]
    return f"ssmrl/{''.join(words).replace('Halfcheetah', 'HalfCheetah')}-v0"


for _name in FAMILIES:
    if gymnasium_id(_name) not in gymnasium.registry:
        gymnasium.register(
            gymnasium_id(_name),
            entry_point="ssmrl.envs.gymnasium_env:TaskEnv",
            vector_entry_point="ssmrl.envs.gymnasium_env:TaskVectorEnv",
            kwargs={"family": _name},
        )
