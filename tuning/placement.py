"""Where the trials of a sweep learn, and how they share GPUs; this changes no trial."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tuning.experience_memory import available_bytes, replay_need
from tuning.plan import SweepPlan

_SHARES = 10_000  # Ray counts GPUs in ten-thousandths
_LEFT_TO_TRAINING = 0.8  # share of a GPU's memory; CUDA itself and the computation take the rest


class GpuError(ValueError):
    """The trials cannot have the GPUs that they request; the message says why."""


@dataclass(frozen=True)
class Placement:
    """Where trials learn.

    Attributes:
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        gpus: Numbers of the visible GPUs that a private Ray uses for the trials; None if a
            cluster's GPUs are used.
        gpus_per_trial: GPUs of each learning process of a trial, a share or a whole number; None if
            not yet decided, 0 on CPUs.
    """

    device: str = "cpu"
    gpus: tuple[int, ...] | None = ()
    gpus_per_trial: float | None = 0.0

    @property
    def on_gpu(self) -> bool:
        """Whether trials learn on GPUs."""
        return self.device != "cpu"

    @property
    def share(self) -> float:
        """``gpus_per_trial`` once it is decided."""
        assert self.gpus_per_trial is not None, "a cluster must be joined first"
        return self.gpus_per_trial

    @property
    def device_of_trial(self) -> str:
        """The device in a trial's process: the CPU, or the first GPU that Ray lets it see."""
        return "cuda" if self.on_gpu else "cpu"

    def device_of_process(self, number: int) -> str:
        """The device of one of several processes that share the GPUs of this machine evenly.

        Args:
            number: Number of the process, from 0.
        """
        return f"cuda:{self.gpus[number % len(self.gpus)]}" if self.gpus else self.device

    def joined(self, plan: SweepPlan, num_gpus: int, most_gpus: int) -> "Placement":
        """This placement on a joined cluster, with each trial's GPUs decided.

        Args:
            plan: Plan of the sweep.
            num_gpus: Number of GPUs that the cluster has now.
            most_gpus: Number of GPUs that it can grow to.

        Raises:
            GpuError: If it has too few for a trial, and cannot grow to enough.
        """
        if not self.on_gpu:
            return self
        if most_gpus < 1:
            raise GpuError(
                f"`--device` is {self.device!r}, but the cluster has no GPU, and no kind of node "
                "with one; add such nodes (docs/cluster.md), or use cpu"
            )
        share = self.gpus_per_trial
        if share is None:
            num_learners = plan.max_concurrent * learners_of_trial(plan)
            share = even_share(num_learners, num_gpus or most_gpus)
        if share * learners_of_trial(plan) > most_gpus:
            raise GpuError(
                f"a trial needs {share * learners_of_trial(plan):g} GPUs, but the cluster has at "
                f"most {most_gpus}; lower `--gpus-per-trial` or `--num-learners`"
            )
        return replace(self, gpus_per_trial=share)

    def flags(self) -> list[str]:
        """The command-line flags that make this placement."""
        if not self.on_gpu:
            return []
        shares = [] if self.gpus_per_trial is None else [f"{self.gpus_per_trial:g}"]
        return ["--device", self.device, *(w for s in shares for w in ("--gpus-per-trial", s))]

    def lines(self, plan: SweepPlan) -> list[str]:
        """The lines about it that are printed before the start."""
        if not self.on_gpu:
            return []
        if self.gpus is None:
            share = "an even share" if self.gpus_per_trial is None else f"{self.gpus_per_trial:g}"
            at_once = f"{plan.max_concurrent} trials at once"
            return [f"  on the cluster's GPUs: {at_once}, {share} of a GPU each"]
        most = -(-plan.max_concurrent // len(self.gpus))
        kind = "GPU" if len(self.gpus) == 1 else "GPUs"
        num_cpus = plan.cpus_per_trial()
        return [
            f"  on {len(self.gpus)} {kind} of this machine ({self.device}): {self.share:g} of a "
            f"GPU and {num_cpus:g} {'CPU' if num_cpus == 1 else 'CPUs'} a trial, at most {most} at "
            "once on one GPU"
        ]


def placed(
    plan: SweepPlan,
    *,
    device: str,
    gpus_per_trial: float | None,
    max_concurrent: int | None,
    num_cpus: int | None,
) -> tuple[SweepPlan, Placement]:
    """The plan with the number of concurrent trials, and the devices on which they learn.

    Args:
        plan: Plan of the sweep.
        device: ``cpu``, ``cuda``, which means all GPUs, or ``cuda:N``.
        gpus_per_trial: A share of a GPU, or a whole number of them; None divides the GPUs evenly
            among the concurrent trials.
        max_concurrent: Number of concurrent trials; None takes as many as fit CPUs and GPUs.
        num_cpus: CPUs of this machine; None for a cluster.

    Raises:
        TooFewCpusError: If the requested trials need more CPUs.
        GpuError: If they need more GPUs, or more GPU memory.
        ValueError: If there is no such device, or the share is not valid.
    """
    from ssmrl.device import check_device_name, checked_device, visible_gpus  # torch

    if num_cpus is None:
        check_device_name(device)
        if device.startswith("cuda:"):
            raise ValueError(
                "`--device` must be cpu or cuda on a cluster, since Ray places the trials, but "
                f"got {device!r}; use cuda"
            )
    else:
        device = str(checked_device(device))
    _check_share(device, gpus_per_trial)
    if device == "cpu":
        sized = plan.sized(max_concurrent, num_cpus)
        if num_cpus is not None:
            sized.check_replays(available_bytes())
        return sized, Placement()
    if num_cpus is None:
        return plan.sized(max_concurrent, None), Placement(device, None, gpus_per_trial)
    gpus = visible_gpus(device)
    sized = plan.sized(max_concurrent, num_cpus)
    if gpus_per_trial is not None:
        fitting = _fitting(gpus_per_trial, len(gpus), learners_of_trial(plan))
        if max_concurrent is None and fitting:
            sized = replace(sized, max_concurrent=min(sized.max_concurrent, fitting))
        if sized.max_concurrent > fitting:
            raise GpuError(
                f"`--max-concurrent {sized.max_concurrent}` trials x {learners_of_trial(plan)} "
                f"learners x {gpus_per_trial:g} GPUs do not fit the {len(gpus)} that there are; "
                "lower `--gpus-per-trial` or `--max-concurrent`"
            )
    learners = sized.max_concurrent * learners_of_trial(plan)
    share = even_share(learners, len(gpus)) if gpus_per_trial is None else gpus_per_trial
    check_replays_on_gpus(sized, [_total_bytes(gpu) for gpu in gpus])
    return sized, Placement(device, gpus, share)


def learners_of_trial(plan: SweepPlan) -> int:
    """Number of processes of a trial that learn, each with a share of a GPU."""
    return max(1, plan.num_learners)


def even_share(num_learners: int, num_gpus: int) -> float:
    """The equal share of the processes on one GPU, rounded down to what Ray can count.

    Example:
        >>> [even_share(num_learners, 2) for num_learners in (1, 2, 3, 12)]
        [1.0, 1.0, 0.5, 0.1666]
    """
    return math.floor(_SHARES / -(-num_learners // num_gpus)) / _SHARES


def check_replays_on_gpus(plan: SweepPlan, total_bytes: Sequence[int]) -> None:
    """Check that the replay buffers of trials that share a GPU fit its memory.

    Args:
        plan: Plan of the sweep.
        total_bytes: Memory of each GPU [bytes].

    Raises:
        GpuError: If they do not fit; the message shows the sum.
    """
    one = replay_need(plan.base()) * plan.seeds_per_trial
    at_once = -(-plan.max_concurrent // len(total_bytes))
    room = _LEFT_TO_TRAINING * min(total_bytes)
    if one * at_once > room:
        raise GpuError(
            f"the replays of {at_once} trials at once on one GPU need {at_once} x "
            f"{plan.seeds_per_trial} seeds x {one / plan.seeds_per_trial / 1e9:.3g} GB = "
            f"{one * at_once / 1e9:.3g} GB, but of its {min(total_bytes) / 1e9:.3g} GB only "
            f"{room / 1e9:.3g} GB are for them; lower `meta.replay_env_steps` in a space file's "
            "`base` or `--max-concurrent`"
        )


def settled_placement(
    plan: SweepPlan,
    folder: Path,
    *,
    resume: bool,
    device: str | None,
    gpus_per_trial: float | None,
    max_concurrent: int | None,
    num_cpus: int | None,
) -> tuple[SweepPlan, Placement]:
    """The result of ``placed`` on the given device, or on that of the sweep to resume.

    Raises:
        ValueError: As ``placed`` does.
    """
    from ssmrl.device_record import checked_device_of, settled_device

    settle = settled_device if num_cpus is None else checked_device_of
    return placed(
        plan,
        device=str(settle(device, folder, resume=resume)),
        gpus_per_trial=gpus_per_trial,
        max_concurrent=max_concurrent,
        num_cpus=num_cpus,
    )


def _check_share(device: str, share: float | None) -> None:
    if share is None:
        return
    if device == "cpu":
        raise ValueError("`--gpus-per-trial` needs `--device cuda`: trials learn on CPUs otherwise")
    if not (1.0 / _SHARES <= share <= 1.0 or (share > 1.0 and share == int(share))):
        raise ValueError(
            f"`--gpus-per-trial` must be a share of at most 1, or a whole number, but got {share:g}"
        )


def _fitting(share: float, num_gpus: int, num_learners: int) -> int:
    """Number of trials that fit the GPUs with this share."""
    if share > 1.0:
        return int(num_gpus // share) // num_learners
    return num_gpus * int(1.0 / share + 1e-9) // num_learners


def _total_bytes(gpu: int) -> int:
    import torch

    return int(torch.cuda.get_device_properties(gpu).total_memory)
