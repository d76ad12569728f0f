"""Number of parameters that a configuration trains, counted without allocating them."""

import torch
from torch import nn

from ssmrl.config import SequenceConfig, TrainConfig
from ssmrl.envs.families import get_family
from ssmrl.meta.algorithms import get_algorithm
from ssmrl.models.actor import GaussianActor, make_policy
from ssmrl.models.policy import SequencePolicy
from ssmrl.models.presets import num_parameters
from ssmrl.models.ssm import StateSpaceModel

MAX_DIM = 8192
MAX_NUM_LAYERS = 32
SIZES = (
    "policy.state_dim",
    "policy.hidden_dim",
    "policy.num_heads",
    "policy.window",
    "meta.actor_hidden_dim",
    "meta.critic_hidden_dim",
)


def model_size(config: TrainConfig) -> int:
    """The number of parameters of all networks: a policy, or inference model, actor and critics.

    Args:
        config: Configuration; its sizes are bounded, since the modules are built, though on the
            meta device.

    Raises:
        ValueError: If a size is above ``MAX_DIM``, there are more than ``MAX_NUM_LAYERS`` layers,
            or no such networks can be built.
    """
    knobs = config.knobs()
    limits = {**dict.fromkeys(SIZES, MAX_DIM), "policy.num_layers": MAX_NUM_LAYERS}
    for knob, limit in limits.items():
        if int(knobs.get(knob, 0)) > limit:
            raise ValueError(
                f"`{knob}` must be at most {limit} to be counted, but is {knobs[knob]}"
            )
    return num_parameters(networks_of(config))


def networks_of(config: TrainConfig) -> nn.Module:
    """All networks that a configuration trains, on torch's meta device.

    No weights are drawn or allocated.

    Raises:
        ValueError: If no such networks can be built.
    """
    with torch.device("meta"):
        if get_algorithm(config.algorithm).kind == "memory":
            return _context_networks(config)
        spec = get_family(config.env.task).spec
        # As in ssmrl.models.actor.make_actor: last action, last reward, episode-start flag.
        more = spec.action_dim + 2 if config.policy.rl2_inputs else 0
        policy = _policy(config.policy, spec.observation_dim + more, spec.action_dim)
        return GaussianActor(policy)


def _context_networks(config: TrainConfig) -> nn.Module:
    """The networks of ``ssmrl.context.networks.ContextNetworks``, without drawing weights."""
    from ssmrl.context.networks import ParallelMLP, hidden_code

    spec, meta, code_dim = get_family(config.env.task).spec, config.meta, hidden_code(config).dim
    generator = torch.Generator("cpu")
    seen, action_dim = spec.observation_dim + code_dim, spec.action_dim
    actor = (1, seen, meta.actor_hidden_dim, 2 * action_dim, generator)
    critics = (2, seen + action_dim, meta.critic_hidden_dim, 1, generator)
    networks = nn.ModuleList(
        [
            ParallelMLP(*actor),
            ParallelMLP(*actor),  # its average
            ParallelMLP(*critics),
            ParallelMLP(*critics),  # the targets
            _policy(config.policy, spec.observation_dim + action_dim + 2, 2 * code_dim),
        ]
    )
    networks.register_parameter("log_temperature", nn.Parameter(torch.zeros(())))
    return networks


def _policy(config: SequenceConfig, input_dim: int, output_dim: int) -> SequencePolicy:
    if config.method != "ssm":
        return make_policy(config, input_dim, output_dim)
    # This model alone moves itself to its device, by default the CPU; meta tensors cannot be moved.
    return StateSpaceModel(
        config.state_dim,
        input_dim,
        output_dim,
        config.hidden_dim,
        device="meta",
        num_layers=config.num_layers,
        gated=config.gated,
    )
