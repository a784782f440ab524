from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.model import pose_graph
from pipeline.model.mirror import Mirror, mirror_of
from pipeline.train.augment import Augmented, augment, draw, plain, share_kept, tempo
from pipeline.train.batch import Batch
from pipeline.train.tempo import played
from pipeline.train_settings import TrainSettings

NAMES = pose_graph.PARTS
MIRROR = Mirror((0, 1, 3, 2, 5, 4), ())
GROUPS = ((0, 2, 4), (1, 3, 5))  # as two animals of three keypoints
OFF = TrainSettings(
    kp_jitter_std=0, aug_brightness=0, aug_contrast=0, aug_temporal_drop=0, aug_hflip=0, aug_noise_std=0, aug_roll=0
)
SEEDS = range(100, 160)


def make(B: int = 1, T: int = 40, channels: int = 1, pad: int = 0, seed: int = 0) -> Batch:
    """Frame t is all of gray level 2t + 40 with a bright left edge; keypoint 0's x, label and time hold t too."""
    generator = torch.Generator().manual_seed(seed)
    t = torch.arange(T)
    frames = (2 * t + 40).to(torch.uint8).view(1, T, 1, 1, 1).repeat(B, 1, 6, 8, channels)
    frames[..., 0, :] = 200
    xy = 0.2 + 0.6 * torch.rand(B, T, 6, 2, generator=generator)
    xy[..., 0, 0] = t / 100
    visible = torch.rand(B, T, 6, generator=generator) > 0.2
    visible[..., 0] = True
    labels, valid = t.repeat(B, 1), (t < T - pad).repeat(B, 1)
    frames[:, T - pad :], labels[:, T - pad :], visible[:, T - pad :] = 0, -1, False
    when = torch.stack([t, T - pad - 1 - t, t - 10, t - 5], -1).float().repeat(B, 1, 1)
    return Batch(frames, xy * visible[..., None], visible, labels, valid, when)


def numbers(seen: Augmented) -> torch.Tensor:
    """The frame numbers (B,T) that the pixels of `make` show."""
    assert seen.frames is not None
    return ((seen.frames[:, :, 0, 0, 4] * 255 - 40) / 2).round().long()


def fields(seen: Augmented) -> list[torch.Tensor]:
    return [value for value in vars(seen).values() if value is not None]


def test_everything_off_is_plain() -> None:
    batch = make(B=3, pad=4)
    for found, expected in zip(fields(augment(batch, OFF, [1, 2, 3], MIRROR)), fields(plain(batch)), strict=True):
        torch.testing.assert_close(found, expected)


def test_plain_is_the_batch_itself() -> None:
    batch = make(channels=3)
    seen = plain(batch)
    assert batch.frames is not None
    torch.testing.assert_close(seen.frames, batch.frames.permute(0, 1, 4, 2, 3).float() / 255)
    assert torch.equal(seen.xy_input, batch.xy)
    assert torch.equal(seen.xy_target, batch.xy)


@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 2**40), min_size=3, max_size=3), pad=st.integers(0, 20))
def test_a_batch_is_its_samples_one_by_one_padded_or_not(seeds: list[int], pad: int) -> None:
    batch = make(B=3, pad=pad)
    for stretch in (0.0, 0.5):
        train = TrainSettings(aug_hflip=0.5, aug_swap=0.5, aug_kp_drop=0.2, aug_stretch=stretch)
        together = augment(batch, train, seeds, MIRROR, GROUPS)
        for b, seed in enumerate(seeds):
            alone = Batch(*(value[b : b + 1, : 40 - pad] for value in vars(batch).values()))
            part = augment(alone, train, [seed], MIRROR, GROUPS)
            n = part.valid.shape[1]
            assert not together.valid[b, n:].any()
            for whole, own in zip(fields(together), fields(part), strict=True):
                assert torch.equal(whole[b : b + 1, :n], own)


def test_the_seed_decides_and_nothing_else() -> None:
    batch, train = make(), TrainSettings()
    first = augment(batch, train, [7], MIRROR)
    torch.rand(3), np.random.default_rng().random(3)
    assert all(
        torch.equal(a, b) for a, b in zip(fields(first), fields(augment(batch, train, [7], MIRROR)), strict=True)
    )
    assert not torch.equal(first.xy_input, augment(batch, train, [8], MIRROR).xy_input)


def test_roll_moves_frames_keypoints_visibility_and_labels_together_within_the_valid_frames() -> None:
    batch, rolled = make(pad=5), 0
    for seed in SEEDS:
        seen = augment(batch, replace(OFF, aug_roll=5), [seed], MIRROR)
        order = numbers(seen)[0, :35]
        shift = int(order[0])
        assert torch.equal(order, (torch.arange(35) + shift) % 35)
        assert min(shift, 35 - shift) <= 5
        assert torch.equal(seen.labels[0, :35], order)
        assert torch.equal(seen.visible[0, :35], batch.visible[0, order])
        assert torch.equal(seen.xy_target[0, :35], batch.xy[0, order])
        torch.testing.assert_close(seen.xy_input[0, :35], batch.xy[0, order])
        assert torch.equal(seen.when[0, :35], batch.when[0, order])
        assert torch.equal(seen.when[0, 35:], batch.when[0, 35:])
        assert (seen.labels[0, 35:] == -1).all()
        assert torch.equal(seen.valid, batch.valid)
        rolled += shift != 0
    assert 0.05 * len(SEEDS) < rolled < 0.4 * len(SEEDS)


def test_roll_marks_the_frame_before_which_another_is_shown() -> None:
    batch, rolled = make(B=len(SEEDS), pad=5), 0
    seen = augment(batch, replace(OFF, aug_roll=5, aug_stretch=0.2), SEEDS, MIRROR)
    assert augment(batch, replace(OFF, aug_stretch=0.2), SEEDS, MIRROR).seam is None
    for seam, labels, valid in zip(seen.seam, seen.labels, seen.valid, strict=True):
        back = labels.diff(prepend=labels[:1]) < 0  # these numbers only grow, but where the last are put first
        assert torch.equal(seam, back & valid)
        rolled += int(seam.sum())
    assert 0.05 * len(SEEDS) < rolled < 0.4 * len(SEEDS)


def test_roll_moves_the_pose_features() -> None:
    batch = make()
    seed = next(s for s in SEEDS if draw(replace(OFF, aug_roll=5), 40, 6, s).order[0] != 0)
    seen = augment(batch, replace(OFF, aug_roll=5), [seed], MIRROR)
    of = range(6)
    before, _ = pose_graph.features(batch.xy, batch.visible, of)
    after, _ = pose_graph.features(seen.xy_input, seen.visible, of)
    torch.testing.assert_close(after[0], before[0, seen.labels[0]])
    assert not torch.equal(after, before)


def test_temporal_dropout_shows_the_frame_before_and_leaves_labels_and_keypoints() -> None:
    batch, dropping = make(pad=10), 0
    for seed in SEEDS:
        seen = augment(batch, replace(OFF, aug_temporal_drop=0.2), [seed], MIRROR)
        shown, own = numbers(seen)[0, :30], torch.arange(30)
        dropped = shown != own
        assert dropped.sum() in (0, 6)
        assert torch.equal(shown[1:][dropped[1:]], shown[:-1][dropped[1:]])
        assert torch.equal(seen.labels, batch.labels)
        assert torch.equal(seen.xy_target, batch.xy)
        dropping += bool(dropped.any())
    assert 0.1 * len(SEEDS) < dropping < 0.5 * len(SEEDS)


def test_brightness_and_contrast_are_what_they_say() -> None:
    batch = make(B=1, T=20)
    x = plain(batch).frames
    train, seen_both = replace(OFF, aug_brightness=0.2, aug_contrast=0.2), 0
    for seed in SEEDS:
        drawn = draw(train, 20, 6, seed)
        assert 0.8 <= drawn.brightness <= 1.2
        assert 0.8 <= drawn.contrast <= 1.2
        bright = x * drawn.brightness
        expected = ((bright - bright.mean()) * drawn.contrast + bright.mean()).clamp(0, 1)
        torch.testing.assert_close(augment(batch, train, [seed], MIRROR).frames, expected)
        seen_both += drawn.brightness != 1 and drawn.contrast != 1
    assert 0.1 * len(SEEDS) < seen_both < 0.4 * len(SEEDS)


def test_contrast_is_about_the_mean_of_valid_frames() -> None:
    padded, whole = make(T=40, pad=20), make(T=20)
    padded.frames[:, 20:] = 255  # a reused buffer's padding holds anything
    train = replace(OFF, aug_contrast=0.2)
    seed = next(s for s in SEEDS if draw(train, 20, 6, s).contrast != 1)
    torch.testing.assert_close(
        augment(padded, train, [seed], MIRROR).frames[:, :20], augment(whole, train, [seed], MIRROR).frames
    )


def test_noise_has_its_spread_and_its_probability() -> None:
    batch, train, noisy = make(T=100), replace(OFF, aug_noise_std=0.02), 0
    for seed in SEEDS:
        change = augment(batch, train, [seed], MIRROR).frames - augment(batch, OFF, [seed], MIRROR).frames
        assert change.std() == 0 or change.std().item() == pytest.approx(0.02, rel=0.1)
        noisy += bool(change.any())
    assert 0.1 * len(SEEDS) < noisy < 0.5 * len(SEEDS)


def test_pixels_and_inputs_stay_in_range() -> None:
    batch = make(B=8)
    batch.frames[:] = torch.where(batch.frames > 80, 255, 0)
    wild = TrainSettings(aug_brightness=0.9, aug_contrast=0.9, aug_noise_std=0.5, kp_jitter_std=0.5, aug_hflip=0.5)
    seen = augment(batch, wild, range(8), MIRROR)
    for values in (seen.frames, seen.xy_input, seen.xy_target):
        assert values.min() >= 0
        assert values.max() <= 1


def test_flip_mirrors_pixels_and_exchanges_left_and_right() -> None:
    batch = make()
    seen, before = augment(batch, replace(OFF, aug_hflip=1.0), [1], MIRROR), plain(batch)
    torch.testing.assert_close(seen.frames, before.frames.flip(-1))
    other = [0, 1, 3, 2, 5, 4]
    assert torch.equal(seen.visible, batch.visible[:, :, other])
    expected = torch.stack([1 - batch.xy[..., 0], batch.xy[..., 1]], -1)[:, :, other] * seen.visible[..., None]
    torch.testing.assert_close(seen.xy_target, expected)
    torch.testing.assert_close(seen.xy_input, expected)
    assert torch.equal(seen.labels, batch.labels)


def test_classes_that_name_a_side_change_places_in_a_mirror() -> None:
    batch = make(B=len(SEEDS), pad=3)
    batch.labels[:, :37] = torch.arange(37) % 5 - 1  # of four classes, some frames unlabelled
    mirror = mirror_of(NAMES, ("rest", "turn_left", "lick", "turn_right"))
    seen = augment(batch, replace(OFF, aug_hflip=0.5), SEEDS, mirror)
    exchanged = torch.tensor([0, 3, 2, 1, -1])[batch.labels]  # -1, not labelled, comes from the end
    flipped = (~torch.isclose(seen.frames, plain(batch).frames)).flatten(1).any(1).tolist()
    assert 0.3 * len(SEEDS) < sum(flipped) < 0.7 * len(SEEDS)
    for b, is_flipped in enumerate(flipped):
        assert torch.equal(seen.labels[b], (exchanged if is_flipped else batch.labels)[b])


def test_a_swap_exchanges_whole_animals_and_nothing_else() -> None:
    batch, swapped = make(B=len(SEEDS), pad=3), [1, 0, 3, 2, 5, 4]
    seen, before = augment(batch, replace(OFF, aug_swap=1.0), SEEDS, MIRROR, GROUPS), plain(batch)
    n_swapped = 0
    for b in range(len(SEEDS)):
        order = swapped if not torch.equal(seen.visible[b], batch.visible[b]) else list(range(6))
        n_swapped += order == swapped
        assert torch.equal(seen.visible[b], batch.visible[b][:, order])
        for xy in (seen.xy_input, seen.xy_target):
            assert torch.equal(xy[b], batch.xy[b][:, order])
    assert 0.3 * len(SEEDS) < n_swapped < 0.7 * len(SEEDS)  # one of the two orders is as they were
    torch.testing.assert_close(seen.frames, before.frames)
    for name in ("labels", "valid", "when"):
        assert torch.equal(getattr(seen, name), getattr(before, name))


def test_a_swap_has_its_probability_and_never_mixes_the_parts_of_animals() -> None:
    groups, batch, orders = ((0, 3), (1, 4), (2, 5)), make(B=200, T=2), set()
    batch.visible[:] = True
    batch.xy[:] = torch.rand(batch.xy.shape, generator=torch.Generator().manual_seed(1))
    seen = augment(batch, replace(OFF, aug_swap=0.5), range(200), MIRROR, groups)
    for b in range(200):
        found = [int((batch.xy[b, 0] == place).all(-1).nonzero()[0]) for place in seen.xy_target[b, 0]]
        assert [index + 3 for index in found[:3]] == found[3:]
        orders.add(tuple(found[:3]))
    assert len(orders) == 6
    drawn = [draw(replace(OFF, aug_swap=0.5), 2, 6, seed, 3).animals for seed in range(600)]
    assert np.mean([animals != (0, 1, 2) for animals in drawn]) == pytest.approx(0.5 * 5 / 6, abs=0.06)
    assert all(draw(OFF, 2, 6, seed, 3).animals == (0, 1, 2) for seed in range(50))


def test_a_swap_and_a_mirror_together() -> None:
    names = ("m1_l_ear", "m1_r_ear", "m1_nose", "m2_l_ear", "m2_r_ear", "m2_nose")
    batch, groups = make(), ((0, 1, 2), (3, 4, 5))
    train = replace(OFF, aug_swap=1.0, aug_hflip=1.0)
    seed = next(s for s in SEEDS if draw(train, 40, 6, s, 2).animals == (1, 0))
    seen = augment(batch, train, [seed], mirror_of(names, ()), groups)
    index = [4, 3, 5, 1, 0, 2]
    assert torch.equal(seen.visible, batch.visible[:, :, index])
    expected = torch.stack([1 - batch.xy[..., 0], batch.xy[..., 1]], -1)[:, :, index] * seen.visible[..., None]
    torch.testing.assert_close(seen.xy_target, expected)


def test_one_animal_has_none_to_change_places_with() -> None:
    batch = make(B=8)
    seen, before = augment(batch, replace(OFF, aug_swap=1.0), range(8), MIRROR), plain(batch)
    for found, expected in zip(fields(seen), fields(before), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_flipped_keypoint_stays_on_its_pixel() -> None:
    batch = make(T=1)
    batch.frames[:] = 0
    batch.frames[0, 0, 3, 6] = 255
    batch.xy[0, 0, 0], batch.visible[0, 0, 0] = torch.tensor([6.5 / 8, 3.5 / 6]), True
    seen = augment(batch, replace(OFF, aug_hflip=1.0), [1], MIRROR)
    x, y = seen.xy_target[0, 0, 0]
    assert seen.frames[0, 0, 0, int(y * 6), int(x * 8)] == 1


def test_jitter_reaches_the_pose_features_and_never_the_target() -> None:
    batch = make(B=4, T=100)
    seen = augment(batch, replace(OFF, kp_jitter_std=0.02), range(4), MIRROR)
    assert torch.equal(seen.xy_target, batch.xy)
    jitter = (seen.xy_input - batch.xy)[batch.visible & (batch.xy > 0.1).all(-1)]
    assert jitter.std().item() == pytest.approx(0.02, rel=0.1)
    assert abs(jitter.mean().item()) < 0.003
    assert (seen.xy_input[~batch.visible] == 0).all()
    of = range(6)
    clean, _ = pose_graph.features(seen.xy_target, seen.visible, of)
    jittered, present = pose_graph.features(seen.xy_input, seen.visible, of)
    assert (clean != jittered)[present].float().mean() > 0.9


INPUT = {"xy_input", "xy_motion", "visible_input"}


def test_jitter_leaves_the_speeds_that_motion_features_are_made_of() -> None:
    """Of every frame it would drown them: a network that is validated without it would meet what it never saw."""
    batch = make(B=len(SEEDS), T=40)
    seen = augment(batch, replace(OFF, kp_jitter_std=0.02), SEEDS, MIRROR)
    shift = (seen.xy_motion - batch.xy)[:, 0]
    inside = ((seen.xy_motion > 0) & (seen.xy_motion < 1)).all(-1) & batch.visible
    both = inside[:, 1:] & inside[:, :-1]
    speeds = [xy[:, 1:] - xy[:, :-1] for xy in (seen.xy_motion, batch.xy)]
    torch.testing.assert_close(speeds[0][both], speeds[1][both], atol=1e-6, rtol=0)
    assert shift[inside[:, 0]].std().item() == pytest.approx(0.02, rel=0.5)


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ({"kp_jitter_std": 0.05}, {"xy_input", "xy_motion"}),
        ({"aug_brightness": 0.4}, {"frames"}),
        ({"aug_contrast": 0.4}, {"frames"}),
        ({"aug_temporal_drop": 0.3}, {"frames"}),
        ({"aug_noise_std": 0.1}, {"frames"}),
        ({"aug_roll": 12}, INPUT | {"frames", "xy_target", "visible", "labels", "when", "seam"}),
        ({"aug_swap": 1.0}, INPUT | {"xy_target", "visible"}),
        ({"aug_kp_drop": 0.2}, INPUT),
        ({"aug_hflip": 1.0}, INPUT | {"frames", "xy_target", "visible"}),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_each_setting_changes_what_it_should_and_nothing_else(change: dict[str, float], changed: set[str]) -> None:
    batch, train = make(B=len(SEEDS)), TrainSettings()
    before, after = (augment(batch, s, SEEDS, MIRROR, GROUPS) for s in (train, replace(train, **change)))
    values = {name: (value, vars(after)[name]) for name, value in vars(before).items() if value is not None}
    assert {name for name, (old, new) in values.items() if not torch.equal(old, new)} == changed


def test_lost_tracking_comes_in_stretches_of_about_the_share() -> None:
    lost = np.stack([draw(replace(OFF, aug_kp_drop=0.2), 2000, 6, seed).lost for seed in range(40)])
    assert lost.mean() == pytest.approx(0.2, abs=0.02)
    begins = lost[:, 1:] & ~lost[:, :-1]
    assert lost.sum() / begins.sum() > 10  # frames in a stretch, where single ones would give 1.25
    batch = make(B=len(SEEDS))
    seen = augment(batch, replace(OFF, aug_kp_drop=0.5), SEEDS, MIRROR)
    assert torch.equal(seen.visible, batch.visible)  # what the keypoint head learns is all there
    assert torch.equal(seen.xy_target, batch.xy)
    assert (seen.xy_input[~seen.visible_input] == 0).all()
    assert (seen.visible_input & ~batch.visible).sum() == 0


def test_a_stretch_moves_frames_keypoints_labels_and_times_alike() -> None:
    batch, lengths = make(B=len(SEEDS), pad=5), set()
    seen = augment(batch, replace(OFF, aug_stretch=0.25), SEEDS, MIRROR)
    pose_alone = augment(replace(batch, frames=None), replace(OFF, aug_stretch=0.25), SEEDS, MIRROR)
    assert seen.xy_target.shape[1] == seen.valid.sum(1).max() > 40
    for b, seed in enumerate(SEEDS):
        n = int(seen.valid[b].sum())
        assert n == round(34 / tempo(0.25, seed)) + 1
        assert 34 / 1.25 <= n - 1 <= 34 * 1.25
        lengths.add(n)
        assert not seen.valid[b, n:].any()
        assert not seen.visible[b, n:].any()
        assert (seen.labels[b, n:] == -1).all()
        assert (seen.frames[b, n:] == 0).all()
        assert seen.when[b, n:].isnan().all()
        place = torch.linspace(0, 34, n, dtype=torch.float64)
        # What is learned of a picture is where it shows the keypoints.
        torch.testing.assert_close(seen.xy_target[b, :n, 0, 0], seen.labels[b, :n] / 100)
        torch.testing.assert_close(pose_alone.xy_target[b, :n, 0, 0].double(), place / 100)
        torch.testing.assert_close(
            seen.when[b, :n].double(), torch.stack([place, 34 - place, place - 10, place - 5], -1)
        )
        assert torch.equal(seen.labels[b, :n], numbers(seen)[b, :n])
        assert ((seen.labels[b, :n] - place).abs() <= 0.5 + 1e-9).all()
        assert torch.equal(seen.visible[b, :n], batch.visible[b, seen.labels[b, :n]])
    assert min(lengths) < 30 < 40 < max(lengths)


def test_tempos_are_as_often_faster_as_slower() -> None:
    found = np.log([tempo(0.5, seed) for seed in range(2000)]) / math.log(1.5)
    assert found.min() > -1
    assert found.max() < 1
    assert found.mean() == pytest.approx(0, abs=0.05)
    assert found.std() == pytest.approx(1 / math.sqrt(3), abs=0.03)  # uniform


@pytest.mark.parametrize(
    ("visible", "x", "seen"),
    [
        ([1, 1, 1], [0.1, 0.2, 0.3, 0.6, 0.9], [1, 1, 1, 1, 1]),
        ([1, 0, 1], [0.1, 0.0, 0.0, 0.9, 0.9], [1, 0, 0, 1, 1]),
        ([1, 1, 0], [0.1, 0.2, 0.3, 0.0, 0.0], [1, 1, 1, 0, 0]),
        ([0, 1, 1], [0.0, 0.3, 0.3, 0.6, 0.9], [0, 1, 1, 1, 1]),
    ],
    ids=["all", "gap", "end", "begin"],
)
def test_a_keypoint_lies_between_frames_that_show_it_and_else_as_in_the_nearest(
    visible: list[int], x: list[float], seen: list[int]
) -> None:
    """Of two frames as near it is the later one."""
    shown = torch.tensor(visible, dtype=torch.bool).view(1, 3, 1)
    xy = torch.tensor([0.1, 0.3, 0.9]).view(1, 3, 1, 1).expand(1, 3, 1, 2) * shown[..., None]
    unknown = torch.tensor([[0.0, 4.0, math.nan, 7.0]]).expand(1, 3, 4)
    batch = Batch(None, xy, shown, torch.arange(3)[None], torch.ones(1, 3, dtype=torch.bool), unknown)
    slower = played(batch, [0.5])
    torch.testing.assert_close(slower.xy[0, :, 0], torch.tensor(x)[:, None].expand(5, 2))
    assert slower.visible[0, :, 0].int().tolist() == seen
    assert slower.labels.tolist() == [[0, 1, 1, 2, 2]]
    assert torch.equal(slower.when.nan_to_num(-1), torch.tensor([0.0, 4.0, -1.0, 7.0]).expand(1, 5, 4))
    assert played(batch, [2.0]).labels.tolist() == [[0, 2]]
    assert all(torch.equal(a, b) for a, b in zip(fields_of(played(batch, [1.0])), fields_of(batch), strict=True))


def fields_of(batch: Batch) -> list[torch.Tensor]:
    return [value.nan_to_num(-1) for value in vars(batch).values() if value is not None]


def test_speeds_change_with_the_tempo() -> None:
    batch = make(T=40)
    for seed in SEEDS[:5]:
        motion = augment(batch, replace(OFF, aug_stretch=0.5), [seed], MIRROR).xy_motion[0, :, 0, 0]
        faster = (motion[1:] - motion[:-1]).mean().item() / 0.01
        assert faster == pytest.approx(tempo(0.5, seed), rel=0.03)


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 1), (2, 2)])
def test_a_stretch_of_hardly_any_frames(n: int, expected: int) -> None:
    batch = make(T=4, pad=4 - n)
    seen = augment(batch, replace(OFF, aug_stretch=0.25), [3], MIRROR)
    assert seen.valid.shape == (1, expected)
    assert seen.valid.all()


def test_a_mixed_batch_says_how_much_of_each_frame_is_its_samples_own() -> None:
    batch = make(B=3)
    for b, n in enumerate((40, 25, 33)):
        batch.valid[b, n:] = False
    assert plain(batch).own_share is augment(batch, OFF, range(3), MIRROR).own_share is None
    train = TrainSettings(aug_mix=0.7)
    share, other = (augment(batch, train, seeds, MIRROR).own_share for seeds in ([5, 6, 7], [5, 8, 9]))
    for b, both in enumerate((25, 25, 33)):  # frames in which it and the next are there
        assert torch.equal(share[b, :both], share[b, 0].expand(both))
        assert share[b, 0] == pytest.approx(share_kept(0.7, (5, 6, 7)[b]))
        assert 0.5 <= share[b, 0] < 1
        assert (share[b, both:] == 1).all()
    assert torch.equal(share[0], other[0])
    assert not torch.equal(share[1], other[1])


def test_a_sample_by_itself_is_mixed_with_none() -> None:
    assert augment(make(B=1), TrainSettings(aug_mix=1.0), [3], MIRROR).own_share is None


def test_mixing_changes_nothing_of_what_the_samples_are() -> None:
    batch = make(B=6)
    before, after = (augment(batch, TrainSettings(aug_mix=alpha), range(6), MIRROR) for alpha in (0.0, 0.4))
    for name, value in vars(before).items():
        assert value is None or torch.equal(value, vars(after)[name]), name
    assert after.own_share is not None


@pytest.mark.parametrize("alpha", [1e-6, 0.3, 1.0, 50.0])
def test_the_own_share_is_the_larger_part_of_a_beta_draw(alpha: float) -> None:
    found = np.array([share_kept(alpha, seed) for seed in range(3000)])
    drawn = np.random.default_rng(0).beta(alpha, alpha, 3000)
    assert found.min() >= 0.5
    assert found.mean() == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.02)


def test_draws_of_neighbouring_seeds_do_not_resemble_each_other() -> None:
    drawn = [draw(TrainSettings(), 40, 6, seed) for seed in range(400)]
    brightness = np.array([d.brightness for d in drawn])
    assert np.mean(brightness != 1) == pytest.approx(0.5, abs=0.08)
    assert np.mean([d.order[0] != 0 for d in drawn]) == pytest.approx(0.2 * 10 / 11, abs=0.06)
    assert np.mean([d.noise_seed is not None for d in drawn]) == pytest.approx(0.3, abs=0.07)
    assert abs(np.corrcoef(brightness[:-1], brightness[1:])[0, 1]) < 0.15


def test_a_batch_without_frames_and_an_empty_window() -> None:
    batch = make(B=2, T=3)
    empty = Batch(None, batch.xy, batch.visible & False, batch.labels * 0 - 1, batch.valid & False)
    seen = augment(empty, TrainSettings(aug_hflip=1.0), [1, 2], MIRROR)
    assert seen.frames is None
    assert (seen.xy_input == 0).all()


def test_the_batch_itself_is_left_as_it_was() -> None:
    batch = make(B=4)
    copies = [value.clone() for value in vars(batch).values()]
    changes = {"aug_hflip": 1.0, "aug_swap": 1.0, "aug_brightness": 0.5, "aug_mix": 1.0}
    for stretch in (0.0, 0.5):
        augment(batch, TrainSettings(**changes, aug_stretch=stretch), range(4), MIRROR, GROUPS)
    assert all(torch.equal(a, b) for a, b in zip(vars(batch).values(), copies, strict=True))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"xy": torch.zeros(1, 40, 6, 2, dtype=torch.float64)}, "batch: xy: expected .*float32, found .*float64"),
        ({"labels": torch.zeros(1, 39, dtype=torch.int64)}, r"batch: labels: expected \(1, 40\).*found \(1, 39\)"),
        ({"frames": torch.zeros(1, 40, 6, 8, 1)}, "batch: frames: expected .*uint8, found .*float32"),
        ({"when": torch.zeros(1, 40, 2)}, r"batch: when: expected \(1, 40, 4\).*found \(1, 40, 2\)"),
    ],
    ids=["dtype", "length", "float frames", "times"],
)
def test_a_batch_is_checked_when_it_is_made(change: dict[str, torch.Tensor], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        replace(make(), **change)
