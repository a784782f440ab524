"""A model of keypoints alone, and one that begins with its encoder."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import cache as clip_cache
from cache import fingerprint
from pipeline import jobs
from pipeline.cluster import IN_PROCESS
from pipeline.console import Bar
from pipeline.cross_validation.stage import cross_validate
from pipeline.model import checkpoint
from pipeline.model.checkpoint import CheckpointError
from pipeline.predict.evaluation import evaluate
from pipeline.predict.models import load_models
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError
from pipeline.train import pretrained, stage
from pipeline.train.followers import Follow
from pipeline.train.run_folder import BEST, HISTORY, LAST, RECORD, SPLIT, RunError
from pipeline.train.split import SplitError, read_split
from pipeline.train_settings import Keep, TrainSettings
from tests_support import SIDE, called, small_clip, write_recording, write_small_cache

QUIET = jobs.HowToTrain(False, False, Keep.AUTO, False, Follow(tensorboard=True))


def run(cache: Path, out: Path, settings: TrainSettings, **options) -> list[str]:
    lines: list[str] = []
    stage.train(settings, cache=cache, out=out, say=lines.append, **options)
    return lines


def weights(run_folder: Path, file: str = BEST) -> dict[str, torch.Tensor]:
    return checkpoint.load(run_folder / file)["weights"]


def encoder_of(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in found.items() if name.startswith("encoder.")}


def write_bare(path: Path, n: int = 4, *, labelled: bool = False, version: str = "1") -> Path:
    """Recordings of one trial each, whose labels nobody made."""
    with clip_cache.create(path) as cache:
        for i in range(n):
            clip = small_clip(i)
            if not labelled:
                clip["labels"] = np.full_like(clip["labels"], -1)
            write_recording(cache, f"mouse_{i}", [clip], version=version)
    return path


def write_split(path: Path, n: int = 4) -> str:
    rows = [f"mouse_{i},mouse_{i},{'val' if i == n - 1 else 'train'}" for i in range(n)]
    path.write_text("\n".join(["recording,group,part", *rows]) + "\n")
    return str(path)


def retrain(path: Path) -> None:
    """Other weights of the encoder, as of a run that was trained anew."""
    content = checkpoint.load(path)
    name = min(encoder_of(content["weights"]))
    content["weights"][name] += 0.01
    checkpoint.save(path, content)


def forget_seen(path: Path) -> None:
    """As a checkpoint was before these held what they have seen."""
    content = checkpoint.load(path)
    del content["seen"]
    checkpoint.save(path, content)


def check(settings: TrainSettings, out: Path, *, resume: bool = False, force: bool = False, **changes) -> None:
    """What `pipeline run` looks at before preprocess, which would make frames as those of the small cache."""
    frames = PreprocessSettings(**({"img_size": SIDE} | changes))
    stage.check(settings, frames, cache=out.with_name("cache"), out=out, resume=resume, force=force)


@pytest.fixture(scope="module")
def keypoints(quick):
    """Settings of a model of keypoints alone."""

    def make(**changes) -> TrainSettings:
        return quick(model_type="keypoints", **changes)

    return make


@pytest.fixture(scope="module")
def former(small_cache: Path, keypoints, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of keypoints alone; not to be changed."""
    out = tmp_path_factory.mktemp("former") / "run"
    run(small_cache, out, keypoints())
    return out


@pytest.fixture(scope="module")
def with_patches(small_cache: Path, quick, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that looks at patches; not to be changed."""
    out = tmp_path_factory.mktemp("with_patches") / "run"
    run(small_cache, out, quick(epochs=1, patch_size=8))
    return out


def test_keypoints_are_learned_without_any_label(keypoints, tmp_path: Path) -> None:
    shares: list[float] = []
    settings = keypoints(epochs=4, batch_size=1, dropout=0.0, head_dropout=0.0, val_share=0.25)
    lines = run(write_bare(tmp_path / "cache"), tmp_path / "run", settings, progress=Bar(tell=shares.append))
    history = pd.read_csv(tmp_path / "run" / HISTORY)
    assert history["val_keypoint_mae"].min() < 0.7 * history["val_keypoint_mae"].iloc[0]
    assert len(shares) == 1 + 4 * (3 * 2 + 1)  # the start; of each epoch both windows of three clips, and its end
    best = checkpoint.load(tmp_path / "run" / BEST)
    assert best["epoch"] == 1 + history["val_keypoint_mae"].idxmin()
    assert f"[info] better model (validation keypoint MAE {history['val_keypoint_mae'].min():.4f})" in "\n".join(lines)


def test_nothing_is_said_of_behaviours(former: Path, small_cache: Path, keypoints, tmp_path: Path) -> None:
    lines = run(small_cache, tmp_path / "run", keypoints(epochs=1))
    assert not any("F1" in line or "action" in line for line in lines)
    assert any(line.startswith("Val keypoint MAE (px): ") for line in lines)
    history = pd.read_csv(former / HISTORY)
    empty = [name for name in history if "f1" in name or "action" in name or "entropy" in name]
    assert len(empty) > 6
    assert history[empty].isna().all(axis=None)
    assert history[["shown_loss", "train_loss", "val_loss", "val_kp_loss", "val_keypoint_mae"]].notna().all(axis=None)
    # The heads of the behaviours are as they began.
    begun, last = weights(tmp_path / "run", LAST), weights(former, LAST)
    assert torch.equal(begun["action.weight"], last["action.weight"])
    assert not torch.equal(begun["keypoints.weight"], last["keypoints.weight"])


def test_labels_change_nothing_that_is_learned(keypoints, tmp_path: Path) -> None:
    settings = keypoints(
        epochs=1, split_file=write_split(tmp_path / "split.csv"), rare_threshold_share=0.5, lambda_smooth=1.0
    )
    for name in ("bare", "labelled"):
        write_bare(tmp_path / name, labelled=name == "labelled")
        run(tmp_path / name, tmp_path / f"{name}_run", settings)
    ours, theirs = weights(tmp_path / "bare_run"), weights(tmp_path / "labelled_run")
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    # Nor is it trained anew where they are corrected, since a file says what is held out.
    record = json.loads((tmp_path / "bare_run" / RECORD).read_text())["recordings"]
    assert all(made_from.keys() == {"frames", "keypoints"} for made_from in record.values())
    again = run(tmp_path / "bare", tmp_path / "bare_run", settings)
    assert again == [f"[info] {tmp_path / 'bare_run'} is up to date (--force trains anew)"]


def test_the_same_recordings_are_held_out_as_with_behaviours(former: Path, small_cache, quick, tmp_path: Path) -> None:
    lines = run(small_cache, tmp_path / "run", quick(epochs=1, init_from=str(former)))
    assert (tmp_path / "run" / "split.csv").read_text() == (former / "split.csv").read_text()
    assert not any("held out here" in line for line in lines)


def test_recordings_that_the_encoder_was_trained_on_are_named_where_they_are_held_out(
    former: Path, small_cache: Path, quick, tmp_path: Path
) -> None:
    table = pd.read_csv(former / "split.csv")
    table["part"] = ["train" if part == "val" else "val" for part in table["part"]]
    table.to_csv(tmp_path / "split.csv", index=False)
    settings = quick(epochs=1, init_from=str(former), split_file=str(tmp_path / "split.csv"))
    (line,) = (line for line in run(small_cache, tmp_path / "run", settings) if "--init-from" in line)
    held_out = sorted(table.loc[table["part"] == "val", "recording"])
    assert line == (
        f"[warning] --init-from: its encoder was trained on {len(held_out)} recordings that are held out here "
        f"({', '.join(held_out[:3])}{f' and {len(held_out) - 3} more' if len(held_out) > 3 else ''}), so scores may be "
        f"too good; hold out the same there and here (--split-file {former / 'split.csv'})"
    )


@pytest.mark.parametrize("use_ema", [False, True], ids=["", "ema"])
def test_a_model_begins_with_the_encoder_that_was_trained(
    former: Path, small_cache: Path, quick, tmp_path: Path, use_ema: bool
) -> None:
    settings = quick(epochs=1, init_from=str(former), freeze_encoder_epochs=1, use_ema=use_ema, ema_decay=0.5)
    lines = run(small_cache, tmp_path / "run", settings)
    assert f"[info] begins with the encoder of {former / BEST}" in lines
    begun, theirs = weights(tmp_path / "run"), weights(former)
    assert encoder_of(begun).keys() == encoder_of(theirs).keys()
    for name, weight in encoder_of(begun).items():
        torch.testing.assert_close(weight, theirs[name], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("patches", "comes_along"),
    [({}, True), ({"patch_span": 2.0}, False), ({"patch_keypoints": "mouth"}, False), ({"patch_size": 0}, None)],
    ids=["alike", "other span", "other keypoints", "none"],
)
def test_what_sees_the_patches_comes_along_where_they_are_alike(
    small_cache: Path, quick, tmp_path: Path, with_patches: Path, patches: dict, comes_along: bool | None
) -> None:
    settings = quick(epochs=1, lr=1e-9, warmup_epochs=0, **{"patch_size": 8, "init_from": str(with_patches)} | patches)
    run(small_cache, tmp_path / "run", settings)
    ours, theirs = weights(tmp_path / "run"), weights(with_patches)
    for name in encoder_of(theirs):
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-6, atol=1e-7)
    found = {name for name in ours if name.startswith("patches.encoder.each") and ours[name].ndim > 1}
    assert bool(found) == (comes_along is not None)
    for name in found:
        assert torch.allclose(ours[name], theirs[name], rtol=1e-6, atol=1e-7) == comes_along


def test_a_run_of_keypoints_alone_looks_at_no_patches(small_cache: Path, keypoints, quick, tmp_path: Path) -> None:
    lines = run(small_cache, tmp_path / "former", keypoints(epochs=1, patch_size=8))
    assert "[warning] --model-type keypoints learns no behaviour: --patch-size does nothing here" in lines
    assert not any(name.startswith("patches.") for name in weights(tmp_path / "former"))
    run(small_cache, tmp_path / "run", quick(epochs=1, patch_size=8, init_from=str(tmp_path / "former")))
    assert any(name.startswith("patches.") for name in weights(tmp_path / "run"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"encoder_width": 24}, "--encoder-width: 16 there, 24 here"),
        ({"view": "animal"}, "--view: full there, animal here"),
        ({"frame_change": False}, "--frame-change: True there, False here"),
        ({"model_type": "action_only"}, "it places keypoints, this one places none (--model-type action_only"),
        ({"encoder": "efficientnet_lite0"}, "--encoder: cnn there, efficientnet_lite0 here"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused(
    former: Path, small_cache: Path, quick, tmp_path: Path, changes: dict, says: str
) -> None:
    if "encoder" in changes:
        pytest.importorskip("efficientnet_lite_pytorch")
    run(small_cache, tmp_path / "run", quick(epochs=1, encoder="none"))
    with pytest.raises(CheckpointError) as caught:
        run(small_cache, tmp_path / "run", quick(epochs=1, init_from=str(former), **changes))
    assert str(caught.value).startswith(f"--init-from {former / BEST}: its encoder does not fit; {says}")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["run"]  # the former run stays where it is


def test_an_encoder_of_before_there_was_frame_change_fits(former: Path, small_cache: Path, quick, tmp_path) -> None:
    path = tmp_path / "before.ckpt"
    content = checkpoint.load(former / BEST)
    del content["network_config"]["frame_change"]
    checkpoint.save(path, content)
    assert pretrained.fingerprint_of(path) == pretrained.fingerprint_of(former / BEST)
    run(small_cache, tmp_path / "run", quick(epochs=1, init_from=str(path)))
    with pytest.raises(CheckpointError, match="--frame-change: True there, False here"):
        run(small_cache, tmp_path / "run", quick(epochs=1, init_from=str(path), frame_change=False))


def test_other_keypoints_and_frames_are_refused(former: Path, quick, tmp_path: Path) -> None:
    names = ("snout", "tail_base", "L_frontpaw", "R_frontpaw", "L_hindpaw", "R_hindpaw")
    others = write_small_cache(tmp_path / "others", recordings=2, keypoint_names=names)
    with pytest.raises(CheckpointError, match=r"keypoints: mouth, tail_base, .* there, snout, tail_base, .* here$"):
        run(others, tmp_path / "run", quick(init_from=str(former)))
    colour = write_small_cache(tmp_path / "colour", recordings=2, channels=3)
    with pytest.raises(CheckpointError, match="channels of the frames: 1 there, 3 here"):
        run(colour, tmp_path / "run", quick(init_from=str(former)))


def test_what_has_no_encoder_is_refused(small_cache: Path, quick, tmp_path: Path) -> None:
    run(small_cache, tmp_path / "pose", quick(epochs=1, encoder="none"))
    with pytest.raises(CheckpointError, match="its model looks at no frames, so it has no encoder to begin with"):
        run(small_cache, tmp_path / "run", quick(init_from=str(tmp_path / "pose")))
    with pytest.raises(CheckpointError, match=r"^--init-from: .*nowhere: no such checkpoint"):
        run(small_cache, tmp_path / "run", quick(init_from=str(tmp_path / "nowhere")))
    with pytest.raises(CheckpointError, match=r"^--init-from: .*nowhere: no such checkpoint"):  # before any preprocess
        check(quick(init_from=str(tmp_path / "nowhere")), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "frames", "says"),
    [
        ({"encoder_width": 24}, {}, "--encoder-width: 16 there, 24 here"),
        ({"view": "animal"}, {}, "--view: full there, animal here"),
        ({"model_type": "action_only"}, {}, "it places keypoints, this one places none (--model-type action_only"),
        ({}, {"channels": 3}, "channels of the frames: 1 there, 3 here"),
        ({}, {"img_size": 64}, "pixels of a frame: 32 there, 64 here"),
    ],
)
def test_an_encoder_that_will_not_fit_is_refused_before_preprocess(
    former: Path, quick, tmp_path: Path, monkeypatch, changes: dict, frames: dict, says: str
) -> None:
    monkeypatch.setattr(jobs, "preprocess", lambda *args, **options: pytest.fail("preprocess began"))
    with pytest.raises(CheckpointError) as caught:
        jobs.run(
            PreprocessSettings(**({"img_size": SIDE} | frames)), quick(init_from=str(former), **changes),
            cache=tmp_path / "cache", out=tmp_path / "run", folders=jobs.Folders(None, None, None),
            how=jobs.How(IN_PROCESS, 60.0), training=QUIET,
        )  # fmt: skip
    assert str(caught.value).startswith(f"--init-from {former / BEST}: its encoder does not fit; {says}")


def test_a_run_that_has_begun_is_asked_for_its_encoder_where_it_will_need_it(
    former: Path, small_cache: Path, quick, tmp_path: Path
) -> None:
    begins, out = tmp_path / "begins", tmp_path / "run"
    shutil.copytree(former, begins)
    settings = quick(epochs=1, init_from=str(begins))
    run(small_cache, out, settings)
    check(settings, out)
    with pytest.raises(CheckpointError, match="pixels of a frame: 32 there, 64 here"):
        check(settings, out, img_size=64)
    shutil.rmtree(begins)
    check(settings, out)
    check(dataclasses.replace(settings, epochs=2), out, resume=True)
    for others in ({"force": True}, {"settings": dataclasses.replace(settings, lr=1e-4)}):
        with pytest.raises(CheckpointError, match="no such checkpoint"):
            check(**({"settings": settings, "out": out} | others))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "keypoints", "encoder": "none"}, "--model-type keypoints: --encoder none looks at no frames"),
        ({"model_type": "keypoints", "lambda_kp": 0.0}, "--model-type keypoints: with --lambda-kp 0 nothing is learn"),
        ({"init_from": "former", "encoder": "none"}, "--init-from former: --encoder none has no encoder to begin with"),
        ({"pose_features": "none", "encoder": "none"}, "--pose-features none: --encoder none leaves nothing to learn"),
        ({"pose_features": "none", "pose_windows": "9"}, "--pose-windows 9: with --pose-features none there is nothi"),
    ],
)
def test_settings_that_leave_nothing_to_do_are_refused(
    small_cache: Path, quick, tmp_path: Path, changes: dict, says: str
) -> None:
    with pytest.raises(SettingsError, match=says):
        run(small_cache, tmp_path / "run", quick(**changes))


def test_no_visible_keypoint_is_refused(keypoints, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="no visible keypoint in the training recordings; lower --kp-likelihood-thr"):
        run(write_bare(tmp_path / "cache"), tmp_path / "run", keypoints(kp_likelihood_thr=1.0))


def test_other_weights_train_anew_and_an_interrupted_run_needs_them_no_more(
    former: Path, small_cache: Path, quick, tmp_path: Path
) -> None:
    begins, out = tmp_path / "begins", tmp_path / "run"
    shutil.copytree(former, begins)
    settings = quick(epochs=3, lr_schedule="plateau", init_from=str(begins))
    run(small_cache, out, settings)
    run(small_cache, tmp_path / "short", dataclasses.replace(settings, epochs=2))
    record = json.loads((out / RECORD).read_text())["init_from"]
    assert record
    shutil.rmtree(begins)
    assert run(small_cache, out, settings) == [f"[info] {out} is up to date (--force trains anew)"]
    assert "[info] goes on after epoch 2" in run(small_cache, tmp_path / "short", settings, resume=True)
    assert json.loads((tmp_path / "short" / RECORD).read_text())["init_from"] == record
    ours, theirs = weights(out, LAST), weights(tmp_path / "short", LAST)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        run(small_cache, out, settings, force=True)

    shutil.copytree(former, begins)
    retrain(begins / BEST)
    longer = dataclasses.replace(settings, epochs=4)
    other = r"--resume: .* was made from something else: the encoder that --init-from names"
    with pytest.raises(RunError, match=other):
        run(small_cache, out, longer, resume=True)
    with pytest.raises(RunError, match=other):  # before any preprocess
        check(longer, out, resume=True)
    assert "[info] changed since the last run: the encoder that --init-from names" in run(small_cache, out, settings)


def test_what_is_not_of_the_encoder_trains_nothing_anew(former: Path, small_cache: Path, quick, tmp_path: Path) -> None:
    begins, out = tmp_path / "begins", tmp_path / "run"
    shutil.copytree(former, begins)
    settings, fresh = quick(epochs=1, init_from=str(begins)), [f"[info] {out} is up to date (--force trains anew)"]
    run(small_cache, out, settings)
    content = checkpoint.load(begins / BEST)
    content["weights"]["action.bias"] += 1
    checkpoint.save(begins / BEST, content | {"decision": {"bias": [0.5], "begin": [2.0]}, "more": 1})
    assert run(small_cache, out, settings) == fresh
    # A record of before holds the fingerprint of the whole file.
    record = json.loads((out / RECORD).read_text())
    (out / RECORD).write_text(json.dumps(record | {"init_from": fingerprint.of_file(begins / BEST)}))
    assert run(small_cache, out, settings) == fresh
    retrain(begins / BEST)
    assert "[info] changed since the last run: the encoder that --init-from names" in run(small_cache, out, settings)


def test_status_tells_what_has_become_of_the_encoder(former: Path, small_cache: Path, quick, tmp_path: Path) -> None:
    begins, out, none = tmp_path / "begins", tmp_path / "run", tmp_path / "none"
    shutil.copytree(former, begins)
    none.mkdir()
    (none / "a.mp4").write_bytes(b"")
    run(small_cache, out, quick(epochs=1, init_from=str(begins)))

    def said() -> str:
        return called("status", "--cache", small_cache, "--videos", none, "--out", out).stdout

    assert f"{out} is up to date" in said()
    retrain(begins / BEST)
    assert f"{out} is stale: the encoder that --init-from names" in said()
    (begins / BEST).write_bytes(b"damaged")
    assert f"{out} is stale: --init-from: {begins / BEST}: holds something else than tensors" in said()
    shutil.rmtree(begins)
    missing = said()
    assert f"{out} began with the encoder of {begins}, which is missing: training it anew would need it" in missing
    assert f"{out} is up to date" in missing
    (out / LAST).unlink()  # as a kill in the first epoch leaves it
    assert f"{out} is stale: the encoder of {begins} is missing, and no epoch is done yet" in said()


def test_status_tells_of_older_code(small_cache: Path, quick, tmp_path: Path) -> None:
    out, none = tmp_path / "run", tmp_path / "none"
    none.mkdir()
    (none / "a.mp4").write_bytes(b"")
    run(small_cache, out, quick(epochs=1, encoder="none"))
    record = json.loads((out / RECORD).read_text())
    (out / RECORD).write_text(json.dumps(record | {"code": 1}))
    said = called("status", "--cache", small_cache, "--videos", none, "--out", out).stdout
    assert f"{out} is stale: version of the training code: 1 -> " in said


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", {"rec_1A"}),
        ("_([0-9])", {"rec_1A", "rec_1B"}),
        ("mouse", {"rec_1A"}),
        ("_([0-9])[AB]$", {"rec_1A", "rec_1B"}),
    ],
    ids=["recordings", "animals", "names that tell no animal", "animals, by all of the name"],
)
def test_other_recordings_of_an_animal_that_was_seen_are_known(pattern: str, found: set[str]) -> None:
    seen = {"rec_1A", "rec_3A", "another"}
    assert pretrained.known(["rec_1A", "rec_1B", "rec_2B", "elsewhere"], seen, pattern) == found


def test_animals_that_an_encoder_has_seen_are_not_tested(keypoints, quick, tmp_path: Path) -> None:
    """The tested recordings are others, but of the animals that the encoder was trained on."""
    for day in (1, 2):
        with clip_cache.create(tmp_path / f"day{day}") as cache:
            for i, animal in enumerate("abcd"):
                write_recording(cache, f"{animal}_{day}", [small_clip(i)])
    run(tmp_path / "day1", tmp_path / "former", keypoints(epochs=1, val_share=0.0))
    settings = quick(init_from=str(tmp_path / "former"), epochs=1)
    with pytest.raises(SettingsError, match=r"was trained on animals of 4 recordings .* pretrain on other animals"):
        cross_validate(
            dataclasses.replace(settings, group_by="^(.)"), cache=tmp_path / "day2", out=tmp_path / "cv", n_folds=2
        )
    assert not (tmp_path / "cv").exists()
    lines = run(tmp_path / "day2", tmp_path / "run", dataclasses.replace(settings, group_by="^(.)"))
    assert [line for line in lines if line.startswith("[warning] --init-from: its encoder was trained on animals of ")]
    lines = run(tmp_path / "day2", tmp_path / "blind", settings)
    assert not [line for line in lines if line.startswith("[warning] --init-from")]


def test_damaged_words_of_what_was_seen_are_an_error_of_the_file(former: Path, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "model.pt", checkpoint.load(former / BEST) | {"seen": {"x": 1}})
    with pytest.raises(CheckpointError, match="what it says of the recordings that it has seen is damaged"):
        pretrained.seen_by(tmp_path / "model.pt")


def test_it_cannot_be_asked_for_behaviours(former: Path, small_cache: Path, keypoints, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"trained on keypoints alone .* `pipeline train --init-from .*`$"):
        load_models([former])
    with pytest.raises(SettingsError, match="names no behaviour to score in cross-validation"):
        cross_validate(keypoints(), cache=small_cache, out=tmp_path / "cv")


@pytest.mark.parametrize("val_share", [0.34, 0.0])
def test_the_command_says_how_far_off_the_keypoints_are(
    small_cache: Path, keypoints, tmp_path: Path, capsys: pytest.CaptureFixture[str], val_share: float
) -> None:
    out = tmp_path / "run"
    settings = keypoints(epochs=1, val_share=val_share)
    assert jobs.train(settings, cache=small_cache, out=out, how=QUIET) == jobs.DONE
    said, page = capsys.readouterr().out, (out / "report.html").read_text(encoding="utf-8")
    assert "F1" not in said.replace("macro F1 or", "")
    assert "was trained on keypoints alone" in page
    if val_share:
        px = checkpoint.load(out / BEST)["scores"]["keypoint_mae_px"]
        assert f"{px:.2f} px of the video, on 4 trials" in said
        assert f"{px:.2f} px of the video" in page


def test_a_file_without_a_split_beside_it_is_taken_as_it_is(
    former: Path, small_cache: Path, quick, tmp_path: Path
) -> None:
    shutil.copy(former / BEST, tmp_path / "encoder.pt")
    forget_seen(tmp_path / "encoder.pt")
    lines = run(small_cache, tmp_path / "run", quick(epochs=1, init_from=str(tmp_path / "encoder.pt")))
    assert "[warning] --init-from: nothing tells what its encoder was trained on, so scores may be too good" in lines
    assert pretrained.seen_by(tmp_path / "run" / BEST) is None
    assert evaluate([tmp_path / "run"], cache=small_cache, on="all").n_known is None
    config, found = pretrained.read(tmp_path / "encoder.pt")
    assert config["encoder"] == "cnn"
    assert found.keys() == encoder_of(weights(former)).keys()


def test_what_the_encoder_has_seen_is_never_called_unseen(former: Path, small_cache: Path, quick, tmp_path) -> None:
    run(write_bare(tmp_path / "other", labelled=True), tmp_path / "run", quick(epochs=1, init_from=str(former)))
    seen = read_split(former / SPLIT)
    assert {*seen.train, *seen.val} <= pretrained.seen_by(tmp_path / "run" / BEST)
    scored = evaluate([tmp_path / "run"], cache=small_cache, on="all")
    assert scored.n_known == scored.n_recordings == 6
    with pytest.raises(SettingsError, match="was trained on 6 recordings that are tested here"):
        cross_validate(quick(init_from=str(former)), cache=small_cache, out=tmp_path / "cv")
    assert not (tmp_path / "cv").exists()


@pytest.mark.parametrize("old", [False, True], ids=["", "checkpoints of before"])
def test_what_the_encoder_has_seen_stays_known(former: Path, keypoints, quick, tmp_path: Path, old: bool) -> None:
    """Of a chain of three runs, the first two of which are moved and deleted."""
    split, known = read_split(former / SPLIT), {"mouse_0", "mouse_1", "mouse_2", "mouse_3"}
    first, second, out = tmp_path / "first", tmp_path / "second", tmp_path / "run"
    shutil.copytree(former, first)
    cache = write_bare(tmp_path / "cache", labelled=True)
    run(cache, second, keypoints(epochs=1, init_from=str(first)))
    if old:
        for path in (first / BEST, second / BEST, second / LAST):
            forget_seen(path)
        assert pretrained.seen_by(second / BEST) == {*split.train, *split.val, *known}
        # What is gone on with learns it from the files that are still there.
        run(cache, second, keypoints(epochs=2, init_from=str(first)), resume=True)
    shutil.rmtree(first)
    second.rename(tmp_path / "moved")
    run(cache, out, quick(epochs=1, init_from=str(tmp_path / "moved")))
    shutil.rmtree(tmp_path / "moved")
    shutil.copy(out / LAST, tmp_path / "alone.pt")
    for path in (out / BEST, tmp_path / "alone.pt"):
        assert pretrained.seen_by(path) == {*split.train, *split.val, *known}
        own = {*read_split(out / SPLIT).train}
        assert {*split.train, *own} <= pretrained.seen_by(path, chosen_by=False) < {*split.train, *split.val, *known}
    seen = torch.load(out / BEST, weights_only=True)["seen"]
    assert seen.keys() == {"trained_on", "chosen_by"}


def test_folds_that_an_encoder_does_not_fit_are_not_begun(former: Path, quick, tmp_path: Path) -> None:
    names = ("snout", "tail_base", "L_frontpaw", "R_frontpaw", "L_hindpaw", "R_hindpaw")
    others = write_small_cache(tmp_path / "others", recordings=2, keypoint_names=names)
    for settings, says in (({}, "keypoints: mouth, .* there, snout"), ({"encoder_width": 24}, "--encoder-width: 16")):
        with pytest.raises(CheckpointError, match=f"its encoder does not fit; {says}"):
            cross_validate(quick(init_from=str(former), **settings), cache=others, out=tmp_path / "cv", n_folds=2)
    assert not (tmp_path / "cv").exists()


def test_a_run_cannot_begin_with_itself(small_cache: Path, quick, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(RunError, match=r"lies in --out .*, which this run replaces"):
        run(small_cache, out, quick(init_from=str(out / BEST)))


def test_settings_of_behaviours_are_named_as_idle(small_cache: Path, keypoints, tmp_path: Path) -> None:
    lines = run(small_cache, tmp_path / "run", keypoints(epochs=1, lambda_boundary=0.1, refine_stages=1))
    idle = "--lambda-boundary, --refine-stages"
    assert f"[warning] --model-type keypoints learns no behaviour: {idle} does nothing here" in lines
