"""Meta-learning with state space model policies on MuJoCo task families.

This package runs without Ray: distribution is in ``cluster``, hyperparameter search in ``tuning``.
"""

import os

# By default MKL's rounding depends on memory alignment. A task's matrix products would then depend
# on its position in the batch, and so on the number of workers that share the tasks.
# MKL reads this at its first call, so it must be set before anything is computed.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# After each product torch's threads spin until the next one, by default so long that they take CPU
# cores from the physics. The variable is read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from importlib import import_module
from typing import TYPE_CHECKING

import ssmrl.envs.registration as _registration  # noqa: F401 (makes the tasks known to Gymnasium)

if TYPE_CHECKING:
    from ssmrl.adaptation.adapter import AdaptationConfig, Adapter
    from ssmrl.deployed import DeployedPolicy, load
    from ssmrl.envs.dynamics import Dynamics
    from ssmrl.envs.environment import Environment
    from ssmrl.envs.gymnasium_family import gymnasium_family
    from ssmrl.envs.hidden_code import BoxCode
    from ssmrl.envs.rewards import Reward, velocity_error
    from ssmrl.envs.robot_family import own_robot, robot_family
    from ssmrl.envs.task import FamilySpec, TaskDistribution, TaskFamily, UniformBox
    from ssmrl.meta.algorithms import ALGORITHMS
    from ssmrl.meta.maml import MetaMAML
    from ssmrl.meta.promp import ProMP
    from ssmrl.models.gru import GRU
    from ssmrl.models.lstm import LSTM
    from ssmrl.models.mlp import MLP
    from ssmrl.models.ssm import SSM, StateSpaceModel
    from ssmrl.models.transformer import Transformer

__all__ = [
    "ALGORITHMS",
    "GRU",
    "LSTM",
    "MLP",
    "SSM",
    "AdaptationConfig",
    "Adapter",
    "BoxCode",
    "DeployedPolicy",
    "Dynamics",
    "Environment",
    "FamilySpec",
    "MetaMAML",
    "ProMP",
    "Reward",
    "StateSpaceModel",
    "TaskDistribution",
    "TaskFamily",
    "Transformer",
    "UniformBox",
    "gymnasium_family",
    "load",
    "own_robot",
    "robot_family",
    "velocity_error",
]

_MODULES = {
    "ALGORITHMS": "ssmrl.meta.algorithms",
    "AdaptationConfig": "ssmrl.adaptation.adapter",
    "Adapter": "ssmrl.adaptation.adapter",
    "BoxCode": "ssmrl.envs.hidden_code",
    "DeployedPolicy": "ssmrl.deployed",
    "Dynamics": "ssmrl.envs.dynamics",
    "Environment": "ssmrl.envs.environment",
    "FamilySpec": "ssmrl.envs.task",
    "GRU": "ssmrl.models.gru",
    "LSTM": "ssmrl.models.lstm",
    "MLP": "ssmrl.models.mlp",
    "MetaMAML": "ssmrl.meta.maml",
    "ProMP": "ssmrl.meta.promp",
    "Reward": "ssmrl.envs.rewards",
    "SSM": "ssmrl.models.ssm",
    "StateSpaceModel": "ssmrl.models.ssm",
    "TaskDistribution": "ssmrl.envs.task",
    "TaskFamily": "ssmrl.envs.task",
    "Transformer": "ssmrl.models.transformer",
    "UniformBox": "ssmrl.envs.task",
    "gymnasium_family": "ssmrl.envs.gymnasium_family",
    "load": "ssmrl.deployed",
    "own_robot": "ssmrl.envs.robot_family",
    "robot_family": "ssmrl.envs.robot_family",
    "velocity_error": "ssmrl.envs.rewards",
}


def __getattr__(name: str) -> object:
    # Lazy import: command lines read the configuration and answer --help without loading torch.
    if name not in _MODULES:
        raise AttributeError(f"module 'ssmrl' has no attribute {name!r}; it exports {__all__}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
