"""The MAML update against its floor: its matrix products at the rate this machine reaches."""

from collections.abc import Callable
from functools import partial

import torch
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks.harness import Measured, Row, Settings, interleaved_seconds
from experiments.benchmarks.meta_update import NUM_SEQUENCES, OBSERVATION_DIM, WIDTH, Update

MAX_MULTIPLE = 3.0


def measure(settings: Settings) -> Measured:
    """The time of the update relative to its floor.

    Only matrix products are counted, each as two operations per multiply-add, by torch's own
    counter on the very update that is timed. The recurrence, the nonlinearities and all other
    element-wise work are left out: the floor is too low, so the multiple is never too small.
    """
    update = Update.drawn(20, 4) if settings.quick else Update.drawn()
    flops = count_flops(update)
    products = _products(update)
    seconds = interleaved_seconds(
        {"update": update.ours, **{name: play for name, (play, _) in products.items()}},
        settings.repeats,
    )
    rates = {name: size / seconds[name] for name, (_, size) in products.items()}
    best = max(rates, key=lambda name: rates[name])
    floor = flops / rates[best]
    return Measured(
        [
            Row(
                "MAML update / its matrix products at the measured rate",
                seconds["update"] / floor,
                target=MAX_MULTIPLE,
                at_most=True,
                note=f"{seconds['update']:.3f} s; {flops / 1e9:.2f} GFLOP at "
                f"{rates[best] / 1e9:.1f} GFLOP/s ({best}) take {floor:.3f} s",
            ),
            *(Row(f"matrix product {name}", rate / 1e9, "GFLOP/s") for name, rate in rates.items()),
        ]
    )


def count_flops(update: Update) -> int:
    """Floating-point operations of the update's matrix products."""
    with FlopCounterMode(display=False) as counter:
        update.ours()
    return int(counter.get_total_flops())


def _products(update: Update) -> dict[str, tuple[Callable[[], object], int]]:
    """Products of the update's own sizes: of one layer for all tasks, batched and flat."""
    num_tasks, _, num_steps = update.support_x.shape[:3]
    rows = NUM_SEQUENCES * num_steps
    products: dict[str, tuple[Callable[[], object], int]] = {}
    for inner in (OBSERVATION_DIM, WIDTH):
        for shape in ((num_tasks, rows), (num_tasks * rows,)):
            left = torch.randn(*shape, inner)
            right = torch.randn(*shape[:-1], inner, WIDTH)
            name = f"{'x'.join(map(str, shape))}x{inner} @ {inner}x{WIDTH}"
            products[name] = (
                partial(torch.matmul, left, right),
                2 * num_tasks * rows * inner * WIDTH,
            )
    return products
