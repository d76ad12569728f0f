"""The benchmarks measure what they say: same work on both sides, honest rows, resumable curves."""

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss
from typer.testing import CliRunner

from cluster.session import session
from experiments.benchmarks import __main__ as runner
from experiments.benchmarks import learning
from experiments.benchmarks.curves import curve_text, read_curve
from experiments.benchmarks.floor import count_flops
from experiments.benchmarks.harness import (
    Row,
    Settings,
    interleaved_seconds,
    read_rows,
    table,
    write_rows,
)
from experiments.benchmarks.layers import BareLayer
from experiments.benchmarks.learning_run import LearningRun
from experiments.benchmarks.meta_update import INNER_LR, Update, check_equal
from experiments.benchmarks.peer_rollouts import dense_width
from experiments.benchmarks.raw_physics import (
    ANT,
    HALF_CHEETAH,
    HUMANOID,
    RawPhysics,
    RobotCase,
    generators,
)
from experiments.benchmarks.sequence_length import exponent
from experiments.benchmarks.shuffled_rewards import held_out_returns, shuffle_rewards
from experiments.plots import Bar, Curve, learning_curves, log_log_lines, ratio_bars
from ssmrl.config import TrainConfig
from ssmrl.meta.initial_actor import initial_actor
from ssmrl.meta.inner import stack_params
from ssmrl.models.recurrence import recurrence_by_steps
from ssmrl.rollout.adaptation import collect_once
from ssmrl.rollout.assignment import Assignment, train_assignment
from ssmrl.rollout.worker import RolloutWorker
from ssmrl.train import evaluate

COMMAND_LINE = CliRunner()


def small_config(seed: int = 0) -> TrainConfig:
    return TrainConfig.for_task("point", "promp").with_knobs(
        {
            "seed": seed,
            "policy.method": "mlp",
            "policy.hidden_dim": 8,
            "meta.num_tasks": 3,
            "meta.num_episodes": 4,
            "meta.outer_lr": 0.01,
            "evaluation.num_tasks": 3,
            "evaluation.num_episodes": 4,
        }
    )


class TestHarness:
    def test_contestants_take_turns_and_warm_ups_are_not_counted(self) -> None:
        played: list[str] = []
        seconds = interleaved_seconds(
            {"a": lambda: played.append("a"), "b": lambda: played.append("b")},
            2,
            prepare=lambda name: played.append(f"prepare {name}"),
        )
        assert played == ["prepare a", "a", "prepare b", "b"] * 3
        assert seconds.keys() == {"a", "b"}

    def test_the_median_of_the_timed_repeats_is_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = iter([0.0, 50.0, 100.0, 101.0, 200.0, 202.0, 300.0, 309.0])
        monkeypatch.setattr("time.perf_counter", lambda: next(clock))
        assert interleaved_seconds({"a": lambda: None}, 3) == {"a": 2.0}, "of 1, 2, 9; 50 was first"

    @pytest.mark.parametrize(
        ("value", "at_most", "met", "share"),
        [(2.0, False, True, 1.0), (1.0, False, False, 0.5), (4.0, True, False, 0.5)],
    )
    def test_a_target_is_met_from_its_own_side(
        self, value: float, at_most: bool, met: bool, share: float
    ) -> None:
        row = Row("what", value, target=2.0, at_most=at_most)
        assert (row.met, row.share) == (met, share)
        assert row.verdict in table([row])

    def test_what_is_not_a_number_meets_no_target(self) -> None:
        assert Row("what", float("nan"), target=1.0).met is False
        assert Row("what", float("nan"), target=1.0, at_most=True).met is False

    def test_rows_come_back_from_their_file(self, tmp_path: Path) -> None:
        rows = [
            Row("a, b", 0.5, target=2.0, note='with "quotes"'),
            Row("c", 3.0, "MiB", 2.0, at_most=True),
            Row("d", 1.25, "s"),
        ]
        write_rows(tmp_path / "new" / "rows.csv", rows)
        assert read_rows(tmp_path / "new" / "rows.csv") == rows


class TestRunner:
    def test_an_unknown_name_is_answered_with_the_known_ones(self) -> None:
        result = COMMAND_LINE.invoke(runner.app, ["--only", "steping"])
        assert result.exit_code == 2
        assert "stepping" in result.stderr

    def test_what_is_finished_is_kept_and_summed_up(self, tmp_path: Path) -> None:
        for name in runner.BENCHMARKS:
            write_rows(runner.csv_path(tmp_path, name), [Row(name, 1.0, target=2.0)])
        before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
        result = COMMAND_LINE.invoke(runner.app, ["--resume", "--output", str(tmp_path)])
        assert result.exit_code == 0, result.output
        assert f"0 of {len(runner.BENCHMARKS)} met" in result.output
        assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before

    def test_what_cannot_be_measured_fails_the_command_but_not_the_others(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run_apart(name: str, settings: Settings, folder: Path) -> bool:
            if name == "floor":
                return False
            write_rows(runner.csv_path(folder, name), [Row(name, 3.0, target=2.0)])
            return True

        monkeypatch.setattr(runner, "_run_apart", run_apart)
        result = COMMAND_LINE.invoke(runner.app, ["--output", str(tmp_path)])
        assert result.exit_code == 1
        num_others = len(runner.BENCHMARKS) - 1
        assert f"{num_others} of {num_others} met" in result.output
        assert "not measured, see above: floor" in result.stderr


class TestSameWork:
    @pytest.mark.parametrize("robot", [HALF_CHEETAH, ANT, HUMANOID], ids=lambda r: r.name)
    def test_raw_physics_and_batched_step_end_in_the_same_states(self, robot: RobotCase) -> None:
        env = robot.make_env(3, 1)
        raw = RawPhysics(robot.model, 3, 1)
        env.reset(np.ones(3, dtype=np.bool_), generators(3))
        raw.set_state(env.physics.position.copy(), env.physics.velocity.copy())
        controls = np.random.default_rng(0).uniform(-0.3, 0.3, (5, 3, env.action_dim))
        start = raw.position.copy()
        raw.play(controls)
        for control in controls:
            env.step(control * robot.action_per_control)
        np.testing.assert_allclose(env.physics.position, raw.position, rtol=0, atol=1e-9)
        assert np.abs(raw.position - start).max() > 1e-3

    def test_the_vmapped_update_is_the_looped_second_order_one(self) -> None:
        update = Update.drawn(num_steps=6, num_tasks=3)
        check_equal("a loop", update.ours(), looped_gradient(update, create_graph=True))

    def test_a_first_order_gradient_is_told_from_ours(self) -> None:
        update = Update.drawn(num_steps=6, num_tasks=3)
        with pytest.raises(ArithmeticError, match="not the same one"):
            check_equal("a loop", update.ours(), looped_gradient(update, create_graph=False))

    @pytest.mark.parametrize("peer", ["higher", "torchopt"])
    def test_the_peers_do_the_same_update(self, peer: str) -> None:
        """In a process of its own: the type checks of the tests refuse what ``higher`` makes."""
        pytest.importorskip(peer)
        program = (
            "from experiments.benchmarks.meta_update import Update, check_equal\n"
            "update = Update.drawn(num_steps=6, num_tasks=3)\n"
            f"check_equal('{peer}', update.ours(), update.with_{peer}())"
        )
        subprocess.run([sys.executable, "-c", program], check=True)

    def test_the_layer_of_the_comparison_is_a_recurrence(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        torch.manual_seed(0)
        layer, x = BareLayer(8), torch.randn(2, 7, 8)
        expected = layer(x)
        monkeypatch.setattr("experiments.benchmarks.layers.recurrence", recurrence_by_steps)
        torch.testing.assert_close(layer(x), expected)
        assert not torch.allclose(layer(x.flip(1)).flip(1), expected), "it has a memory"

    def test_counted_operations_are_proportional_to_the_work(self) -> None:
        once = count_flops(Update.drawn(num_steps=4, num_tasks=2))
        assert count_flops(Update.drawn(num_steps=8, num_tasks=2)) == 2 * once
        assert count_flops(Update.drawn(num_steps=4, num_tasks=4)) == 2 * once

    def test_a_slope_is_found_through_a_constant_factor(self) -> None:
        assert exponent({2**k: 7.0 * 2 ** (1.5 * k) for k in range(8, 12)}) == pytest.approx(1.5)

    def test_a_dense_peer_has_as_many_parameters(self) -> None:
        width = dense_width(52_722, 17, 12)
        layers = [torch.nn.Linear(*dims) for dims in ((17, width), (width, width), (width, 12))]
        count = sum(value.numel() for layer in layers for value in layer.parameters())
        assert count == pytest.approx(52_722, rel=0.01)


def looped_gradient(update: Update, *, create_graph: bool) -> dict[str, torch.Tensor]:
    """One task after the other, with autograd and nothing else."""
    params = {name: v.detach().requires_grad_() for name, v in update.model.named_parameters()}
    hidden = update.model.init_hidden(update.support_x.shape[1])

    def loss(values: dict[str, torch.Tensor], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return mse_loss(torch.func.functional_call(update.model, values, (x, hidden))[0], y)

    total = torch.zeros(())
    for support_x, support_y, query_x, query_y in update._tasks():
        gradient = torch.autograd.grad(
            loss(params, support_x, support_y), list(params.values()), create_graph=create_graph
        )
        adapted = {
            name: value - INNER_LR * step
            for (name, value), step in zip(params.items(), gradient, strict=True)
        }
        total = total + loss(adapted, query_x, query_y) / len(update.support_x)
    return dict(zip(params, torch.autograd.grad(total, list(params.values())), strict=True))


class TestShuffledRewards:
    def test_each_tasks_rewards_are_permuted_and_nothing_else_changes(self) -> None:
        config = small_config()
        assignment = train_assignment(config, 0)
        actor = initial_actor(config)
        params = {name: value.detach() for name, value in actor.named_parameters()}
        support = collect_once(
            RolloutWorker(config.env),
            actor,
            stack_params(params, 3),
            assignment,
            config.meta,
            config.meta.num_episodes,
        )
        shuffled = shuffle_rewards(support, assignment.streams)
        before, after = support.reward.flatten(1), shuffled.reward.flatten(1)
        torch.testing.assert_close(before.sort(1).values, after.sort(1).values, rtol=0, atol=0)
        assert (before != after).float().mean() > 0.9
        assert all(
            getattr(shuffled, name) is getattr(support, name)
            for name in support._fields
            if name != "reward"
        )
        alone = Assignment(assignment.tasks[1:2], assignment.streams[1:2])
        one = shuffle_rewards(type(support)(*(leaf[1:2] for leaf in support)), alone.streams)
        torch.testing.assert_close(one.reward, shuffled.reward[1:2], rtol=0, atol=0)

    def test_true_rewards_give_the_returns_of_the_evaluation(self) -> None:
        """The control's other two columns are what ``evaluate`` reports."""
        config = small_config()
        actor = initial_actor(config)
        returns = held_out_returns(config, actor, RolloutWorker(config.env), 1)
        before, after = evaluate(config, actor, num_steps=1, draw=1).mean_returns().values()
        assert returns["held_out_before"] == pytest.approx(before)
        assert returns["held_out_after"] == pytest.approx(after)
        assert returns["held_out_shuffled"] != pytest.approx(after, abs=1e-3)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from more, and wait long for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def ray_session() -> Iterator[int]:
    with session(num_cpus=1) as num_cpus:
        yield num_cpus


def run_in(folder: Path, *, shuffled_rewards: bool = False) -> LearningRun:
    run = LearningRun(
        small_config(),
        curve=folder / "curve.csv",
        checkpoints=folder / "checkpoints",
        shuffled_rewards=shuffled_rewards,
        num_threads=1,
    )
    run.restore()
    return run


def advance(run: LearningRun, num_iterations: int) -> None:
    with run.started():
        for _ in range(num_iterations):
            run.advance(env_steps=10**9)


def without_seconds(path: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in row.items() if name != "seconds"}
        for row in read_curve(path)
    ]


class TestLearning:
    @pytest.mark.parametrize("shuffled", [False, True], ids=["true-rewards", "shuffled-rewards"])
    def test_a_killed_run_goes_on_as_if_nothing_had_happened(
        self,
        shuffled: bool,
        tmp_path: Path,
        ray_session: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Its checkpoint is an iteration behind its curve when it dies."""
        monkeypatch.setattr("experiments.benchmarks.learning_run.EVALUATE_EVERY", 3)
        straight, killed = tmp_path / "straight", tmp_path / "killed"
        advance(run_in(straight, shuffled_rewards=shuffled), 3)
        advance(run_in(killed, shuffled_rewards=shuffled), 2)
        resumed = run_in(killed, shuffled_rewards=shuffled)
        assert len(resumed.rows) == 1, "the first iteration is saved at once, then the clock counts"
        advance(resumed, 2)
        expected = without_seconds(straight / "curve.csv")
        assert ["held_out_shuffled" in row for row in expected] == [False, False, True]
        assert without_seconds(killed / "curve.csv") == expected

    def test_a_run_is_not_trained_by_two_at_once(self, tmp_path: Path, ray_session: int) -> None:
        with run_in(tmp_path).started(), pytest.raises(BlockingIOError), run_in(tmp_path).started():
            pass

    def test_a_curve_without_its_checkpoint_is_not_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "curve.csv").write_text(curve_text([]))
        with pytest.raises(FileExistsError, match="move the curve away"):
            run_in(tmp_path)

    def test_a_curve_is_named_by_everything_but_its_seed(self) -> None:
        def label(config: TrainConfig, shuffled_rewards: bool = False, named: bool = True) -> str:
            return learning.curve_label(
                config, preset=None, named=named, shuffled_rewards=shuffled_rewards
            )

        config = small_config()
        wider = config.with_knobs({"policy.hidden_dim": 16})
        faster = config.with_knobs({"meta.inner_lr": 0.2})
        names = [label(config), label(wider), label(config, shuffled_rewards=True)]
        names += [label(config, named=False), label(faster, named=False)]
        assert len(set(names)) == len(names)
        assert label(faster, named=False) == label(dataclasses.replace(faster, seed=5), named=False)

    def test_sizes_are_given_once(self) -> None:
        flags = ["--task", "point", "--preset", "matched", "--hidden-dim", "8"]
        result = COMMAND_LINE.invoke(learning.app, flags)
        assert result.exit_code == 2
        assert "`--preset` gives the sizes" in result.stderr

    def test_a_knob_reaches_the_configuration(self) -> None:
        knobs = dict(learning._parsed(text) for text in ("meta.inner_lr=0.2", "meta.num_tasks=7"))
        config = learning.configured("point", "ssm", {}, preset=None, knobs=knobs, seed=3)
        assert (config.meta.inner_lr, config.meta.num_tasks, config.seed) == (0.2, 7, 3)
        with pytest.raises(KeyError, match="known: "):
            learning._parsed("meta.inner=0.2")


class TestFigures:
    def test_every_figure_is_a_png_below_200_kb(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        steps = list(range(500))
        bars = [Bar(f"a rather long name, number {i}", i, ">= 5", i / 5, i >= 5) for i in range(10)]
        curves = [
            Curve(f"c{i}, after", steps, rng.normal(size=(3, 500)).tolist()) for i in range(5)
        ]
        lines = [Curve("line", [1.0, 10.0], [[2.0, 30.0]])]
        paths = [
            ratio_bars(tmp_path / "bars.png", bars, title="bars"),
            learning_curves(tmp_path / "c.png", curves, title="c", bound=0.0, y_label="return"),
            log_log_lines(tmp_path / "l.png", lines, title="l", x_label="x", y_label="y"),
        ]
        for path in paths:
            assert path.read_bytes().startswith(b"\x89PNG")
            assert path.stat().st_size < 200_000

    def test_the_curves_of_a_task_are_found_by_its_whole_name(self, tmp_path: Path) -> None:
        rows = [{"env_steps": 1.0, "return_before": 0.0, "return_after": 1.0, "seconds": 1.0}]
        (tmp_path / "learning-ant-dir-2d-mlp-64-seed0.csv").write_text(curve_text(rows))
        flags = ["--plot", "--output", str(tmp_path), "--task"]
        result = COMMAND_LINE.invoke(learning.app, [*flags, "ant-dir"])
        assert result.exit_code == 2
        assert "there is no curve of ant-dir" in result.stderr
        (tmp_path / "learning-point-mlp-64-seed0.csv").write_text(curve_text(rows))
        assert COMMAND_LINE.invoke(learning.app, [*flags, "point"]).exit_code == 0
        assert (tmp_path / "learning-point.png").is_file()
