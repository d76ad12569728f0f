"""How many parameters the policy of a configuration has, without making it."""

import torch

from ssmrl.config import PolicyConfig, TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.models.actor import GaussianActor, make_policy
from ssmrl.models.policy import SequencePolicy
from ssmrl.models.presets import num_parameters
from ssmrl.models.ssm import StateSpaceModel

MAX_DIM = 8192
MAX_NUM_LAYERS = 32
_DIMS = ("policy.state_dim", "policy.hidden_dim", "policy.num_heads", "policy.window")


def policy_size(config: TrainConfig) -> int:
    """The parameters of the policy, the spread of its actions included.

    Args:
        config: Its sizes are bounded, since the modules are made, though without numbers in them.

    Raises:
        ValueError: If a size is above ``MAX_DIM``, there are more than ``MAX_NUM_LAYERS`` layers,
            or no such policy can be made.
    """
    knobs = config.knobs()
    for knob, limit in (*((dim, MAX_DIM) for dim in _DIMS), ("policy.num_layers", MAX_NUM_LAYERS)):
        if int(knobs[knob]) > limit:
            raise ValueError(
                f"`{knob}` must be at most {limit} to be counted, but is {knobs[knob]}"
            )
    spec = get_family(config.env.task).spec
    # As ssmrl.models.actor.make_actor: last action, last reward, and whether an episode starts.
    input_dim = spec.observation_dim + (spec.action_dim + 2 if config.policy.rl2_inputs else 0)
    with torch.device("meta"):  # shapes without numbers: nothing is drawn, nothing allocated
        policy = _policy(config.policy, input_dim, spec.action_dim)
        return num_parameters(GaussianActor(policy))


def _policy(config: PolicyConfig, input_dim: int, output_dim: int) -> SequencePolicy:
    if config.method != "ssm":
        return make_policy(config, input_dim, output_dim)
    # Of the models it alone is moved to a device when made, and numbers that are not there cannot
    # be moved to the default one.
    return StateSpaceModel(
        config.state_dim,
        input_dim,
        output_dim,
        config.hidden_dim,
        device="meta",
        num_layers=config.num_layers,
        gated=config.gated,
    )
