"""Constants of a robot's model that tasks multiply, separately in each simulation."""

from dataclasses import dataclass

import numpy as np

from ssmrl.envs.physics import BatchedPhysics


@dataclass(frozen=True)
class Dynamics:
    """A field of the model whose elements the hidden variables multiply.

    Elements whose default value is zero are not variables: the world's mass, gravity's horizontal
    parts, the damping of a floating root.

    Attributes:
        name: Name used in the names of families.
        field: MuJoCo's name of the field.
        shared: Number of consecutive entries that one variable multiplies. A geom has three
            friction coefficients; only the first acts in contacts that neither roll nor twist.
    """

    name: str
    field: str
    shared: int = 1


class VariedModel:
    """Gives each simulation its own values of one model field.

    Args:
        physics: The simulations.
        dynamics: Field that varies.

    Attributes:
        num_variables: Hidden variables of a task, ``P``.
    """

    def __init__(self, physics: BatchedPhysics, dynamics: Dynamics) -> None:
        self._physics = physics
        self._dynamics = dynamics
        usual = physics.model_field(dynamics.field).reshape(-1, dynamics.shared)
        self._varied = np.flatnonzero(usual.any(axis=1))
        self._usual = usual[self._varied]
        self._own = physics.own_model_field(dynamics.field)
        self.num_variables = len(self._varied)

    def multiply(self, multipliers: np.ndarray) -> None:
        """Set each simulation's field to multiples of the default values.

        Args:
            multipliers: ``(B, P)``.

        Raises:
            ValueError: If there is not one positive multiplier for every variable.
        """
        expected = (len(self._own), self.num_variables)
        if multipliers.shape != expected or not (multipliers > 0.0).all():
            raise ValueError(
                f"`{self._dynamics.name}` takes positive multipliers of shape {expected}, but got "
                f"{multipliers.shape=}; sample the tasks from the family's own distributions"
            )
        own = self._own.reshape(len(self._own), -1, self._dynamics.shared)
        own[:, self._varied] = self._usual * multipliers[:, :, None]
        self._physics.update_model()


GRAVITY = Dynamics("gravity", "opt.gravity")
MASS = Dynamics("mass", "body_mass")
INERTIA = Dynamics("inertia", "body_inertia")
FRICTION = Dynamics("friction", "geom_friction", shared=3)
DAMPING = Dynamics("damping", "dof_damping")
