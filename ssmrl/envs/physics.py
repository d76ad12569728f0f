"""Many simulations of one MuJoCo model, stepped together; the only file that knows MuJoCo.

Not an environment: it has no observation, no reward and no end.
"""

from pathlib import Path

import gymnasium
import numpy as np
from jaxtyping import Bool, Float, Int
from mujoco import MjLogConfig, MjModel
from mujoco.batch import Batch, SimulationError


class BatchedPhysics:
    """``B`` simulations of one robot on MuJoCo's own thread pool.

    Results are bit-identical to stepping each simulation alone, at any number of threads.

    Args:
        robot: File name, without ending, of a model that ships with Gymnasium.
        num_simulations: ``B``.
        frame_skip: Physics steps per env step.
        num_threads: Threads that step; 0 means all cores.

    Attributes:
        position: Generalised positions, ``(B, nq)`` float64, a live view.
        velocity: Generalised velocities, ``(B, nv)`` float64, a live view.
        initial_position: The model's own, ``(nq,)``.
        control_dim: Number of actuators.
        dt: Duration of an env step [s].
    """

    def __init__(
        self, robot: str, num_simulations: int, *, frame_skip: int, num_threads: int = 0
    ) -> None:
        self._model = load_model(robot)
        self._batch = Batch(self._model, nsim=num_simulations, nthread=num_threads)
        self._frame_skip = frame_skip
        self._control = self._batch.bind("ctrl")
        self.position: np.ndarray = self._batch.bind("qpos")
        self.velocity: np.ndarray = self._batch.bind("qvel")
        self.initial_position: np.ndarray = self._model.qpos0.copy()
        self.control_dim = int(self._model.nu)
        self.dt = float(self._model.opt.timestep) * frame_skip

    def body_position(self, body: str) -> Float[np.ndarray, "B 3"]:
        """World position [m] of a body, a live view.

        Like every derived field of MuJoCo it belongs to the state before the last physics step.
        """
        view: np.ndarray = self._batch.bind("xpos")[:, self._model.body(body).id]
        return view

    def set_state(
        self,
        ids: Int[np.ndarray, " K"],
        position: Float[np.ndarray, "K nq"],
        velocity: Float[np.ndarray, "K nv"],
    ) -> None:
        """Put some simulations into a state, at rest in every other respect."""
        if len(ids) == 0:
            return
        self._batch.reset(ids, stage=0)
        self.position[ids] = position
        self.velocity[ids] = velocity
        self._batch.forward(ids)

    def step(self, control: Float[np.ndarray, "B A"]) -> Bool[np.ndarray, " B"]:
        """Advance every simulation by one env step.

        Args:
            control: Actuator inputs.

        Returns:
            Which simulations MuJoCo raised an error for; they kept their state and the others are
            intact. An unstable one raises none: MuJoCo puts it back to rest, as in Gymnasium.
        """
        self._control[:] = control
        failed = np.zeros(len(control), dtype=np.bool_)
        try:
            self._batch.step(nstep=self._frame_skip)
        except SimulationError as error:
            failed[error.ids] = True
        return failed


def load_model(robot: str) -> MjModel:
    """Load a robot's model from Gymnasium's assets, for example ``half_cheetah``.

    MuJoCo's advice about the age of these files is silenced: nobody here can follow it.
    """
    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    usual = MjLogConfig.get()
    quiet = MjLogConfig.get()
    quiet.logto_console = quiet.logto_file = False
    MjLogConfig.set(quiet)
    try:
        return MjModel.from_xml_path(str(folder / f"{robot}.xml"))
    finally:
        MjLogConfig.set(usual)
