"""MAML of the inference model: its losses, its gradient, and that a test has all it needs."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ssmrl.config import SequenceConfig, TrainConfig
from ssmrl.context.inference import TaskInference, inference_inputs
from ssmrl.context.inference_training import InferenceTraining, meta_problem
from ssmrl.context.prediction import adaptation_steps, prediction_loss, prediction_targets
from ssmrl.meta.maml import MetaMAML

M, T, O, A, Z = 3, 6, 2, 1, 2
SEEN = torch.tensor([0, 2, 4])
LAST = 4


def make_inference(method: str = "ssm", *, predicts: bool = True) -> TaskInference:
    config = SequenceConfig(method, state_dim=4, hidden_dim=4, num_heads=2, window=4)
    generator = torch.Generator().manual_seed(0)
    return TaskInference(config, O, A, Z, generator, predicts=predicts).double()


def make_lanes() -> tuple[Tensor, Tensor]:
    """Inputs and codes; the second lane's episode starts anew at its third step."""
    generator = torch.Generator().manual_seed(1)
    observation = torch.randn(M, T, O, generator=generator).double()
    action = torch.randn(M, T, A, generator=generator).double()
    reward = torch.randn(M, T, generator=generator).double()
    first = torch.zeros(M, T, dtype=torch.bool)
    first[:, 0] = first[1, 2] = True
    inputs = inference_inputs(observation, action, reward, first)
    return inputs, torch.randn(M, Z, generator=generator).double()


def small_config(**knobs: object) -> TrainConfig:
    small = {
        "env.horizon": 8,
        "policy.state_dim": 4,
        "policy.hidden_dim": 4,
        "meta.num_inner_steps": 1,
        "meta.num_lanes": 4,
        "meta.batch_size": 8,
    }
    named = {name.replace("__", "."): value for name, value in knobs.items()}
    return TrainConfig.for_task("point", "context-sac").with_knobs(small | named)


@pytest.mark.parametrize(("method", "num_steps"), [("ssm", 1), ("ssm", 2), ("mlp", 1), ("gru", 1)])
def test_meta_gradient_equals_finite_differences(method: str, num_steps: int) -> None:
    """Law 8, through the very arguments that the update passes; a direction for each parameter."""
    inference = make_inference(method)
    maml = MetaMAML(inference.model, inner_lr=0.3)
    problem = meta_problem(inference, *make_lanes(), SEEN, LAST)
    _, gradient = maml.meta_gradient(**problem, num_steps=num_steps)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in inference.model.named_parameters():
        direction = torch.randn(parameter.shape, generator=generator).double()
        kept, losses = parameter.data.clone(), []
        for sign in (1.0, -1.0):
            parameter.data.copy_(kept + sign * 1e-5 * direction)
            losses.append(float(maml.meta_loss(**problem, num_steps=num_steps).detach()))
        parameter.data.copy_(kept)
        slope = (losses[0] - losses[1]) / 2e-5
        got = float((gradient[name] * direction).sum())
        assert got == pytest.approx(slope, rel=1e-5, abs=1e-8), name


def test_the_first_order_gradient_is_another_one() -> None:
    gradients = []
    for first_order in (False, True):
        inference = make_inference()
        maml = MetaMAML(inference.model, inner_lr=0.3, first_order=first_order)
        gradients.append(maml.meta_gradient(**meta_problem(inference, *make_lanes(), SEEN, LAST)))
    (value, second), (same, first) = gradients
    assert value == same
    assert any(not torch.allclose(second[name], first[name], rtol=1e-3) for name in first)


def test_targets_are_what_came_of_each_step() -> None:
    # Two steps of one lane: observation 1 -> 4, 10 -> 30, reward 7 for the step between them.
    inputs = torch.tensor([[[1.0, 10.0, 0.0, 0.0, 1.0], [4.0, 30.0, 0.5, 7.0, 0.0]]])
    assert prediction_targets(inputs, 2).tolist() == [[[7.0, 3.0, 20.0, 1.0]]]
    inputs[0, 1, -1] = 1.0  # the observation there is that of another episode
    assert prediction_targets(inputs, 2).tolist() == [[[7.0, 3.0, 20.0, 0.0]]]


def test_prediction_loss_by_hand() -> None:
    # Of two steps the second ends an episode: its reward counts, its observation does not.
    target = torch.tensor([[[1.0, 2.0, 4.0, 1.0], [3.0, 9.0, 9.0, 0.0]]])
    output = torch.zeros(1, 2, 2 * Z + 3)
    # Rewards: (1 + 9) / 2; observations: (4 + 16) / 2 of the first step alone.
    assert float(prediction_loss(output, target)) == pytest.approx(5.0 + 10.0)
    only_first = torch.tensor([[True, False]])
    assert float(prediction_loss(output, target, only_first)) == pytest.approx(1.0 + 10.0)


def test_gradient_steps_know_no_hidden_variable() -> None:
    """Other codes, the same adapted weights; and no code is in their graph."""
    inference = make_inference()
    maml = MetaMAML(inference.model, inner_lr=0.3)
    inputs, code = make_lanes()
    code.requires_grad_()
    adapted = []
    for codes in (code, 5.0 - code):
        task = meta_problem(inference, inputs, codes, SEEN, LAST)["tasks"][2]
        adapted.append(maml.adapt_task(task[0], task[1], loss_fn=prediction_loss))
    assert all(torch.equal(adapted[0][name], adapted[1][name]) for name in adapted[0])
    total = torch.stack([value.sum() for value in adapted[0].values()]).sum()
    assert torch.autograd.grad(total, code, allow_unused=True) == (None,)
    # The rows of the output layer that make the estimate get no inner gradient either.
    head, moved = dict(inference.model.named_parameters())["head.weight"], adapted[0]["head.weight"]
    assert torch.equal(head[: 2 * Z], moved[: 2 * Z])
    assert not torch.equal(head[2 * Z :], moved[2 * Z :])


def test_the_query_sees_only_the_rest_by_the_adapted_weights() -> None:
    """The plain twin: each lane cut and adapted on its own."""
    inference = make_inference()
    maml = MetaMAML(inference.model, inner_lr=0.3)
    inputs, code = make_lanes()
    losses = []
    for lane, seen in enumerate(SEEN.tolist()):
        params = None
        if seen:
            known = inputs[lane : lane + 1, : seen + 1]
            targets = prediction_targets(known, O)
            params = maml.adapt_task(known[:, :-1], targets, loss_fn=prediction_loss)
        output, _ = maml.functional_forward(inputs[lane : lane + 1], None, params)
        mean, log_variance = inference.estimate(output[0, seen:])
        normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
        constant = 0.5 * Z * torch.log(torch.tensor(2.0 * torch.pi).double())
        losses.append(-normal.log_prob(code[lane]).sum(-1).mean() - constant)
    got = maml.meta_loss(**meta_problem(inference, inputs, code, SEEN, LAST))
    torch.testing.assert_close(got, torch.stack(losses).mean())


def test_without_gradient_steps_there_is_nothing_to_predict() -> None:
    """Not a weight more than before, and the same ones; what would adapt them is not read."""
    plain = make_inference(predicts=False)
    assert plain.model.output_dim == 2 * Z
    assert make_inference().model.output_dim == 2 * Z + 1 + O
    inputs, code = (value.float() for value in make_lanes())
    trained = []
    for inner in ({}, {"meta__inner_lr": 0.5, "meta__first_order": True}):
        config = small_config(meta__num_inner_steps=0, **inner)
        inference = copy.deepcopy(plain).float()
        training = InferenceTraining(inference, config)
        generator = torch.Generator().manual_seed(0)
        statistics = training.update(inputs, code, 3, generator)
        assert set(statistics) == {"inference_loss", "inference_error"}
        trained.append(torch.cat([p.detach().flatten() for p in inference.parameters()]))
    assert torch.equal(*trained)


@pytest.mark.parametrize("method", ["ssm", "mlp"])
def test_updates_lower_the_error_of_the_adapted_model(method: str) -> None:
    """The hidden variable is in the rewards alone, so both kinds of model can learn it."""
    config = small_config(meta__outer_lr=0.03, meta__inner_lr=0.05, meta__inference_batch=16)
    generator = torch.Generator().manual_seed(0)
    code = 2.0 * torch.rand(64, 1, generator=generator) - 1.0
    noise = torch.randn(64, 8, O + A, generator=generator)
    first = torch.zeros(64, 8, 1)
    reward = code.unsqueeze(1).expand(64, 8, 1) * (torch.arange(8) > 0).view(1, 8, 1)
    inputs = torch.cat([noise, reward, first], dim=-1)
    small = SequenceConfig(method, state_dim=4, hidden_dim=8)
    inference = TaskInference(small, O, A, 1, generator, predicts=True)
    training = InferenceTraining(inference, config)
    before = training.update(inputs, code, 1, generator)
    after = training.update(inputs, code, 90, generator)
    assert after["inference_loss"] < before["inference_loss"] - 0.5
    assert after["inference_error"] < 0.25  # who knows nothing is off by 0.5


@pytest.mark.parametrize(
    ("horizon", "num_episodes", "steps"),
    [(8, 1, (2, 4, 6)), (8, 2, (2, 4, 6, 8, 10, 12, 14)), (2, 1, (1,)), (1, 2, (1,))],
)
def test_it_adapts_after_each_quarter(
    horizon: int, num_episodes: int, steps: tuple[int, ...]
) -> None:
    config = small_config(env__horizon=horizon, meta__episodes_per_task=num_episodes)
    assert adaptation_steps(config) == steps


def test_a_meta_episode_of_one_step_is_refused() -> None:
    config = small_config(env__horizon=1)
    with pytest.raises(ValueError, match=r"`meta\.num_inner_steps` must be 0"):
        InferenceTraining(make_inference().float(), config)
    InferenceTraining(
        make_inference(predicts=False).float(),
        replace(config, meta=replace(config.meta, num_inner_steps=0)),
    )
