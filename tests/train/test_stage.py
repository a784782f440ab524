"""The training loop on a small cache that a network can learn in seconds."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import cache as clip_cache
from cache import CacheError
from cache.zarr_store import ZarrReader
from pipeline.console import Bar
from pipeline.held import BusyError
from pipeline.model import checkpoint
from pipeline.model.infer import infer
from pipeline.model.mixing import mixed
from pipeline.model.pose_branch import PoseBranch, PoseFeaturesError, pose_set
from pipeline.model.trained import load_trained
from pipeline.setting_texts import SettingsError
from pipeline.train import loop, stage
from pipeline.train.balance import balance
from pipeline.train.data import prepare
from pipeline.train.profile import TRACE
from pipeline.train.run_folder import BEST, HISTORY, LAST, RECORD, RunError
from pipeline.train.schedule import ema_decay_at
from pipeline.train.split import SplitError
from pipeline.train.validate import evaluate
from pipeline.train.windows import every_window
from pipeline.train_settings import Keep, TrainSettings
from tests_support import CLASSES, KEYPOINTS, small_clip, write_recording, write_small_cache

LOSSES = ["shown_loss", "train_loss", "val_loss", "val_kp_loss", "val_macro_f1"]


def run(cache: Path, out: Path, settings: TrainSettings, **options) -> list[str]:
    lines: list[str] = []
    stage.train(settings, cache=cache, out=out, say=lines.append, **options)
    return lines


def losses(out: Path) -> np.ndarray:
    return pd.read_csv(out / HISTORY)[LOSSES].to_numpy()


def test_the_console_says_what_was_promised(small_cache: Path, quick, tmp_path: Path) -> None:
    lines = run(small_cache, tmp_path / "run", quick())
    assert "Epoch 1/2" in lines
    text = "\n".join(lines)
    for start in (
        r"Train loss: \d\.\d{4} \(action: \d\.\d{4}, kp: \d\.\d{4}\)",
        r"Val loss: \d",
        r"Val macro F1: \d\.\d{4}",
        r"Val segment F1@0\.3: \d",
        r"Val keypoint MAE \(norm\): \d",
        r"Per-class F1: rest \d\.\d+, paw_withdraw",
        r"Waited for data: \d+\.\d% of the epoch",
        rf"saved: .*{BEST}",
    ):
        assert pd.Series([text]).str.contains(start).item(), start


def test_it_learns_behaviour_from_motion_alone(small_cache: Path, quick, tmp_path: Path) -> None:
    off = {"head_dropout": 0.0, "dropout": 0.0, "kp_jitter_std": 0.002}
    run(small_cache, tmp_path / "run", quick(epochs=8, encoder="none", pose_features="motion", **off))
    assert pd.read_csv(tmp_path / "run" / HISTORY)["val_macro_f1"].max() > 0.6  # always saying rest scores 0.25


def test_it_learns_behaviour_and_keypoints(small_cache: Path, quick, tmp_path: Path) -> None:
    run(small_cache, tmp_path / "run", quick(epochs=12, head_dropout=0.0, dropout=0.0, kp_jitter_std=0.002))
    history = pd.read_csv(tmp_path / "run" / HISTORY)
    assert history["val_macro_f1"].max() > 0.6  # always saying rest scores 0.25
    assert history["val_keypoint_mae"].iloc[-1] < 0.8 * history["val_keypoint_mae"].iloc[0]


def test_both_stores_give_the_same_losses(small_cache: Path, quick, tmp_path: Path) -> None:
    hdf5 = write_small_cache(tmp_path / "hdf5", store="hdf5")
    run(small_cache, tmp_path / "a", quick())
    run(hdf5, tmp_path / "b", quick())
    np.testing.assert_array_equal(losses(tmp_path / "a"), losses(tmp_path / "b"))


def test_where_frames_are_kept_changes_nothing_that_is_learned(small_cache: Path, quick, tmp_path: Path) -> None:
    said = {
        keep: run(small_cache, tmp_path / keep, quick(), keep=keep) for keep in (Keep.DISK, Keep.MEMORY, Keep.DEVICE)
    }
    np.testing.assert_array_equal(losses(tmp_path / "disk"), losses(tmp_path / "memory"))
    np.testing.assert_array_equal(losses(tmp_path / "disk"), losses(tmp_path / "device"))
    assert any("unpacked) are read from the disk" in line for line in said[Keep.DISK])
    assert any("unpacked) are kept in memory" in line for line in said[Keep.MEMORY])
    again = run(small_cache, tmp_path / "disk", quick(), keep=Keep.MEMORY)
    assert "is up to date" in again[0]


def test_frames_in_memory_are_read_once(quick, tmp_path: Path, monkeypatch) -> None:
    path = write_small_cache(tmp_path / "cache")
    counts = {}
    for keep in (Keep.DISK, Keep.MEMORY):
        read = ZarrReader.read_frames_into
        frames: list[int] = []

        def counted(reader, start, stop, out, frames=frames, read=read) -> None:
            frames.append(stop - start)
            read(reader, start, stop, out)

        monkeypatch.setattr(ZarrReader, "read_frames_into", counted)
        run(path, tmp_path / keep, quick(epochs=3), keep=keep)
        monkeypatch.undo()
        counts[keep] = sum(frames)
    assert counts[Keep.MEMORY] == sum(len(clip) for clip in clip_cache.open(path))
    assert counts[Keep.DISK] > 2 * counts[Keep.MEMORY]


def test_a_trace_is_written(small_cache: Path, quick, tmp_path: Path) -> None:
    lines = run(small_cache, tmp_path / "run", quick(), profile=True)
    trace = tmp_path / "run" / TRACE
    assert sum("trace of" in line for line in lines) == 1
    names = {event.get("name") for event in json.loads(trace.read_text())["traceEvents"]}
    assert any(str(name).startswith("aten::conv") for name in names)
    assert losses(tmp_path / "run").shape[0] == 2


def test_the_seed_decides_everything(small_cache: Path, quick, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(small_cache, tmp_path / name, quick(seed=seed))
    np.testing.assert_array_equal(losses(tmp_path / "a"), losses(tmp_path / "b"))
    assert (losses(tmp_path / "a") != losses(tmp_path / "c")).any()


KILLED_RUN = """
import sys, torch
from pathlib import Path
from pipeline.train_settings import TrainSettings
from pipeline.train import stage
torch.set_num_threads(1)
settings = TrainSettings(**eval(sys.argv[3]))
stage.train(settings, cache=Path(sys.argv[1]), out=Path(sys.argv[2]), say=lambda line: print(line, flush=True))
"""


def begun(cache: Path, out: Path, settings: TrainSettings, line: str) -> subprocess.Popen[str]:
    """A training in a process of its own, which has just said this line."""
    arguments = [sys.executable, "-c", KILLED_RUN, str(cache), str(out), repr(vars(settings))]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    while not process.stdout.readline().startswith(line):
        assert process.poll() is None
    return process


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {
            "use_ema": True,
            "lr_schedule": "plateau",
            "lr_patience": 0,
            "pose_features": "both",
            "time_input": "clip",
            "tcn_stride": 2,
            "refine_stages": 1,
            "lambda_tmse": 0.15,
            "aug_stretch": 0.3,
            "aug_mix": 0.5,
            "lambda_boundary": 0.1,
            "patch_size": 8,
        },
    ],
    ids=["defaults", "all that has a state"],
)
def test_killed_and_resumed_is_as_undisturbed(small_cache: Path, quick, tmp_path: Path, extra: dict) -> None:
    settings = quick(epochs=4, **extra)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    run(small_cache, undisturbed, settings)
    process = begun(small_cache, killed, settings, "Epoch 3/4")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(pd.read_csv(killed / HISTORY)) < 4
    lines = run(small_cache, killed, settings)
    assert any("goes on after epoch" in line for line in lines)
    np.testing.assert_array_equal(losses(undisturbed), losses(killed))
    ours, theirs = (checkpoint.load(out / BEST)["weights"] for out in (undisturbed, killed))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.skipif(sys.platform == "win32", reason="stops the process for a while")
def test_a_second_training_in_the_folder_is_refused(small_cache: Path, quick, tmp_path: Path) -> None:
    settings, out = quick(epochs=2), tmp_path / "run"
    process = begun(small_cache, out, settings, "Epoch 2/2")
    process.send_signal(signal.SIGSTOP)
    try:
        for other in ({}, {"epochs": 3}, {"seed": 2}):
            with pytest.raises(BusyError, match=rf"--out {out}: another process is at work in this folder .*run\.lock"):
                run(small_cache, out, dataclasses.replace(settings, **other), force=other == {})
        assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["run"]
    finally:
        process.send_signal(signal.SIGCONT)
        process.wait()
    assert process.returncode == 0
    assert any("is up to date" in line for line in run(small_cache, out, settings))
    assert any("the former run is now in" in line for line in run(small_cache, out, quick(epochs=1)))


def test_where_nothing_can_be_locked_that_is_said(small_cache: Path, quick, tmp_path: Path) -> None:
    (tmp_path / ".run.lock").mkdir()
    lines = run(small_cache, tmp_path / "run", quick(epochs=1))
    assert any(re.match(r"\[warning\] .*\.run\.lock: cannot be locked", line) for line in lines)


def test_a_training_that_failed_beside_keeps_no_folder_from_use(small_cache: Path, quick, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        run(small_cache, tmp_path / "runs" / "first", quick(encoder="none", pose_features="none"))
    assert [path.name for path in (tmp_path / "runs").rglob("*")] in ([], [".first.lock"])
    run(small_cache, tmp_path / "runs", quick(encoder="none", epochs=1))
    assert (tmp_path / "runs" / BEST).exists()


def test_the_average_is_what_is_scored_and_saved(small_cache: Path, quick, tmp_path: Path) -> None:
    settings = quick(epochs=1, use_ema=True, ema_decay=0.9)
    run(small_cache, tmp_path / "run", settings)
    last, best = checkpoint.load(tmp_path / "run" / LAST), checkpoint.load(tmp_path / "run" / BEST)
    average = last["loop"]["average"]
    assert all(torch.equal(best["weights"][name], average[name]) for name in average)
    assert not torch.equal(last["weights"]["action.weight"], average["action.weight"])
    data = prepare(clip_cache.open(small_cache), settings, lambda line: None)
    balanced = balance(data.class_counts, settings)
    of_average, of_last = (
        evaluate(load_trained(tmp_path / "run" / name).network, data.val, data.merge.names, balanced, settings).loss
        for name in (BEST, LAST)
    )
    scored = pd.read_csv(tmp_path / "run" / HISTORY)["val_loss"].item()
    assert scored == pytest.approx(of_average, rel=1e-6)
    assert scored != pytest.approx(of_last, rel=1e-4)


def test_the_averages_updates_are_counted_over_the_whole_run(
    small_cache: Path, quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decays: list[float] = []
    monkeypatch.setattr(loop, "update_average", lambda average, network, decay: decays.append(decay))
    plateau = {"lr_schedule": "plateau", "use_ema": True}
    run(small_cache, tmp_path / "run", quick(epochs=2, **plateau))
    run(small_cache, tmp_path / "run", quick(epochs=3, **plateau), resume=True)
    assert len(decays) % 3 == 0
    assert decays == [ema_decay_at(n, 0.999) for n in range(len(decays))]


def test_resume_with_more_epochs_goes_on(small_cache: Path, quick, tmp_path: Path) -> None:
    plateau = {"lr_schedule": "plateau"}  # a cosine's course depends on the number of epochs
    run(small_cache, tmp_path / "long", quick(epochs=3, **plateau))
    run(small_cache, tmp_path / "run", quick(epochs=2, **plateau))
    lines = run(small_cache, tmp_path / "run", quick(epochs=3, **plateau), resume=True)
    assert not any("cosine" in line for line in lines)
    np.testing.assert_array_equal(losses(tmp_path / "run"), losses(tmp_path / "long"))


def test_more_epochs_change_the_course_of_a_cosine_and_that_is_said(small_cache: Path, quick, tmp_path: Path) -> None:
    run(small_cache, tmp_path / "run", quick(epochs=1))
    lines = run(small_cache, tmp_path / "run", quick(epochs=2), resume=True)
    assert any(line.startswith("[info] epochs: 1 -> 2: the cosine of the learning rate") for line in lines)
    assert len(losses(tmp_path / "run")) == 2


def test_resume_refuses_other_settings(small_cache: Path, quick, tmp_path: Path) -> None:
    run(small_cache, tmp_path / "run", quick(epochs=1))
    with pytest.raises(RunError, match=r"lr: 0.002 -> 0.1"):
        run(small_cache, tmp_path / "run", quick(epochs=1, lr=0.1), resume=True)
    with pytest.raises(RunError, match="there is no run in"):
        run(small_cache, tmp_path / "nothing", quick(), resume=True)


def test_an_up_to_date_run_is_left_alone(small_cache: Path, quick, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(small_cache, out, quick(epochs=1))
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert run(small_cache, out, quick(epochs=1))[-1] == f"[info] {out} is up to date (--force trains anew)"
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_a_run_of_before_a_setting_came_is_up_to_date(small_cache: Path, quick, tmp_path: Path) -> None:
    """Its record lacks the setting, whose default does what was done without it."""
    out, settings = tmp_path / "run", quick(encoder="none", epochs=1)
    run(small_cache, out, settings)
    record = json.loads((out / RECORD).read_text())
    for name in ("patch_size", "aug_turn"):
        del record["settings"][name]
    (out / RECORD).write_text(json.dumps(record))
    assert run(small_cache, out, settings) == [f"[info] {out} is up to date (--force trains anew)"]
    lines = run(small_cache, out, dataclasses.replace(settings, dropout=0.4))
    changed = [line for line in lines if line.startswith("[info] changed since")]
    assert changed == ["[info] changed since the last run: dropout: 0.3 -> 0.4"]


def test_an_up_to_date_run_reads_no_more_than_the_index(quick, tmp_path: Path) -> None:
    cache = write_small_cache(tmp_path / "cache", recordings=2)
    run(cache, tmp_path / "run", quick(epochs=1))
    shutil.rmtree(cache / "recordings")
    for resume in (False, True):
        lines = run(cache, tmp_path / "run", quick(epochs=1), resume=resume)
        assert lines == [f"[info] {tmp_path / 'run'} is up to date (--force trains anew)"]


def test_a_changed_setting_is_named_and_nothing_is_lost(small_cache: Path, quick, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(small_cache, out, quick(epochs=1))
    best = (out / BEST).read_bytes()
    lines = run(small_cache, out, quick(epochs=1, dropout=0.5))
    assert "[info] changed since the last run: dropout: 0.3 -> 0.5" in lines
    assert (tmp_path / "run.old-1" / BEST).read_bytes() == best


def test_files_that_are_no_run_are_never_moved(small_cache: Path, quick, tmp_path: Path) -> None:
    lab = tmp_path / "lab"
    write_small_cache(lab / "cache")
    (lab / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="the cache lies in it"):
        run(lab / "cache", lab, quick())
    with pytest.raises(RunError, match="not of a run"):
        run(small_cache, lab, quick())
    with pytest.raises(RunError, match="not of a run"):
        run(small_cache, lab, quick(), force=True)
    assert (lab / "notes.txt").read_text() == "mine"


def test_a_wrong_flag_leaves_the_good_run_where_it_is(small_cache: Path, quick, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(small_cache, out, quick(epochs=1))
    with pytest.raises(ValueError, match="--encoder vgg"):
        run(small_cache, out, quick(epochs=1, encoder="vgg"))
    assert (out / BEST).exists()
    run(small_cache, out, quick(epochs=1), force=True)
    assert (tmp_path / "run.old-1" / BEST).exists()


def test_a_split_file_with_an_animal_on_both_sides_is_refused(small_cache: Path, quick, tmp_path: Path) -> None:
    names = sorted({clip.recording for clip in clip_cache.open(small_cache)})
    rows = [f"{name},{name},{'val' if i == 4 else 'train'}" for i, name in enumerate(names)]
    (tmp_path / "split.csv").write_text("\n".join(["recording,group,part", *rows]) + "\n")
    settings = quick(split_file=str(tmp_path / "split.csv"), group_by="_([ab])$")
    with pytest.raises(SplitError, match="in training and in validation"):
        prepare(clip_cache.open(small_cache), settings, print)


def test_the_training_figure_is_of_labelled_training_clips(quick, tmp_path: Path) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(12):
            clip = small_clip(i)
            if i % 4:
                clip["labels"] = np.full_like(clip["labels"], -1)
            write_recording(cache, f"mouse_{i:02d}", [clip])
    for seed in range(8):
        data = prepare(clip_cache.open(tmp_path / "cache"), quick(seed=seed), lambda line: None)
        assert any((labels >= 0).any() for labels in data.train_sample.labels)
        assert {clip.recording for clip in data.train_sample.clips} <= set(data.split.train)


def test_changed_labels_are_named(quick, tmp_path: Path) -> None:
    path = write_small_cache(tmp_path / "cache")
    run(path, tmp_path / "run", quick(epochs=1))
    with clip_cache.create(path) as cache:
        write_recording(cache, "mouse_03M_b", [small_clip(30), small_clip(31)], version="2")
    lines = run(path, tmp_path / "run", quick(epochs=1))
    assert "[info] changed since the last run: labels changed: mouse_03M_b" in lines


def test_early_stopping_is_said(small_cache: Path, quick, tmp_path: Path) -> None:
    lines = run(small_cache, tmp_path / "run", quick(epochs=30, lr=1e-9, min_lr=0.0, early_stopping_patience=2))
    assert "[info] Early stopping triggered" in lines
    assert len(pd.read_csv(tmp_path / "run" / HISTORY)) == 3


def test_recordings_of_one_animal_stay_together(quick, tmp_path: Path) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(8):
            write_recording(cache, f"day{i % 2}_{i // 2:02d}M_x", [small_clip(i)])
    data = prepare(clip_cache.open(tmp_path / "cache"), quick(group_by=r"_(\d+M)_"), print)
    parts = [{clip.recording.split("_")[1] for clip in part.clips} for part in (data.train, data.val)]
    assert all(parts)
    assert not parts[0] & parts[1]


def test_a_class_that_validation_lacks_is_named(quick, tmp_path: Path) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(4):
            clip = small_clip(i)
            clip["labels"] = np.where(np.isin(clip["labels"], (1, 3)) & (i > 0), 0, clip["labels"])
            write_recording(cache, f"mouse_{i}", [clip])
    lines: list[str] = []
    prepare(clip_cache.open(tmp_path / "cache"), quick(), lines.append)
    assert any("validation has no frame of paw_withdraw" in line for line in lines)


def test_a_single_recording_trains_without_scores(quick, tmp_path: Path) -> None:
    """Its trials are never split: that would score a model on the animal that it was trained on."""
    path = write_small_cache(tmp_path / "cache", recordings=1)
    lines: list[str] = []
    settings = quick(epochs=3, early_stopping_patience=1)
    outcome = stage.train(settings, cache=path, out=tmp_path / "run", say=lines.append)
    assert not outcome.held_out
    assert outcome.best_epoch == 3
    assert any("a single recording cannot be held out" in line for line in lines)
    assert "Val macro F1: none" in lines


def test_without_a_validation_share_the_last_epoch_is_kept(small_cache: Path, quick, tmp_path: Path) -> None:
    lines: list[str] = []
    settings = quick(epochs=3, early_stopping_patience=1, val_share=0.0, encoder="none")
    outcome = stage.train(settings, cache=small_cache, out=tmp_path / "run", say=lines.append)
    assert (outcome.held_out, outcome.best_epoch) == (False, 3)
    assert any(line.startswith("[warning] nothing is held out: there are no validation scores") for line in lines)
    assert not any("single recording" in line or "validation has no frame" in line for line in lines)


def test_unannotated_recordings_train_keypoints_alone(quick, tmp_path: Path) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(6):
            clip = small_clip(i)
            if i % 2:
                clip["labels"] = np.full_like(clip["labels"], -1)
            write_recording(cache, f"mouse_{i}", [clip])
    run(tmp_path / "cache", tmp_path / "run", quick())
    assert np.isfinite(losses(tmp_path / "run")).all()


@pytest.mark.parametrize(
    ("model", "drawn"),
    [({}, 6), ({"model_type": "action_only"}, 2), ({"lambda_kp": 0.0}, 2)],
    ids=["keypoints", "no head", "no loss"],
)
def test_unannotated_clips_are_drawn_only_where_keypoints_are_learned(quick, tmp_path: Path, model, drawn: int) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(4):
            clip = small_clip(i)
            if i < 2:
                clip["labels"] = np.full_like(clip["labels"], -1)
            write_recording(cache, f"mouse_{i}", [clip])
    rows = ["mouse_0,a,train", "mouse_1,b,train", "mouse_2,c,train", "mouse_3,d,val"]
    (tmp_path / "split.csv").write_text("\n".join(["recording,group,part", *rows]) + "\n")
    shares: list[float] = []
    settings = quick(epochs=1, batch_size=1, split_file=str(tmp_path / "split.csv"), **model)
    run(tmp_path / "cache", tmp_path / "run", settings, progress=Bar(tell=shares.append))
    assert shares == [0, *(i / drawn for i in range(1, drawn)), pytest.approx(1, abs=0.01), 1]


def test_a_mirror_swaps_left_and_right(quick, tmp_path: Path) -> None:
    """To flip every sample is to train on the mirrored recordings, in which L_ and R_ keypoints have changed places."""
    swapped = [KEYPOINTS.index(name.translate(str.maketrans("LR", "RL"))) for name in KEYPOINTS]
    for folder, mirrored in (("plain", False), ("mirrored", True)):
        with clip_cache.create(tmp_path / folder) as cache:
            for i in range(4):
                clip = small_clip(i)
                if mirrored:
                    clip["frames"] = clip["frames"][:, :, ::-1]
                    clip["keypoints"] = (clip["keypoints"] * (-1, 1, 1) + (1, 0, 0))[:, swapped].astype(np.float32)
                write_recording(cache, f"mouse_{i}", [clip])
    # Motion features are seen over the mean and spread of what was recorded, which the mirror of a recording has not.
    same = {"kp_jitter_std": 0.0, "pose_features": "graph"}
    run(tmp_path / "plain", tmp_path / "flipped", quick(epochs=1, aug_hflip=1.0, **same))
    run(tmp_path / "mirrored", tmp_path / "run", quick(epochs=1, aug_hflip=0.0, **same))
    shown = [pd.read_csv(tmp_path / name / HISTORY)["shown_loss"].item() for name in ("flipped", "run")]
    assert shown[0] == pytest.approx(shown[1], rel=1e-5)


def test_in_a_mirror_classes_that_name_a_side_are_learned_as_the_other(quick, tmp_path: Path) -> None:
    """A model of before they were is trained anew; one whose classes name no side, or that saw no mirror, is not."""
    sided = ("rest", "turn_left", "turn_right", "walk", "active")
    for name, class_names, aug_hflip, stale in (
        ("sided", sided, 0.5, True),
        ("unseen", sided, 0.0, False),
        ("plain", CLASSES, 0.5, False),
    ):
        cache, out = tmp_path / "cache" / name, tmp_path / name
        write_small_cache(cache, recordings=4, frames=False, class_names=class_names)
        settings = quick(encoder="none", epochs=1, aug_hflip=aug_hflip)
        run(cache, out, settings)
        record = json.loads((out / RECORD).read_text())
        assert any("is up to date" in line for line in run(cache, out, settings))
        (out / RECORD).write_text(json.dumps(record | {"parts": {}}))
        lines = run(cache, out, settings)
        assert (
            any("changed since the last run: version of the code of --aug-hflip: 1 -> 2" in x for x in lines) == stale
        )
        assert any("is up to date" in line for line in lines) != stale


def test_keypoints_that_a_mirror_leaves_on_the_wrong_side_are_named(quick, tmp_path: Path) -> None:
    names = ("mouth", "tail_base", "L_frontpaw", "R_frontpaw", "L_hindpaw", "hind_right")
    classes = ("rest", "turn_left", "lick", "walk", "active")
    path = write_small_cache(tmp_path / "cache", recordings=2, keypoint_names=names, class_names=classes)
    for aug_hflip, said in ((0.5, True), (0.0, False)):
        lines: list[str] = []
        prepare(clip_cache.open(path), quick(aug_hflip=aug_hflip), lines.append)
        assert any("--aug-hflip 0.5" in line and "has L_hindpaw, hind_right;" in line for line in lines) == said
        assert any("--aug-hflip 0.5" in line and "has turn_left, which" in line for line in lines) == said


def test_keypoints_that_the_threshold_takes_away_are_named(small_cache: Path, quick) -> None:
    lines: list[str] = []
    prepare(clip_cache.open(small_cache), quick(kp_likelihood_thr=0.99), lines.append)
    assert any("visible in few frames: mouth " in line and "--kp-likelihood-thr 0.99" in line for line in lines)
    lines.clear()
    prepare(clip_cache.open(small_cache), quick(), lines.append)
    assert not any("visible in few frames" in line for line in lines)


def test_no_labels_at_all_is_refused(quick, tmp_path: Path) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(3):
            clip = small_clip(i)
            clip["labels"] = np.full_like(clip["labels"], -1)
            write_recording(cache, f"mouse_{i}", [clip])
    with pytest.raises(SplitError, match="no labelled frame in the training recordings"):
        run(tmp_path / "cache", tmp_path / "run", quick())


def test_pose_only_recordings_need_encoder_none(quick, tmp_path: Path) -> None:
    path = write_small_cache(tmp_path / "cache", frames=False)
    with pytest.raises(CacheError, match="use --encoder none"):
        run(path, tmp_path / "run", quick())
    lines = run(path, tmp_path / "run", quick(encoder="none"))
    assert any("learns the behaviour alone" in line for line in lines)
    assert any(line.startswith("Val loss: ") and line.endswith("kp: none)") for line in lines)
    assert checkpoint.load(tmp_path / "run" / BEST)["network_config"]["encoder"] == "none"


def test_a_loss_that_is_not_finite_stops_with_a_reason(small_cache: Path, quick, tmp_path: Path) -> None:
    with pytest.raises(loop.TrainingError, match="no longer a finite number"):
        run(small_cache, tmp_path / "run", quick(epochs=6, lr=1e30, grad_clip=0.0, warmup_epochs=0))


def test_train_and_validation_losses_are_computed_alike(quick, tmp_path: Path) -> None:
    """With the same trials in both parts, augmentation and dropout on, both figures are equal."""
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(2):
            write_recording(cache, f"mouse_{i}", [small_clip(5)])
    run(tmp_path / "cache", tmp_path / "run", quick(dropout=0.5, kp_jitter_std=0.2, aug_brightness=0.5))
    history = pd.read_csv(tmp_path / "run" / HISTORY)
    np.testing.assert_allclose(history["train_loss"], history["val_loss"], rtol=1e-5)
    assert (np.abs(history["shown_loss"] - history["train_loss"]) > 1e-3).any()


def test_the_plain_cross_entropy_is_torchs(small_cache: Path, quick, tmp_path: Path) -> None:
    settings = quick(epochs=1)
    run(small_cache, tmp_path / "run", settings)
    data = prepare(clip_cache.open(small_cache), settings, lambda line: None)
    network = load_trained(tmp_path / "run" / BEST).network
    found = []
    for part in (data.train_sample, data.val):
        outputs = [
            infer(network, c, d.xy, d.visible, [(0, len(c))]) for c, d in zip(part.clips, part.data, strict=True)
        ]
        logits = torch.cat([output.logits_BTN for output in outputs])
        labels = torch.from_numpy(np.concatenate(part.labels))
        found.append(torch.nn.functional.cross_entropy(logits[labels >= 0], labels[labels >= 0]).item())
    history = pd.read_csv(tmp_path / "run" / HISTORY)
    assert history[["train_cross_entropy", "val_cross_entropy"]].iloc[0].tolist() == pytest.approx(found, rel=1e-5)


# For every training setting: another value, and what it must change. `losses`: the figures of the run.
CHANGES = {
    "model_type": "action_only", "encoder": "none", "frame_change": False,
    "freeze_encoder_epochs": 2, "encoder_width": 24, "pose_width": 24,
    "pose_features": "motion", "pose_windows": "5,9", "time_input": "clip", "tcn_channels": 24, "tcn_layers": 2,
    "tcn_kernel": 5, "tcn_stride": 3, "refine_stages": 1, "lambda_tmse": 5.0,
    "pose_names": "mouth=tail_base,tail_base=mouth",
    "merge": "none", "train_T": 16, "val_T": 12, "kp_likelihood_thr": 0.97, "val_share": 0.5, "kp_jitter_std": 0.2,
    "aug_brightness": 0.9, "aug_contrast": 0.9, "aug_temporal_drop": 0.5, "aug_hflip": 1.0, "aug_noise_std": 0.3,
    "aug_roll": 0, "rare_threshold_share": 0.5, "focal_gamma": 0.0, "label_smoothing": 0.4, "class_weight_power": 0.0,
    "logit_adjust": 1.0,
    "lambda_kp": 5.0, "lambda_smooth": 0.5, "dropout": 0.6, "head_dropout": 0.6, "weight_decay": 5.0, "lr": 1e-2,
    "min_lr": 1.5e-3, "lr_schedule": "plateau", "warmup_epochs": 2, "grad_clip": 1e-3, "epochs": 3, "batch_size": 2,
    "seed": 9, "use_ema": True, "group_by": "_([ab])$", "aug_kp_drop": 0.3, "view": "animal",
    "aug_stretch": 0.5, "aug_mix": 1.0, "lambda_boundary": 1.0, "patch_size": 8,
    "aug_turn": 90.0,
}  # fmt: skip
# These need others with them to show.
TOGETHER = {
    "view_size": ({"view": "animal"}, 24),
    "view_span": ({"view": "animal"}, 2.0),
    "patch_span": ({"patch_size": 8}, 3.0),
    "patch_keypoints": ({"patch_size": 8}, "mouth"),
    "aug_view_shift": ({"view": "animal"}, 0.4),
    "aug_view_turn": ({"view": "animal"}, 90.0),
    "aug_view_zoom": ({"view": "animal"}, 0.5),
    "rare_boost_cap": ({"rare_threshold_share": 0.5}, 1.0),
    "ema_decay": ({"use_ema": True}, 0.05),  # of so few steps the warm-up has no higher one
    "lr_patience": ({"lr_schedule": "plateau", "lr": 1e-9, "min_lr": 0.0, "epochs": 3, "warmup_epochs": 0}, 0),
    "lr_factor": (
        # So small a rate changes the losses and no label, so that no epoch is better than the first.
        {"lr_schedule": "plateau", "lr": 1e-7, "min_lr": 0.0, "epochs": 4, "lr_patience": 0, "warmup_epochs": 0},
        0.01,
    ),
    "early_stopping_patience": ({"lr": 1e-9, "min_lr": 0.0, "epochs": 4}, 1),
}
ELSEWHERE = {
    "split_file": "test_a_saved_split_is_used",
    "device": "test_a_device_that_is_not_there_is_said",
    "amp": "only on CUDA",
    "decision": "tests/predict/test_models.py",
    "init_from": "tests/train/test_pretrained.py",
    "aug_swap": "test_animals_that_exchange_places_change_the_run",
}


def test_every_setting_has_its_test() -> None:
    assert CHANGES.keys() | TOGETHER.keys() | ELSEWHERE.keys() == vars(TrainSettings()).keys()


@pytest.fixture(scope="session")
def figures(small_cache: Path, quick, tmp_path_factory: pytest.TempPathFactory):
    """Trains with changed settings, each set once; returns the figures of its epochs."""
    made: dict[str, np.ndarray] = {}

    def train(**changes) -> np.ndarray:
        key = repr(sorted(changes.items()))
        if key not in made:
            out = tmp_path_factory.mktemp("run") / "run"
            run(small_cache, out, quick(**changes))
            made[key] = losses(out)
        return made[key]

    return train


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_setting_changes_the_run(figures, name: str) -> None:
    before, after = figures(), figures(**{name: CHANGES[name]})
    assert before.shape != after.shape or not np.array_equal(before, after, equal_nan=True)


@pytest.mark.parametrize("name", TOGETHER)
def test_a_setting_that_needs_another_changes_the_run(figures, name: str) -> None:
    others, value = TOGETHER[name]
    before, after = figures(**others), figures(**others, **{name: value})
    assert before.shape != after.shape or not np.array_equal(before, after, equal_nan=True)


MICE = ("m1_nose", "m1_ear", "m1_tail", "m2_nose", "m2_ear", "m2_tail")


@pytest.fixture(scope="session")
def two_mice(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small cache with keypoints that are named as those of two animals; not to be changed."""
    return write_small_cache(tmp_path_factory.mktemp("mice") / "cache", frames=False, keypoint_names=MICE)


def test_animals_that_exchange_places_change_the_run(two_mice: Path, quick, tmp_path: Path) -> None:
    for name, share in (("off", 0.0), ("on", 1.0)):
        lines = run(two_mice, tmp_path / name, quick(encoder="none", aug_swap=share))
        assert "[info] 2 animals of 3 keypoints each, by their names (m1_nose, m2_nose ...)" in lines
    shown = [pd.read_csv(tmp_path / name / HISTORY)["shown_loss"] for name in ("off", "on")]
    assert (shown[0] != shown[1]).all()


def test_frames_would_still_show_animals_in_their_own_places(small_cache: Path, quick, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        run(small_cache, tmp_path / "run", quick(aug_swap=0.5))
    assert str(caught.value) == (
        "--aug-swap 0.5: the frames would still show each animal in its own place; use it with --encoder none"
    )
    assert not (tmp_path / "run").exists()


def test_settings_of_patches_that_do_nothing_are_named(small_cache: Path, quick) -> None:
    lines: list[str] = []
    prepare(clip_cache.open(small_cache), quick(patch_span=2.0, patch_keypoints="mouth"), lines.append)
    assert "[warning] --patch-size 0: --patch-span, --patch-keypoints does nothing" in lines


@pytest.mark.parametrize(("encoder", "warned"), [("cnn", False), ("none", True)])
def test_a_change_of_frames_that_nothing_is_shown_is_named(small_cache, quick, encoder: str, warned: bool) -> None:
    lines: list[str] = []
    prepare(clip_cache.open(small_cache), quick(frame_change=False, encoder=encoder), lines.append)
    warning = f"[warning] --no-frame-change changes nothing: --encoder {encoder} is shown no changes"
    assert (warning in lines) == warned


@pytest.mark.parametrize(("power", "warned"), [(0.5, True), (0.0, False)])
def test_rare_classes_that_are_made_up_for_twice_are_warned_of(small_cache, quick, power: float, warned: bool) -> None:
    lines: list[str] = []
    prepare(clip_cache.open(small_cache), quick(logit_adjust=1.0, class_weight_power=power), lines.append)
    assert any(line.startswith("[warning] --logit-adjust 1 and --class-weight-power") for line in lines) == warned


def test_a_set_up_without_paws_has_to_name_what_is_looked_at(quick, tmp_path: Path) -> None:
    names = ("nose", "neck", "hip", "tail", "hand", "foot")
    cache = clip_cache.open(write_small_cache(tmp_path / "cache", recordings=2, keypoint_names=names))
    with pytest.raises(SettingsError, match="--patch-keypoints auto: the pose graph lacks L_frontpaw, R_frontpaw, L_"):
        prepare(cache, quick(patch_size=8), lambda line: None)
    made = prepare(cache, quick(patch_size=8, patch_keypoints="hand, foot"), lambda line: None).network_config
    assert (made.patch_size, made.patch_keypoints) == (8, ("hand", "foot"))


def test_training_batches_are_mixed_and_validation_never(small_cache: Path, quick, tmp_path: Path, monkeypatch) -> None:
    shares: list[torch.Tensor] = []

    def seen(features: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
        assert features.requires_grad
        shares.append(share)
        return mixed(features, share)

    monkeypatch.setattr("pipeline.model.network.mixed", seen)
    settings = quick(encoder="none", epochs=1, aug_mix=1.0, batch_size=3)
    run(small_cache, tmp_path / "run", settings)
    data = prepare(clip_cache.open(small_cache), settings, lambda line: None)
    windows = every_window([len(clip) for clip in data.train.clips], settings.train_T)
    sizes = [len(windows[i : i + 3]) for i in range(0, len(windows), 3)]
    assert [len(share) for share in shares] == [size for size in sizes if size > 1]
    assert all(((share >= 0.5) & (share < 1)).any(1).all() for share in shares)


def test_the_graph_without_its_parts_is_refused_and_motion_said(two_mice: Path, quick, tmp_path: Path) -> None:
    with pytest.raises(PoseFeaturesError, match=r"^--pose-features graph: the pose graph lacks mouth, tail_base, L_"):
        run(two_mice, tmp_path / "run", quick(encoder="none", pose_features="graph"))
    assert not (tmp_path / "run").exists()
    for features, said in (("auto", True), ("motion", False)):
        lines: list[str] = []
        prepare(clip_cache.open(two_mice), quick(encoder="none", pose_features=features), lines.append)
        assert any("Motion features, which need no names, are used" in line for line in lines) == said


@pytest.mark.parametrize("extra", [{}, {"use_ema": True}], ids=["", "ema"])
def test_a_motion_models_checkpoint_holds_what_was_fitted_and_predicts_the_same(
    two_mice: Path, quick, tmp_path: Path, extra: dict
) -> None:
    settings = quick(encoder="none", tcn_stride=2, refine_stages=1, time_input="clip", **extra)
    run(two_mice, tmp_path / "run", settings)
    data = prepare(clip_cache.open(two_mice), settings, lambda line: None)
    branch = PoseBranch(pose_set(MICE, {}, "auto", "clip"), 6, 16)
    branch.fit([(clip.xy, clip.visible) for clip in data.train.data])
    assert branch.shape_n2.any()
    for file in (BEST, LAST):
        weights = checkpoint.load(tmp_path / "run" / file)["weights"]
        for name in ("shape_n2", "mean_F", "spread_F"):
            assert torch.equal(weights[f"pose.{name}"], getattr(branch, name))
    trained = load_trained(tmp_path / "run" / BEST)
    balanced = balance(data.class_counts, settings)
    again = evaluate(trained.network, data.val, data.merge.names, balanced, settings)
    best = checkpoint.load(tmp_path / "run" / BEST)
    assert again.scores.as_dict() == best["scores"]
    history = pd.read_csv(tmp_path / "run" / HISTORY)
    assert again.loss == pytest.approx(history["val_loss"].iloc[best["epoch"] - 1], rel=1e-6)


def test_a_saved_split_is_used(small_cache: Path, quick, tmp_path: Path) -> None:
    names = sorted({clip.recording for clip in clip_cache.open(small_cache)})
    rows = [f"{name},{name},{'val' if i == 4 else 'train'}" for i, name in enumerate(names)]
    (tmp_path / "split.csv").write_text("\n".join(["recording,group,part", *rows]) + "\n")
    settings = quick(split_file=str(tmp_path / "split.csv"))
    data = prepare(clip_cache.open(small_cache), settings, print)
    assert {clip.recording for clip in data.val.clips} == {names[4]}


def test_a_split_file_that_was_edited_trains_anew(small_cache: Path, quick, tmp_path: Path) -> None:
    names = sorted({clip.recording for clip in clip_cache.open(small_cache)})
    settings = quick(epochs=1, split_file=str(tmp_path / "split.csv"))
    for held_out in (4, 5):
        rows = [f"{name},{name},{'val' if i == held_out else 'train'}" for i, name in enumerate(names)]
        (tmp_path / "split.csv").write_text("\n".join(["recording,group,part", *rows]) + "\n")
        lines = run(small_cache, tmp_path / "run", settings)
    assert "[info] changed since the last run: what the split file holds" in lines
    assert names[5] in (tmp_path / "run" / "split.csv").read_text().split("val")[0].splitlines()[-1]


def test_a_device_that_is_not_there_is_said(small_cache: Path, quick, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--device cuda:77: not available here"):
        run(small_cache, tmp_path / "run", quick(device="cuda:77"))


def test_merged_classes_are_what_is_learned(small_cache: Path, quick) -> None:
    data = prepare(clip_cache.open(small_cache), quick(), print)
    assert data.merge.names == ("rest", "paw_withdraw", "paw_lick", "walk")
    raw = sum((np.bincount(clip.labels, minlength=5) for clip in data.train.clips), np.zeros(5, int))
    assert data.class_counts.tolist() == [raw[0], raw[1] + raw[3], raw[2], raw[4]]
    assert CLASSES[3] == "paw_guard"


def test_the_time_since_the_entry_changes_the_run(two_mice: Path, quick, tmp_path: Path) -> None:
    with clip_cache.create(tmp_path / "cache") as cache:
        for i in range(4):
            write_recording(cache, f"r{i}", [small_clip(i)], frames=False, keypoint_names=MICE)
    for time_input in ("clip", "entry"):
        run(tmp_path / "cache", tmp_path / time_input, quick(encoder="none", time_input=time_input))
    losses = [pd.read_csv(tmp_path / name / HISTORY)["shown_loss"] for name in ("clip", "entry")]
    assert (losses[0] != losses[1]).all()
    # Two trials of a recording: the entry is in the first one, and the second cannot tell when.
    with pytest.raises(SettingsError, match="--time-input entry: is counted in whole recordings"):
        run(two_mice, tmp_path / "trials", quick(encoder="none", time_input="entry"))


def test_one_animal_has_no_entry(small_cache: Path, quick, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--time-input entry: no recording shows several animals together"):
        run(small_cache, tmp_path / "run", quick(time_input="entry"))
    assert not (tmp_path / "run").exists()
