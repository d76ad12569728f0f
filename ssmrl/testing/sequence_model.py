"""Contract of sequence models: rules that custom ones and this project's must pass."""

import torch
from torch import Tensor

from ssmrl.config import SequenceConfig
from ssmrl.meta.inner import inner_adapt
from ssmrl.models.own_model import OwnModel
from ssmrl.models.policy import SequencePolicy, reset_hidden
from ssmrl.testing.sequences import (
    INPUT_DIM,
    NUM_SEQUENCES,
    NUM_STEPS,
    OUTPUT_DIM,
    Sequences,
    check_same,
    loop,
    random_model,
    random_sequences,
)
from ssmrl.types import Params

_SEEDS = (0, 1, 2)


class SequenceModelContract:
    """The rules for a sequence model; pytest collects them from a subclass with its settings.

    They run in float64, where equal and nearly equal results can be told apart.

    Attributes:
        config: The settings ``policy.*``; small sizes are enough. Its ``method`` is a short name or
            the import path of the model.

    Example:
        >>> class TestMine(SequenceModelContract):
        ...     config = SequenceConfig("gru", state_dim=6, hidden_dim=5)
        >>> TestMine().test_the_memory_starts_as_zeros_with_the_batch_on_axis_0()
    """

    config: SequenceConfig

    def test_the_memory_starts_as_zeros_with_the_batch_on_axis_0(self) -> None:
        """Workers unflatten axis 0 into tasks and episodes; an episode's start writes zeros."""
        model = random_model(self.config)
        for batch_size in (1, 5):
            hidden = model.init_hidden(batch_size)
            # A custom model is checked itself, in addition to its wrapper.
            own: Tensor = (model.encoder if isinstance(model, OwnModel) else model).init_hidden(  # type: ignore[operator]
                batch_size
            )
            for memory in (hidden, own):
                assert memory.shape == (batch_size, model.state_dim), (
                    f"`init_hidden({batch_size})` must be ({batch_size}, {model.state_dim}), the "
                    f"batch on axis 0, but is {tuple(memory.shape)}"
                )
                assert not memory.any(), "the memory must start as zeros, but has other numbers"
            assert hidden.dtype == torch.float64, (
                f"the memory must be of the weights' type, float64, but is {hidden.dtype}"
            )

    def test_outputs_and_memory_have_their_widths(self) -> None:
        """Checks a step and a scan, and the features of a custom model."""
        model = random_model(self.config)
        if isinstance(model, OwnModel):
            x = torch.ones(NUM_SEQUENCES, INPUT_DIM).double()
            features, _ = model.encoder.step(x, model.init_hidden(NUM_SEQUENCES))  # type: ignore[operator]
            wanted = (NUM_SEQUENCES, self.config.hidden_dim)
            assert features.shape == wanted, (
                f"features must be (B, policy.hidden_dim), {wanted}, but are "
                f"{tuple(features.shape)}"
            )
        x, hidden, first = random_sequences(model, seed=0)
        stepped, scanned = model.step(x[:, 0], hidden), model.scan(x, hidden, first)
        for name, (output, memory), steps in (
            ("step", stepped, ()),
            ("scan", scanned, (NUM_STEPS,)),
        ):
            shape = (NUM_SEQUENCES, *steps, OUTPUT_DIM)
            assert output.shape == shape, (
                f"the output of `{name}` must be {shape}, but is {tuple(output.shape)}"
            )
            assert memory.shape == hidden.shape, (
                f"the memory after `{name}` must be {tuple(hidden.shape)} as before, but is "
                f"{tuple(memory.shape)}"
            )

    def test_scan_equals_the_loop_of_reset_and_step(self) -> None:
        """The policy acts by steps and learns by scans: any difference makes the gradient wrong."""
        for seed in _SEEDS:
            model = random_model(self.config, seed)
            sequences = random_sequences(model, seed)
            check_same(
                "`scan` must equal the loop of reset and `step`",
                model.scan(*sequences),
                loop(model, sequences),
            )

    def test_scan_and_loop_have_the_same_gradient(self) -> None:
        """Checks every parameter; none may be without effect."""
        model = random_model(self.config)
        sequences = random_sequences(model, seed=1)
        parameters = dict(model.named_parameters())
        by_scan, by_loop = (
            torch.autograd.grad(output.square().sum(), list(parameters.values()), allow_unused=True)
            for output, _ in (model.scan(*sequences), loop(model, sequences))
        )
        for name, ours, theirs in zip(parameters, by_scan, by_loop, strict=True):
            assert (ours is None) == (theirs is None), (
                f"`scan` and the loop must use the same parameters, but one leaves out {name!r}"
            )
            assert ours is not None, f"every parameter must have an effect, but {name!r} has none"
            check_same(
                f"`scan` and the loop must have the same gradient of {name!r}", (ours,), (theirs,)
            )

    def test_a_step_writes_nothing_in_place(self) -> None:
        """Autograd needs unchanged inputs and hidden states for the backward pass."""
        model = random_model(self.config)
        sequences = random_sequences(model, seed=2)
        kept = [part.clone() for part in sequences]
        x, hidden, first = sequences
        model.step(x[:, 0], hidden)
        model.scan(x, hidden, first)
        for name, before, after in zip(Sequences._fields, kept, sequences, strict=True):
            assert torch.equal(before, after), (
                f"nothing may be written in place, but a step or a scan changed its `{name}`"
            )

    def test_a_stepper_makes_the_same_steps_and_keeps_no_graph(self) -> None:
        """Acting needs the same outputs, but no gradients."""
        model = random_model(self.config)
        x, hidden, _ = random_sequences(model, seed=2)
        step, known = model.stepper(), hidden
        for t in range(x.shape[1]):
            output, known = step(x[:, t], known)
            wanted, hidden = model.step(x[:, t], hidden)
            assert torch.equal(output, wanted), "`stepper` must give what `step` gives"
            assert torch.equal(known, hidden), "`stepper` must return the hidden state of `step`"
            assert not output.requires_grad, "`stepper` must keep no graph"

    def test_a_scan_may_be_cut_anywhere(self) -> None:
        """The cuts of a long lane must not matter; the hidden state carries everything over."""
        model = random_model(self.config)
        x, hidden, first = random_sequences(model, seed=3)
        whole = model.scan(x, hidden, first)
        for cut in range(1, NUM_STEPS):
            head, between = model.scan(x[:, :cut], hidden, first[:, :cut])
            tail, last = model.scan(x[:, cut:], between, first[:, cut:])
            check_same(
                f"a scan must be that of its parts, cut after {cut} steps",
                (torch.cat([head, tail], dim=1), last),
                whole,
            )

    def test_after_a_reset_nothing_is_left_of_what_came_before(self) -> None:
        """Two episodes in one lane must not leak into each other."""
        model = random_model(self.config)
        x, hidden, first = random_sequences(model, seed=4)
        for at in range(NUM_STEPS):
            starts = first.clone()
            starts[:, at] = True
            output, last = model.scan(x, hidden, starts)
            check_same(
                f"an episode that starts at step {at} must not depend on the one before",
                (output[:, at:], last),
                model.scan(x[:, at:], model.init_hidden(len(x)), starts[:, at:]),
            )

    def test_permuting_the_batch_permutes_the_result(self) -> None:
        """No sequence sees another one of its batch."""
        model = random_model(self.config)
        x, hidden, first = random_sequences(model, seed=5)
        output, last = model.scan(x, hidden, first)
        stepped, remembered = model.step(x[:, 0], hidden)
        rule = "a sequence must not depend on the others of its batch or on their order"
        for order in ([3, 2, 1, 0], [1, 3, 0, 2], [2]):
            scanned = model.scan(x[order], hidden[order], first[order])
            check_same(rule, scanned, (output[order], last[order]))
            one_step = model.step(x[order, 0], hidden[order])
            check_same(rule, one_step, (stepped[order], remembered[order]))

    def test_tasks_under_vmap_are_those_of_the_loop_in_any_order(self) -> None:
        """Each task has its own parameters and does not depend on the others."""
        model = random_model(self.config)
        tasks = [
            (_parameters(random_model(self.config, n)), random_sequences(model, n))
            for n in range(3)
        ]

        def scan(params: Params, x: Tensor, hidden: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
            output, last = torch.func.functional_call(model, params, (x, hidden, first))
            return output, last

        for order in ([0, 1, 2], [2, 0, 1]):
            stacked = {key: torch.stack([tasks[n][0][key] for n in order]) for key in tasks[0][0]}
            together = Sequences(*(torch.stack([tasks[n][1][i] for n in order]) for i in range(3)))
            outputs, lasts = torch.func.vmap(scan)(stacked, *together)
            for place, n in enumerate(order):
                check_same(
                    "a task under `torch.func.vmap` must give what it gives alone",
                    (outputs[place], lasts[place]),
                    scan(tasks[n][0], *tasks[n][1]),
                )

    def test_under_vmap_the_gradient_through_inner_steps_is_that_of_the_loop(self) -> None:
        """Some kernels have a second derivative that is silently wrong under vmap only."""
        model = random_model(self.config)
        tasks = [random_sequences(model, seed=n, batch_size=2, num_steps=6) for n in range(2)]

        def adapted_loss(params: Params, sequences: Sequences) -> Tensor:
            def loss(params: Params) -> Tensor:
                output: Tensor = torch.func.functional_call(model, params, tuple(sequences))[0]
                return output.sin().square().mean()

            return loss(inner_adapt(loss, params, lr=0.3, num_steps=2))

        def vmapped(params: Params) -> Tensor:
            per_task = torch.func.vmap(adapted_loss, in_dims=(None, 0))
            loss: Tensor = per_task(params, together).sum()
            return loss

        def looped(params: Params) -> Tensor:
            return torch.stack([adapted_loss(params, task) for task in tasks]).sum()

        params = _parameters(model)
        together = Sequences(*(torch.stack(parts) for parts in zip(*tasks, strict=True)))
        got, wanted = torch.func.grad(vmapped)(params), torch.func.grad(looped)(params)
        for key, value in got.items():
            check_same(
                f"the second-order gradient of {key!r} under vmap must be that of a loop",
                (value,),
                (wanted[key],),
            )

    def test_what_a_memory_carries_shows_in_later_outputs(self) -> None:
        """An input of the first step reaches the last output if and only if there is a memory."""
        model = random_model(self.config)
        x = random_sequences(model, seed=4, num_steps=5).x
        other = torch.cat([x[:, :1] + 1.0, x[:, 1:]], dim=1)
        with torch.no_grad():
            change = float((model(other)[0][:, -1] - model(x)[0][:, -1]).abs().amax())
        if model.state_dim:
            assert change > 0.0, (
                f"a memory of {model.state_dim} numbers must carry something, but an input of the "
                "first step does not show in the fifth output; a model without one must have S = 0"
            )
        else:
            assert change < 1e-12, (
                "a model without memory must forget, but an input of the first step shows in the "
                "fifth output; keep all state in the hidden state"
            )

    def test_the_encoder_is_all_but_the_head(self) -> None:
        """New weights in the head alone change the output, but not the memory."""
        model = random_model(self.config)
        sequences = random_sequences(model, seed=5)
        output, last = model.scan(*sequences)
        with torch.no_grad():
            model.head.weight.add_(1.0)
        other, same = model.scan(*sequences)
        assert torch.equal(same, last), "the memory must not depend on the head, but does"
        assert (other != output).any(), "the output must be made by the head, but is not"

    def test_reset_empties_exactly_the_sequences_that_start(self) -> None:
        """The others keep their memory exactly."""
        hidden = random_sequences(random_model(self.config), seed=2).hidden
        kept = reset_hidden(hidden, torch.tensor([True, False, True, False]))
        assert not kept[0::2].any(), "the memory of a sequence that starts must be zeros"
        assert torch.equal(kept[1::2], hidden[1::2]), "the memory of the others must stay"

    def test_forward_steps_on_2d_and_scans_on_3d(self) -> None:
        """Without a hidden state it starts empty; without ``first`` it never resets."""
        model: SequencePolicy = random_model(self.config)
        x, hidden, first = random_sequences(model, seed=3)
        never = torch.zeros_like(first)
        forgotten = reset_hidden(hidden, first[:, 0])
        for got, wanted in (
            (model(x, hidden, first), model.scan(x, hidden, first)),
            (model(x), model.scan(x, model.init_hidden(len(x)), never)),
            (model(x[:, 0], hidden), model.step(x[:, 0], hidden)),
            (model(x[:, 0], hidden, first[:, 0]), model.step(x[:, 0], forgotten)),
        ):
            check_same("`forward` must be `step` on (B, I) and `scan` on (B, T, I)", got, wanted)
        assert model.input_dim == INPUT_DIM, (
            f"`input_dim` must be {INPUT_DIM}, but is {model.input_dim}"
        )


def _parameters(model: SequencePolicy) -> Params:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}
