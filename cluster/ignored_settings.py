"""RLlib's settings that have no effect here, and the knobs that replace them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cluster.meta_algorithm import MetaConfig

# RLlib's name of a setting -> the knobs of `train_config` that replace it, whichever of them the
# algorithm has. An empty tuple means that nothing replaces it.
IGNORED: Mapping[str, tuple[str, ...]] = {
    # .environment()
    "env": ("env.task",),
    "env_config": ("env.task", "env.horizon", "env.action_scale"),
    "observation_space": ("env.task",),
    "action_space": ("env.task",),
    "normalize_actions": ("env.action_scale",),
    "clip_actions": ("env.action_scale",),
    "clip_rewards": (),
    "render_env": (),
    # .training()
    "gamma": ("meta.discount",),
    "lr": ("meta.outer_lr", "meta.learning_rate", "meta.max_kl"),
    "grad_clip": (),
    "grad_clip_by": (),
    "train_batch_size": ("meta.num_tasks", "meta.num_episodes", "meta.num_lanes"),
    "_train_batch_size_per_learner": ("meta.num_tasks", "meta.num_episodes", "meta.num_lanes"),
    "minibatch_size": ("meta.batch_size",),
    "num_epochs": ("meta.num_epochs", "meta.updates_per_env_step"),
    "shuffle_batch_per_epoch": (),
    "model": ("policy.method", "policy.state_dim", "policy.hidden_dim"),
    "optimizer": ("meta.outer_lr", "meta.learning_rate"),
    "learner_config_dict": (),
    "_learner_connector": (),
    "_torch_lr_scheduler_classes": (),
    "_torch_grad_scaler_class": (),
    # .rl_module()
    "_model_config": ("policy.method", "policy.state_dim", "policy.hidden_dim"),
    "_rl_module_spec": ("policy.method", "policy.state_dim", "policy.hidden_dim"),
    "algorithm_config_overrides_per_module": (),
    # .debugging()
    "seed": ("seed",),
    # .env_runners()
    "num_envs_per_env_runner": ("meta.num_episodes", "meta.num_lanes"),
    "rollout_fragment_length": ("env.horizon",),
    "batch_mode": ("env.horizon",),
    "explore": (),
    "exploration_config": (),
    "gym_env_vectorize_mode": (),
    "observation_filter": (),
    "compress_observations": (),
    "_env_to_module_connector": (),
    "_module_to_env_connector": (),
    # .evaluation()
    "evaluation_duration": ("evaluation.num_tasks", "evaluation.num_episodes"),
    "evaluation_duration_unit": (),
    "evaluation_config": (),
    "evaluation_num_env_runners": (),
    "evaluation_parallel_to_training": (),
    # .multi_agent()
    "is_multi_agent": (),
    "policies_to_train": (),
    "policy_mapping_fn": (),
    # .offline_data()
    "input_": (),
    "output": (),
    # .callbacks(): those that an RLlib environment would call
    "callbacks_on_environment_created": (),
    "callbacks_on_episode_created": (),
    "callbacks_on_episode_start": (),
    "callbacks_on_episode_step": (),
    "callbacks_on_episode_end": (),
    "callbacks_on_sample_end": (),
    # .framework() and .api_stack()
    "framework_str": (),
    "enable_rl_module_and_learner": (),
    "enable_env_runner_and_connector_v2": (),
}


def refuse_ignored(config: "MetaConfig", usual: "MetaConfig") -> None:
    """Reject settings that have no effect.

    Args:
        config: Configuration to check.
        usual: Default configuration with the same ``train_config``.

    Raises:
        ValueError: If there is one; the message names it, its value, and the knobs that replace it.
    """
    for name, knobs in IGNORED.items():
        value = getattr(config, name)
        if not _equal(value, getattr(usual, name)):
            known = [f"`{knob}`" for knob in knobs if knob in config.train_config.knobs()]
            counts = f"set {', '.join(known)} of `train_config` instead; " if known else ""
            raise ValueError(
                f"`{name.lstrip('_')}` has no effect on {config.algo_class.__name__}, but is "
                f"{value!r}; {counts}leave it at {getattr(usual, name)!r}"
            )


def _equal(value: Any, other: Any) -> bool:
    """Whether two values are equal; values that cannot be compared count as different."""
    try:
        return value is other or bool(value == other)
    except (TypeError, ValueError):
        return False
