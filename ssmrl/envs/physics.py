"""Many simulations of one MuJoCo model, stepped together; the only file that knows MuJoCo.

Not an environment: it has no observations, no rewards and no ends of episodes.
"""

import ctypes
import os
import sys
import warnings
from pathlib import Path

import gymnasium
import numpy as np
from jaxtyping import Bool, Float, Int
from mujoco import (
    FatalError,
    MjData,
    MjLogConfig,
    MjModel,
    _batch,
    mj_forward,
    mjtState,
)

from ssmrl.envs.batched_env import NoPictureError
from ssmrl.envs.simulation_batch import ALL_STAGES, NO_STAGE, SimulationBatch

# MuJoCo's functions are found through the extension module that is linked to its library.
_LIBRARY = _batch.__file__
PICTURE_SIZE = 480


class BatchedPhysics:
    """``B`` simulations of one robot on MuJoCo's own thread pool.

    Results are bit-identical to stepping each simulation alone, at any number of threads.

    Args:
        robot: File name, without ending, of a model that ships with Gymnasium; or the path of an
            MJCF file, with its ending.
        num_simulations: ``B``.
        frame_skip: Physics steps per env step.
        num_threads: Threads that step; 0 means all cores.
        contact_forces: Whether to compute contact forces; costs memory and 2 % of the time.

    Attributes:
        position: Generalised positions, ``(B, nq)`` float64, a live view.
        velocity: Generalised velocities, ``(B, nv)`` float64, a live view.
        initial_position: The model's default position, ``(nq,)``.
        control_dim: Number of actuators.
        dt: Duration of an env step [s].
    """

    def __init__(
        self,
        robot: str,
        num_simulations: int,
        *,
        frame_skip: int,
        num_threads: int = 0,
        contact_forces: bool = False,
    ) -> None:
        self._robot, self._model = robot, load_model(robot)
        # Contact forces need the contacts of the last physics step, which exist only if each
        # simulation keeps its own data.
        self._batch = SimulationBatch(
            ctypes.CDLL(_LIBRARY),
            self._model._address,
            num_simulations,
            num_threads=num_threads,
            persistent=contact_forces,
        )
        self._frame_skip = frame_skip
        self._contact_forces = contact_forces
        self._ids = np.arange(num_simulations, dtype=np.int32)
        self._control = self._batch.state_component(mjtState.mjSTATE_CTRL.value)
        self.position: np.ndarray = self._batch.state_component(mjtState.mjSTATE_QPOS.value)
        self.velocity: np.ndarray = self._batch.state_component(mjtState.mjSTATE_QVEL.value)
        self.initial_position: np.ndarray = self._model.qpos0.copy()
        self.control_dim = int(self._model.nu)
        self.dt = float(self._model.opt.timestep) * frame_skip

    def body_position(self, body: str) -> Float[np.ndarray, "B 3"]:
        """World position [m] of a body, a live view.

        Like every derived field of MuJoCo, it belongs to the state before the last physics step.
        """
        first = 3 * int(self._model.body(body).id)
        return self._batch.output("xpos")[:, first : first + 3]

    def derived(self, field: str) -> Float[np.ndarray, "B size"]:
        """A field that MuJoCo derives from the state, one flat row per simulation, a live view.

        Contact forces, ``cfrc_ext``, are computed only with ``contact_forces=True``.
        """
        return self._batch.output(field)

    def model_field(self, field: str) -> np.ndarray:
        """A field of the model, the same for all simulations, as MuJoCo shapes it."""
        holder = self._model.opt if field.startswith("opt.") else self._model
        value: np.ndarray = np.array(getattr(holder, field.removeprefix("opt.")))
        return value

    def own_model_field(self, field: str) -> Float[np.ndarray, "B size"]:
        """Each simulation's own copy of a field of the model, flat, a live view.

        Call ``update_model`` after writing to it.
        """
        return self._batch.expand(field)

    def update_model(self) -> None:
        """Recompute what MuJoCo derives from each simulation's own model fields."""
        self._batch.set_const()

    def set_state(
        self,
        ids: Int[np.ndarray, " K"],
        position: Float[np.ndarray, "K nq"],
        velocity: Float[np.ndarray, "K nv"],
    ) -> None:
        """Set position and velocity of some simulations; reset the rest of their state."""
        if len(ids) == 0:
            return
        self._batch.reset(ids)
        self.position[ids] = position
        self.velocity[ids] = velocity
        self._batch.forward(ids, ALL_STAGES)

    def step(self, control: Float[np.ndarray, "B A"]) -> Bool[np.ndarray, " B"]:
        """Advance every simulation by one env step.

        Args:
            control: Actuator inputs.

        Returns:
            Mask of the simulations with a MuJoCo error; they kept their state, and the others are
            intact. An unstable simulation raises none: MuJoCo resets it, as in Gymnasium.
        """
        self._control[:] = control
        self._batch.step(self._frame_skip)
        failed = self._batch.failed
        if self._contact_forces:
            sound = self._ids if not failed.any() else self._ids[~failed]
            self._batch.apply(sound, "mj_rnePostConstraint")
            self._batch.forward(sound, NO_STAGE)
        return failed

    def camera(self) -> "PhysicsCamera":
        """A function that draws the simulations.

        Raises:
            NoPictureError: If MuJoCo cannot draw here; the message says what helps.
        """
        return PhysicsCamera(self._robot, self.position)


class PhysicsCamera:
    """Draws robots as Gymnasium does: from the model's camera that follows the robot.

    For a model without such a camera, MuJoCo's free camera is used.

    Args:
        robot: As in ``BatchedPhysics``.
        position: Generalised positions, ``(B, nq)``, a live view.

    Raises:
        NoPictureError: If MuJoCo cannot draw here; the message says what helps.
    """

    def __init__(self, robot: str, position: np.ndarray) -> None:
        self._position = position
        self._model = load_model(robot)
        self._data = MjData(self._model)
        cameras = {self._model.camera(index).name for index in range(self._model.ncam)}
        self._camera: str | int = "track" if "track" in cameras else -1  # -1 is MuJoCo's free one
        try:
            from mujoco import Renderer  # imported only if something is drawn

            _check_display()
            self._renderer = Renderer(self._model, PICTURE_SIZE, PICTURE_SIZE)
        except (FatalError, ImportError, RuntimeError) as error:
            raise NoPictureError(
                "pictures need a renderer, but with MUJOCO_GL="
                f"{os.environ.get('MUJOCO_GL', '')!r} there is none ({error}); set MUJOCO_GL=egl "
                "or MUJOCO_GL=osmesa before Python starts, with the packages libegl1 and "
                "libgl1-mesa-dri, or libosmesa6, installed"
            ) from error

    def __call__(self, simulation: int) -> np.ndarray:
        """A picture of a simulation, ``(480, 480, 3)`` uint8."""
        self._data.qpos[:] = self._position[simulation]
        mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, camera=self._camera)
        picture: np.ndarray = self._renderer.render()
        return picture


def _check_display() -> None:
    """Raise if there is no display, since MuJoCo ends the process when it fails a second time."""
    backend = os.environ.get("MUJOCO_GL", "").lower()
    if backend in ("disable", "disabled", "off", "false", "0"):
        raise RuntimeError("rendering is switched off")
    if backend in ("egl", "osmesa") or sys.platform != "linux":
        return
    import glfw  # imported here, since headless machines may lack it

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not glfw.init():
            raise RuntimeError("there is no display")


def load_model(robot: str) -> MjModel:
    """Load a robot's model from Gymnasium's assets, for example ``half_cheetah``, or from a file.

    Args:
        robot: File name without ending, or the path of an MJCF file with its ending.

    Raises:
        ValueError: If MuJoCo cannot read the file; the message is MuJoCo's.

    MuJoCo's messages about the age of these files are silenced, since they cannot be acted on.
    """
    folder = Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets"
    usual = MjLogConfig.get()
    quiet = MjLogConfig.get()
    quiet.logto_console = quiet.logto_file = False
    MjLogConfig.set(quiet)
    try:
        own = Path(robot)
        return MjModel.from_xml_path(str(own if own.suffix else folder / f"{robot}.xml"))
    finally:
        MjLogConfig.set(usual)
