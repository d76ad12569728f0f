"""Meta-learning with state space model policies on MuJoCo task families.

Not a distributed system: Ray lives in ``cluster``, search in ``tuning``.
"""

import os

# By default MKL rounds a task's matrix products differently at other places of a batch, where the
# memory is aligned otherwise; then a result would depend on how many workers share the tasks.
# MKL reads this at its first call, so it must be set before anything is computed.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")

# After each product torch's threads wait for the next one in a busy loop, by default for so long
# that they take the cores from the physics. They read this when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

from importlib import import_module
from typing import TYPE_CHECKING

import ssmrl.envs.registration as _registration  # noqa: F401 (makes the tasks known to Gymnasium)

if TYPE_CHECKING:
    from ssmrl.adaptation.adapter import AdaptationConfig, Adapter
    from ssmrl.deployed import DeployedPolicy, load
    from ssmrl.envs.environment import Environment
    from ssmrl.meta.maml import MetaMAML
    from ssmrl.models.gru import GRU
    from ssmrl.models.lstm import LSTM
    from ssmrl.models.mlp import MLP
    from ssmrl.models.ssm import SSM, StateSpaceModel
    from ssmrl.models.transformer import Transformer

__all__ = [
    "GRU",
    "LSTM",
    "MLP",
    "SSM",
    "AdaptationConfig",
    "Adapter",
    "DeployedPolicy",
    "Environment",
    "MetaMAML",
    "StateSpaceModel",
    "Transformer",
    "load",
]

_MODULES = {
    "AdaptationConfig": "ssmrl.adaptation.adapter",
    "Adapter": "ssmrl.adaptation.adapter",
    "DeployedPolicy": "ssmrl.deployed",
    "Environment": "ssmrl.envs.environment",
    "GRU": "ssmrl.models.gru",
    "LSTM": "ssmrl.models.lstm",
    "MLP": "ssmrl.models.mlp",
    "MetaMAML": "ssmrl.meta.maml",
    "SSM": "ssmrl.models.ssm",
    "StateSpaceModel": "ssmrl.models.ssm",
    "Transformer": "ssmrl.models.transformer",
    "load": "ssmrl.deployed",
}


def __getattr__(name: str) -> object:
    # On demand: command lines read the configuration, and answer --help, without loading torch.
    if name not in _MODULES:
        raise AttributeError(f"module 'ssmrl' has no attribute {name!r}; it exports {__all__}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
