"""Updates that are captured and replayed against the same one after another, without a GPU.

In place of a device's graphs stand ones that capture a call and make it again: what they cannot
show is whether a device would capture it. That no step reads a value is shown on a device that has
none.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssmrl.config import TrainConfig
from ssmrl.context.actor_critic_training import cycle_length
from ssmrl.context.graph import NUM_REHEARSALS, Captured, CudaGraphs, Graphs, graphs_of
from ssmrl.context.inference_training import InferenceTraining
from ssmrl.context.learner import ContextLearner
from ssmrl.device import CPU
from ssmrl.rollout.play import LocalCollector
from tests.ssmrl.context.small_context import small_context

META = torch.device("meta")
ITERATIONS = 4


class CallsAgain:
    """Stands in for a device's graphs; how often it captured."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.num_captures = refuses, 0

    def rehearse(self, work: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return work()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.refuses:
            raise RuntimeError(self.refuses)
        self.num_captures += 1
        return work


def no_graphs(device: torch.device) -> Graphs | None:
    return None


def trained(
    config: TrainConfig, graphs: Callable[[torch.device], Graphs | None] = no_graphs
) -> ContextLearner:
    learner = ContextLearner(config, graphs_of=graphs)
    collect = LocalCollector(config, 1)
    for _ in range(ITERATIONS):
        learner.iterate(collect)
    return learner


def assert_same(first: ContextLearner, second: ContextLearner) -> None:
    wanted = second.tensors()
    for name, value in first.tensors().items():
        assert torch.equal(value, wanted[name]), name


# --------------------------------------------------------------------------------- the learner


@pytest.mark.parametrize(
    ("task", "knobs", "num_replays"),
    [
        # 40 updates of actor and critics an iteration, at most 16 in a graph; 4 of the inference.
        ("point", {"meta.updates_per_env_step": 1.0}, (13, 13)),
        # 41 updates: four graphs of ten, and one update that remains.
        ("point", {"meta.updates_per_env_step": 41 / 40}, (13, 13)),
        ("point", {"meta.updates_per_env_step": 1.0, "meta.actor_every": 3}, (None, 13)),
        ("point", {"meta.updates_per_env_step": 1.0, "meta.relabelled": 0.0}, (13, 13)),
        # Gradient steps inside an episode are not captured; nor are updates too few for a turn.
        ("point", {"meta.num_inner_steps": 1, "meta.actor_every": 5}, (0, None)),
        ("halfcheetah-damping", {"meta.updates_per_env_step": 1.0}, (13, 13)),
    ],
)
def test_replayed_updates_are_those_one_after_another(
    task: str, knobs: dict[str, float], num_replays: tuple[int | None, int | None]
) -> None:
    config = small_context(task, **{"meta.inference_updates_per_meta_episode": 1.0} | knobs)
    graphs = CallsAgain()
    learner = trained(config, lambda device: graphs)
    assert_same(learner, trained(config))
    counted = [learner.captured[name].num_replays for name in learner.captured]
    for found, wanted in zip(counted, num_replays, strict=False):
        assert found == wanted or (wanted is None and found > 0)
    assert graphs.num_captures == sum(count > 0 for count in counted)
    assert ("inference" in learner.captured) is (config.meta.num_inner_steps == 0)


def test_a_learner_that_goes_on_captures_anew(tmp_path: Path) -> None:
    """Its moments are other tensors than those that were captured."""
    config = small_context(**{"meta.updates_per_env_step": 1.0})
    graphs = CallsAgain()
    learner, collect = trained(config, lambda device: graphs), LocalCollector(config, 1)
    num_captures = graphs.num_captures
    learner.save_experience(tmp_path)
    learner.load(learner.tensors(), learner.iteration, tmp_path)
    plain = trained(config)
    for each in (learner, plain, learner, plain):
        each.iterate(collect)
    assert_same(learner, plain)
    assert graphs.num_captures == 2 * num_captures


def test_what_cannot_be_captured_goes_on_with_one_line_each() -> None:
    config = small_context(
        **{"meta.updates_per_env_step": 1.0, "meta.inference_updates_per_meta_episode": 1.0}
    )
    graphs = CallsAgain("operation not permitted when stream is capturing\nand more lines")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        learner = trained(config, lambda device: graphs)
    said = [str(each.message) for each in caught]
    reason = "runs without it, more slowly: operation not permitted when stream is capturing"
    assert len(said) == 2
    assert all(each.endswith(reason) and "\n" not in each for each in said)
    assert "actor and critics" in " ".join(said)
    assert "inference model" in " ".join(said)
    assert all(each.num_replays == 0 for each in learner.captured.values())
    assert_same(learner, trained(config))


def test_a_cpu_has_no_graphs() -> None:
    assert graphs_of(CPU) is None
    assert ContextLearner(small_context()).captured == {}


@pytest.mark.parametrize("num_updates", [1, 7, 40, 199, 200, 202])
@pytest.mark.parametrize("actor_every", [1, 2, 3, 7, 30])
def test_a_graph_holds_whole_turns_of_the_actor(num_updates: int, actor_every: int) -> None:
    length = cycle_length(num_updates, actor_every, 16)
    assert length % actor_every == 0
    assert actor_every <= length <= max(16, actor_every)
    fitting = [n for n in range(actor_every, 17, actor_every) if num_updates % n == 0]
    assert not fitting or num_updates % length == 0 or max(fitting) < 5


# ------------------------------------------------------------------------------- what is captured


class NothingFromElsewhere(TorchDispatchMode):
    """Refuses numbers that come from the host: that waits, which no graph can hold."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        found = func(*args, **kwargs or {})
        values = [*args, *(found if isinstance(found, tuple | list) else [found])]
        for value in values:
            assert not isinstance(value, Tensor) or value.is_meta, f"{func} touches the host"
        return found


def refuse_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on; an optimiser's step is left out, for a plain one counts its steps there."""

    def refused(*args: Any, **kwargs: Any) -> Tensor:
        raise AssertionError("a tensor of the host's numbers")

    for name in ("tensor", "as_tensor", "from_numpy"):
        monkeypatch.setattr(torch, name, refused)
    monkeypatch.setattr(torch.optim.Adam, "step", lambda optimizer: None)


@pytest.mark.parametrize(
    "task", ["point", "ant-vel", "ant-dir-2d", "halfcheetah-dir", "halfcheetah-damping"]
)
def test_the_whole_update_reads_no_tensors_value(
    task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From indices and noise: taking from the replay, paying anew, both networks' steps."""
    config = small_context(task)
    learner = ContextLearner(config, device=META)
    size, num_other = config.meta.batch_size, config.meta.batch_size // 2
    if learner._family.reward is None:
        num_other = 0
    num_parameters = learner._family.train.sample_array(np.random.default_rng(0), 1).shape[1]
    before = learner.networks.actor.flat
    drawn = (
        torch.empty(4, size, dtype=torch.int64, device=META),
        torch.empty(4, num_other, num_parameters, device=META),
        torch.empty(4, num_other, learner.networks.code_dim, device=META),
        torch.empty(4, 2, size, learner.networks.action_dim, device=META),
    )
    losses = learner.actor_critic.updates(*drawn)
    assert losses is not None
    assert all(value.is_meta for value in losses)
    assert learner.networks.actor.flat is before, "moved in place"
    for optimizer in learner.optimizers().values():
        assert not optimizer.param_groups[0]["fused"], "a plain one"
    refuse_the_host(monkeypatch)
    with NothingFromElsewhere():
        learner.actor_critic.updates(*drawn)


@pytest.mark.parametrize("method", ["ssm", "gru", "transformer", "mlp"])
def test_the_inference_models_update_reads_no_tensors_value(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small_context(**{"policy.method": method, "env.horizon": 12})
    networks = ContextLearner(config, device=META).networks
    training = InferenceTraining(networks.inference, config, META)
    lanes = torch.empty(4, 12, networks.observation_dim + networks.action_dim + 2, device=META)
    code = torch.empty(4, networks.code_dim, device=META)
    found = training.plain_update(lanes, code)
    refuse_the_host(monkeypatch)
    with NothingFromElsewhere():
        training.plain_update(lanes, code)
    assert all(value.is_meta and not value.requires_grad for value in found)


# ------------------------------------------------------------------------------ a captured function


def counting() -> tuple[Captured, CallsAgain, Tensor]:
    """Adds its argument to a total, and gives the total."""
    total, graphs = torch.zeros(()), CallsAgain()

    def add(values: Tensor) -> tuple[Tensor]:
        total.add_(values.sum())
        return (total.clone(),)

    return Captured(add, graphs, "adding"), graphs, total


def test_every_call_counts_once_whether_rehearsed_captured_or_replayed() -> None:
    add, graphs, total = counting()
    for number in range(1, 8):
        (found,) = add(torch.full((2,), 0.5))
        assert float(found) == float(total) == number
        assert add.num_replays == max(0, number - NUM_REHEARSALS)
    assert add.num_calls == 7
    assert graphs.num_captures == 1


def test_arguments_of_another_shape_are_captured_anew() -> None:
    add, graphs, total = counting()
    for size in (2, 3):
        for _ in range(5):
            add(torch.ones(size))
    assert float(total) == 25.0
    assert graphs.num_captures == 2
    assert add.num_replays == 2 * (5 - NUM_REHEARSALS)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_replay_is_what_was_captured() -> None:
    device = torch.device("cuda")
    total = torch.zeros((), device=device)

    def add(values: Tensor) -> tuple[Tensor]:
        total.add_(values.sum())
        return (total.clone(),)

    captured = Captured(add, CudaGraphs(device), "adding")
    for number in range(1, 8):
        (found,) = captured(torch.full((2,), 0.5, device=device))
        assert float(found) == float(total) == number
    assert captured.num_replays == 7 - NUM_REHEARSALS
