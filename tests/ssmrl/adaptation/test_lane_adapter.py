"""Many lanes at once against one adapter after the other."""

import pytest
import torch
from torch import Tensor

from ssmrl.adaptation.adapter import AdaptationConfig, Adapter
from ssmrl.adaptation.lane_adapter import LaneAdapter
from ssmrl.models.ssm import SSM

M, T = 4, 6


def make_model() -> SSM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SSM(4, 3, 2, hidden_dim=5).double()


def make_lanes() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(M, T, 3, generator=generator).double()
    scale = torch.tensor([0.1, 1.0, 3.0, 9.0]).double()[:, None, None]
    return x, scale * torch.randn(M, T, 2, generator=generator).double()


@pytest.mark.parametrize(
    "config",
    [
        AdaptationConfig(0.1, 2),
        AdaptationConfig(1.0, 1),  # too large for some lanes, whose steps are taken back
        AdaptationConfig(0.1, 2, grad_clip_norm=0.5),
        AdaptationConfig(0.1, 2, trust_region=0.1),
        AdaptationConfig(num_steps=0),
    ],
    ids=["plain", "far", "clipped", "trusted", "none"],
)
def test_each_lane_is_an_adapter_of_its_own(config: AdaptationConfig) -> None:
    model, (x, y) = make_model(), make_lanes()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    params, report = LaneAdapter(model, config).adapt(x, y)
    for lane in range(M):
        alone = Adapter(model, config)
        alone.update_step(x[lane : lane + 1], y[lane : lane + 1])
        for name, value in alone.params().items():
            torch.testing.assert_close(params[name][lane], value, rtol=1e-10, atol=1e-12)
        assert alone.last_report is not None
        got = [float(value[lane]) for value in report]
        assert got == pytest.approx([float(value) for value in alone.last_report], rel=1e-9)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_only_the_lanes_whose_loss_rose_are_taken_back() -> None:
    model, (x, y) = make_model(), make_lanes()
    params, report = LaneAdapter(model, AdaptationConfig(1.0, 1)).adapt(x, y)
    assert report.rolled_back.any()
    assert not report.rolled_back.all()
    for name, start in model.named_parameters():
        unchanged = torch.tensor([torch.equal(lane, start) for lane in params[name]])
        assert torch.equal(unchanged, report.rolled_back), name
    assert (report.distance == 0.0).equal(report.rolled_back)
    rose = ~(report.loss_after <= report.loss_before)
    assert torch.equal(rose, report.rolled_back)


def test_a_broken_lane_keeps_its_weights_and_spares_the_others() -> None:
    model, (x, y) = make_model(), make_lanes()
    adapter = LaneAdapter(model, AdaptationConfig(0.1, 1))
    whole, _ = adapter.adapt(x, y)
    for value in (float("nan"), float("inf")):
        y[1, 2] = value
        params, report = adapter.adapt(x, y)
        assert report.rolled_back.tolist() == [False, True, False, False]
        for name, start in model.named_parameters():
            assert torch.equal(params[name][1], start)
            assert torch.equal(params[name][[0, 2, 3]], whole[name][[0, 2, 3]])


def test_an_average_is_refused() -> None:
    with pytest.raises(ValueError, match="use `Adapter`"):
        LaneAdapter(make_model(), AdaptationConfig(ema_decay=0.5))
