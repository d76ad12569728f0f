"""Draws what ``test_rendering`` looks at, in a process whose MuJoCo has a renderer.

``python -m tests.ssmrl.envs.draw OUTPUT``; MuJoCo reads ``MUJOCO_GL`` when it is imported.
"""

import copy
import sys

import gymnasium
import numpy as np

from ssmrl.envs.registration import gymnasium_id
from tests.ssmrl.envs.plain_physics import quiet_mujoco

TWINS = {
    "halfcheetah-vel": "HalfCheetah-v5",
    "ant-mass": "Ant-v5",
    "walker2d-damping": "Walker2d-v5",
}
NUM_STEPS = 5


def frames() -> dict[str, np.ndarray]:
    drawn = {}
    for family, theirs in TWINS.items():
        env = gymnasium.make(gymnasium_id(family), render_mode="rgb_array")
        env.reset(seed=0)
        drawn[f"{family} start"] = np.array(env.render())
        for _ in range(NUM_STEPS):
            env.step(env.action_space.high)  # type: ignore[attr-defined]
        drawn[family] = np.array(env.render())
        physics = env.unwrapped._trials._env.physics  # type: ignore[attr-defined]
        with quiet_mujoco():
            twin = gymnasium.make(theirs, render_mode="rgb_array")
            twin.reset(seed=0)
            twin.unwrapped.set_state(physics.position[0], physics.velocity[0])  # type: ignore[attr-defined]
            drawn[f"{family} twin"] = np.array(twin.render())
    family = "halfcheetah-vel"
    many = gymnasium.make_vec(gymnasium_id(family), 3, render_mode="rgb_array")
    many.reset(seed=0)
    for _ in range(NUM_STEPS):
        many.step(many.action_space.high)  # type: ignore[attr-defined]
    drawn["many"] = np.array(many.render())
    again = copy.deepcopy(many)
    again.reset(seed=0)
    drawn["copy"] = np.array(again.render())
    many.close()
    many.close()
    return drawn


if __name__ == "__main__":
    np.savez(sys.argv[1], **frames())  # type: ignore[arg-type]
