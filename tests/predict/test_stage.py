"""What the tables say of a clip, in the frames of its trial and the pixels of its video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import cache as clip_cache
from pipeline.model.network import Network, NetworkConfig
from pipeline.model.trained import Trained
from pipeline.predict.evaluation import EvaluateError, evaluate
from pipeline.predict.exports import bout_table, trial_table
from pipeline.predict.stage import predict_clip
from pipeline.train import stage
from pipeline.train.split import Split, save_split
from tests_support import CLASSES, KEYPOINTS, N_FRAMES, SIDE, small_clip, write_recording, write_small_cache


def trained_to_say(quick, class_id: int, xy: tuple[float, float]) -> Trained:
    """A model that says one class, and one place of the padded square for every keypoint."""
    sizes = {"img_size": SIDE, "encoder_width": 16, "tcn_channels": 16}
    network = Network(NetworkConfig(n_classes=len(CLASSES), keypoint_names=KEYPOINTS, **sizes)).eval()
    with torch.no_grad():
        for head in (network.action, network.keypoints):
            head.weight.zero_()
        # Without scores of its own the encoder sees every keypoint in the middle of the picture.
        network.encoder.pooling.keypoints[-1].weight.zero_()
        network.action.bias.copy_(torch.arange(len(CLASSES)) == class_id)
        network.keypoints.bias.copy_(torch.tensor(xy).logit().repeat(len(KEYPOINTS)))
    counts = np.ones(len(CLASSES), np.int64)
    return Trained(network, CLASSES, CLASSES, np.arange(len(CLASSES)), counts, {}, vars(quick()))


@pytest.fixture
def cropped(tmp_path: Path) -> clip_cache.Clip:
    """The second trial of a recording of 64 x 48 px; it begins at frame 15 of its trial."""
    with clip_cache.create(tmp_path / "cache") as cache:
        write_recording(cache, "mouse", [small_clip(0), small_clip(1)], crop_start=15)
    return clip_cache.open(tmp_path / "cache")[1]


def test_keypoints_are_in_pixels_of_the_original_video(quick, cropped: clip_cache.Clip) -> None:
    """The picture of 64 x 48 px is rows 4 to 27 of the square of 32 px: row 8 there is row 8 of the video."""
    trained = trained_to_say(quick, 0, (0.75, 0.25))
    table = trial_table(predict_clip(trained, cropped), trained.class_names)
    for name in KEYPOINTS:
        np.testing.assert_allclose(table[f"{name}_x"], 0.75 * 64, atol=0.01)
        np.testing.assert_allclose(table[f"{name}_y"], (0.25 * 32 - 4) * 2, atol=0.01)


def test_a_cropped_trial_counts_its_frames_from_the_crop_on(quick, cropped: clip_cache.Clip) -> None:
    trained = trained_to_say(quick, 2, (0.5, 0.5))
    prediction = predict_clip(trained, cropped)
    table = trial_table(prediction, trained.class_names)
    assert table["Frame"].tolist() == list(range(15, 15 + N_FRAMES))
    assert table["VideoFrame"].tolist() == list(range(N_FRAMES, 2 * N_FRAMES))
    bouts = bout_table([prediction], trained.class_names)
    columns = ["trial", "action", "start_frame", "stop_frame", "start_video_frame"]
    assert bouts[columns].to_numpy().tolist() == [[2, "paw_lick", 15, 15 + N_FRAMES, N_FRAMES]]


def test_a_run_that_held_nothing_out_is_scored_on_all_or_not_at_all(quick, tmp_path: Path) -> None:
    cache = write_small_cache(tmp_path / "cache", recordings=1)
    best = stage.train(quick(epochs=1), cache=cache, out=tmp_path / "run", say=lambda line: None).best
    with pytest.raises(EvaluateError, match=r"run: this run has no held-out recordings to score; --on all scores all"):
        evaluate([best], cache=cache)
    assert evaluate([best], cache=cache, on="all", out=tmp_path / "scored").n_recordings == 1
    with pytest.raises(EvaluateError, match=r"run: this run has no test recordings to score; --on all scores all"):
        evaluate([best], cache=cache, on="test")
    with pytest.raises(EvaluateError, match=r"--on train: expected val, test or all"):
        evaluate([best], cache=cache, on="train")
    assert pd.read_csv(tmp_path / "run" / "history.csv")["val_macro_f1"].isna().all()
    assert (tmp_path / "scored" / "pictures" / "learning_curves.png").exists()


def test_the_test_recordings_of_the_split_are_scored(small_cache: Path, quick, tmp_path: Path) -> None:
    names = sorted({clip.recording for clip in clip_cache.open(small_cache)})
    save_split(Split(tuple(names[2:]), (), {name: name for name in names}, tuple(names[:2])), tmp_path / "split.csv")
    settings = quick(epochs=1, encoder="none", split_file=str(tmp_path / "split.csv"))
    best = stage.train(settings, cache=small_cache, out=tmp_path / "run", say=lambda line: None).best
    scored = evaluate([best], cache=small_cache, on="test", out=tmp_path / "test")
    assert [clip.recording for clip in scored.clips] == [name for name in names[:2] for _ in range(2)]
    for logits, trial in zip(scored.model.logits, scored.model.trials, strict=True):
        assert (logits.dtype, logits.shape) == (np.float32, (N_FRAMES, 4))
        np.testing.assert_array_equal(logits.argmax(-1), trial.pred)
