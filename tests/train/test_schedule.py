import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.train.schedule import EarlyStopping, Plateau, ema_decay_at, lr_at
from pipeline.train_settings import TrainSettings

SETTINGS = TrainSettings(lr=1e-3, min_lr=1e-5, warmup_epochs=2, epochs=10)
STEPS = 7


def rates(settings: TrainSettings, **more: float) -> list[float]:
    return [lr_at(step, STEPS, settings, **more) for step in range(settings.epochs * STEPS)]


def test_cosine_rises_and_falls_between_its_ends():
    found = rates(SETTINGS)
    top = 2 * STEPS
    assert found[0] == pytest.approx(1e-5)
    assert found[top] == 1e-3
    assert found[-1] == pytest.approx(1e-5)
    assert all(a < b for a, b in pairwise(found[: top + 1]))
    assert all(a > b for a, b in pairwise(found[top:]))


def test_cosine_agrees_with_torch():
    settings = TrainSettings(lr=1e-3, min_lr=1e-5, warmup_epochs=0, epochs=10)
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=10 * STEPS - 1, eta_min=1e-5)
    expected = []
    for _ in range(10 * STEPS):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates(settings) == pytest.approx(expected)


@pytest.mark.parametrize(
    "changed",
    [{"lr": 2e-3}, {"min_lr": 1e-6}, {"warmup_epochs": 3}, {"epochs": 11}, {"lr_schedule": "plateau"}],
    ids=lambda changed: next(iter(changed)),
)
def test_each_setting_changes_the_rates(changed):
    settings = TrainSettings(**({"lr": 1e-3, "min_lr": 1e-5, "warmup_epochs": 2, "epochs": 10} | changed))
    assert rates(settings)[: 10 * STEPS] != rates(SETTINGS)


def test_plateau_scales_after_the_warm_up_and_stops_at_min_lr():
    settings = TrainSettings(lr=1e-3, min_lr=1e-4, warmup_epochs=2, epochs=4, lr_schedule="plateau")
    half = rates(settings, plateau_scale=0.5)
    assert half[: 2 * STEPS] == rates(settings)[: 2 * STEPS]
    assert half[2 * STEPS :] == [5e-4] * 2 * STEPS
    assert rates(settings, plateau_scale=0.01)[-1] == 1e-4


@pytest.mark.parametrize("epochs", [1, 2, 3])
@pytest.mark.parametrize("warmup", [0, 1, 2, 10])
@pytest.mark.parametrize("steps", [1, 4])
def test_short_runs_have_rates_within_bounds(epochs, warmup, steps):
    settings = TrainSettings(epochs=epochs, warmup_epochs=warmup, lr=1e-3, min_lr=1e-5)
    for step in range(epochs * steps):
        assert 1e-5 - 1e-12 <= lr_at(step, steps, settings) <= 1e-3


def test_a_min_lr_above_lr_does_not_make_the_rate_rise():
    settings = TrainSettings(lr=1e-7, min_lr=1e-6, warmup_epochs=0, epochs=3)
    assert rates(settings) == pytest.approx([1e-7] * 3 * STEPS)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4).map(float), min_size=1, max_size=40), st.integers(0, 4))
def test_plateau_agrees_with_torch(scores, patience):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=1.0)
    torchs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience, threshold=0, eps=0
    )
    ours = Plateau(patience, 0.5)
    for score in scores:
        torchs.step(score)
        assert ours.update(score) == optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("step", "decay", "expected"),
    [(0, 0.999, 0.1), (8, 0.999, 0.5), (89, 0.999, 90 / 99), (10**6, 0.999, 0.999), (8, 0.2, 0.2)],
)
def test_the_averages_decay_rises_to_what_was_set(step, decay, expected):
    assert ema_decay_at(step, decay) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("patience", "scores", "stops_after"),
    [
        pytest.param(2, [0.1, 0.2, 0.2, 0.1], 4, id="an equal score is not better"),
        pytest.param(2, [0.1, 0.1, 0.3, 0.2, 0.3, 0.9], 5, id="a better score starts anew"),
        pytest.param(1, [0.1, math.nan, 0.5], 2, id="NaN is never better"),
        pytest.param(0, [0.5] + [0.1] * 50, None, id="0 never stops"),
    ],
)
def test_early_stopping(patience, scores, stops_after):
    stopping = EarlyStopping(patience)
    stopped = None
    for number, score in enumerate(scores, start=1):
        stopping.update(score)
        if stopped is None and stopping.should_stop:
            stopped = number
    assert stopped == stops_after


def test_early_stopping_says_which_epoch_is_better():
    stopping = EarlyStopping(5)
    assert [stopping.update(score) for score in (math.nan, 0.0, 0.2, 0.2, 0.1, 0.3)] == [
        False, True, True, False, False, True,
    ]  # fmt: skip


@pytest.mark.parametrize("make", [lambda: Plateau(2, 0.5), lambda: EarlyStopping(3)], ids=["plateau", "early stopping"])
def test_resumed_is_uninterrupted(make, tmp_path):
    scores = [0.1, 0.3, 0.2, 0.2, 0.2, 0.4, 0.3, 0.3, 0.3, 0.3]
    whole, first, second = make(), make(), make()
    for score in scores:
        whole.update(score)
    for score in scores[:4]:
        first.update(score)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for score in scores[4:]:
        second.update(score)
    assert vars(second) == vars(whole)
