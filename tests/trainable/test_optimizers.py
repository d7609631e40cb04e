"""The groups of parameters: what decays, and the day layers by themselves."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from search_spaces.config import RunConfig
from search_spaces.errors import InputError
from trainable import train
from trainable.checkpoint import load, save
from trainable.data.dataset import Dataset
from trainable.model import Decoder
from trainable.optimizers import make_optimizer, set_rates
from trainable.schedules import day_lr_at, lr_at

Make = Callable[..., RunConfig]


def made(config: RunConfig) -> tuple[Decoder, torch.optim.Optimizer]:
    model = Decoder(config, 6, 6, 2)
    return model, make_optimizer(model, config)


def group_of(model: Decoder, optimizer: torch.optim.Optimizer, name: str) -> dict[str, Any]:
    """The group that has a parameter, and nobody else's."""
    wanted = dict(model.named_parameters())[name]
    (group,) = [g for g in optimizer.param_groups if any(p is wanted for p in g["params"])]
    return group


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_without_settings_of_their_own_day_layers_have_no_group(config: Make, kind: str) -> None:
    """The optimizer's state has the two groups that it always had, so that old checkpoints resume."""
    model, optimizer = made(config(optimizer={"kind": kind}))
    assert len(optimizer.param_groups) == 2
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))


def test_day_layers_have_their_own_rate_eps_and_decay(config: Make) -> None:
    """What is given is theirs, what is not is the others'; every other parameter stays where it was."""
    settings = config(
        optimizer={"kind": "adamw", "eps": 0.1, "weight_decay": 1e-3, "day_eps": 1e-3, "day_weight_decay": 0.5},
        schedule={"kind": "linear", "peak_lr": 4e-3, "end_lr": 1e-4, "day_peak_lr": 1e-3, "day_end_lr": 2e-5},
    )
    model, optimizer = made(settings)
    for batch in (0, 5, 11):
        set_rates(optimizer, settings, batch)
        for name in ("day_weight", "day_bias"):
            group = group_of(model, optimizer, name)
            assert (group["lr"], group["eps"], group["weight_decay"]) == (day_lr_at(settings, batch), 1e-3, 0.5)
        for name, decay in (("output.weight", 1e-3), ("output.bias", 0.0), ("layers.0.weight_hh_l0", 1e-3)):
            group = group_of(model, optimizer, name)
            assert (group["lr"], group["eps"], group["weight_decay"]) == (lr_at(settings, batch), 0.1, decay)


@pytest.mark.parametrize("decays", [True, False])
def test_a_rate_alone_leaves_the_day_layers_decay_as_it_was(config: Make, decays: bool) -> None:
    """With `day_peak_lr` only, `decay_day_layers` still says whether they decay."""
    optimizer = {"kind": "sgd", "weight_decay": 0.01, "decay_day_layers": decays}
    model, made_of = made(config(optimizer=optimizer, schedule={"peak_lr": 0.01, "day_peak_lr": 0.02}))
    assert group_of(model, made_of, "day_weight")["weight_decay"] == (0.01 if decays else 0.0)


def test_the_same_settings_for_day_layers_train_the_same(tiny: Dataset, config: Make) -> None:
    """A group of their own with the others' values changes no number; a rate of 1e-9 leaves them where they began."""
    optimizer = {"kind": "adam", "eps": 0.01, "weight_decay": 1e-3}
    plain = [report.train_loss for report in train(config(optimizer=optimizer), tiny)]
    same = {**optimizer, "day_eps": 0.01, "day_weight_decay": 1e-3}
    assert [report.train_loss for report in train(config(optimizer=same), tiny)] == pytest.approx(plain, rel=1e-6)
    still = config(optimizer=optimizer, schedule={"peak_lr": 5e-3, "day_peak_lr": 1e-9})
    *_, last = train(still, tiny)
    weights = last.checkpoint()["model"]
    torch.testing.assert_close(weights["day_weight"], torch.eye(6).repeat(2, 1, 1), atol=1e-6, rtol=0)
    assert last.train_loss != pytest.approx(plain[-1], rel=1e-6)


def test_a_checkpoint_without_the_group_does_not_resume_with_it(tiny: Dataset, config: Make, tmp_path: Any) -> None:
    """The optimizer's state has another form, so it is one clear line; another rate for the group is no obstacle."""
    plain, apart = config(), config(schedule={"day_peak_lr": 1e-3})
    for given, other in ((plain, apart), (apart, plain)):
        save(tmp_path / "x.pt", next(train(given, tiny)).checkpoint())
        with pytest.raises(InputError, match=r"day layers' own rate, eps or weight decay was (True|False), is"):
            train(other, tiny, resume_from=load(tmp_path / "x.pt"))
    save(tmp_path / "x.pt", next(train(apart, tiny)).checkpoint())
    resumed = train(config(schedule={"day_peak_lr": 2e-3}), tiny, resume_from=load(tmp_path / "x.pt"))
    assert [report.epoch for report in resumed] == [2, 3]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"schedule": {"day_end_lr": 1e-4}}, "schedule.kind constant has no end_lr; give null or another kind"),
        ({"schedule": {"kind": "linear", "peak_lr": 1e-2, "end_lr": 0.0, "day_peak_lr": 1e-3, "day_end_lr": 2e-3}},
         "0.002 is above the day layers' highest rate 0.001; give 0.001 or less"),
        ({"model": {"day_layers": False}, "schedule": {"day_peak_lr": 1e-3}},
         "0.001 is given, but model.day_layers is false"),
        ({"model": {"day_layers": False}, "optimizer": {"day_eps": 1e-3}}, "optimizer.day_eps: 0.001 is given, but"),
    ],
)  # fmt: skip
def test_settings_of_day_layers_that_mean_nothing_are_refused(
    config: Make, settings: dict[str, dict[str, Any]], line: str
) -> None:
    """One line says which setting, and what to give instead."""
    with pytest.raises(ValueError, match="day") as caught:
        config(**settings)
    assert line in str(caught.value)


@pytest.mark.parametrize("kind", ["adam", "adamw", "sgd"])
def test_an_optimizer_is_torch_s_to_the_bit(config: Make, kind: str) -> None:
    """Three steps of ours and of torch's own class from the same weights and gradients, with the state saved and read
    between them: the same weights, and no gradient of the step itself.
    """
    model, ours = made(config(optimizer={"kind": kind, "weight_decay": 1e-2}))
    twin = copy.deepcopy(model)
    own = type(ours).__mro__[1]
    assert own.__module__.startswith("torch.optim")
    twins = dict(zip(model.parameters(), twin.parameters(), strict=True))
    groups = [{**group, "params": [twins[p] for p in group["params"]]} for group in ours.param_groups]
    theirs = own(groups)
    for step in range(3):
        for a, b in twins.items():
            a.grad = torch.randn(a.shape, generator=torch.Generator().manual_seed(step))
            b.grad = a.grad.clone()
        for optimizer in (ours, theirs):
            optimizer.load_state_dict(optimizer.state_dict())
            optimizer.step()
            optimizer.zero_grad()
    assert all(torch.equal(a, b) and a.grad is None and a.is_leaf for a, b in twins.items())


STEPS = """
import sys
import torch
from trainable.optimizers import _plain

for kind in (torch.optim.Adam, torch.optim.AdamW, torch.optim.SGD):
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = _plain(kind)([weight], lr=0.1, fused=True)
    weight.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


def test_a_step_loads_nothing_for_torch_compile() -> None:
    """A second of every process that trains: after a torch upgrade that does it otherwise, this says so."""
    done = subprocess.run(
        [sys.executable, "-c", STEPS], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n", "an optimizer's step loads torch._dynamo: see _plain in trainable/optimizers.py"
