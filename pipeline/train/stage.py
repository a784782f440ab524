"""Training: a cache in, a run folder out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cache as clip_cache
from cache import Place, fingerprint
from pipeline.console import Bar
from pipeline.held import held, refuse_busy
from pipeline.model import checkpoint
from pipeline.model.encoder import make_encoder
from pipeline.model.infer import pick_device
from pipeline.model.mirror import flip_pairs
from pipeline.preprocess_settings import PreprocessSettings
from pipeline.setting_texts import SettingsError, parse_list
from pipeline.train import pretrained
from pipeline.train.check_settings import check_settings
from pipeline.train.data import TrainingData, prepare
from pipeline.train.decide import decide_run
from pipeline.train.followers import NOBODY, Follow, Followed, check_follow, followers
from pipeline.train.labels import make_merge
from pipeline.train.loop import Loop, Say
from pipeline.train.profile import TRACE
from pipeline.train.ranks import check_ranks, world
from pipeline.train.run_folder import (
    BEST,
    LAST,
    SPLIT,
    RunError,
    RunRecord,
    check_folder,
    goes_on,
    is_up_to_date,
    made_from,
    read_record,
    refuse_others,
    would_go_on,
    write_record,
)
from pipeline.train.split import Split, read_split, save_split
from pipeline.train_settings import Keep, TrainSettings

# Raised when a change to the training code changes what comes out of the same cache and settings.
TRAIN_VERSION = 4
# The same of what only runs with a setting use: the others are not trained anew.
# 2: where a window is rolled no begin of a bout is learned.
BOUNDARY_VERSION = 2
# 2: in a mirror classes that name a side change places too.
MIRROR_VERSION = 2


@dataclass(frozen=True)
class Outcome:
    """state: trained, or fresh (nothing had to be done). best: the checkpoint with the best validation macro F1, or
    keypoint error of a model that learns keypoints alone.

    held_out: whether there were recordings to validate on; without, best is the last epoch's checkpoint.
    """

    state: str
    best: Path
    best_epoch: int
    scores: dict[str, Any]
    held_out: bool


def train(
    settings: TrainSettings,
    *,
    cache: Place,
    out: Path,
    resume: bool = False,
    force: bool = False,
    keep: Keep = Keep.AUTO,
    profile: bool = False,
    follow: Follow = NOBODY,
    say: Say = print,
    progress: Bar | None = None,
) -> Outcome:
    """Trains on the cache and writes checkpoints, history, split and record into `out`.

    An up-to-date run is left alone, an interrupted one goes on where it was; a run of other settings or data is moved
    to OUT.old-N first. keep: where frames stay between epochs; profile: trace some steps of the first epoch that is
    trained, into OUT/profile.json; follow: what is told of every epoch. None of the three changes what is learned.
    Under torchrun the ranks share each batch; the first one alone speaks, and writes what is in `out`.
    Raises RunError, BusyError where another process is at work in `out`, TrainingError, and the errors of the cache,
    the split and the settings.
    """
    check_ranks(settings)
    with world(settings.device) as ranks, ExitStack() as until_done:
        if not ranks.leads:
            say, progress, follow, profile = _unheard, None, NOBODY, False
        ranks.first(lambda: check_folder(out, dataclasses.asdict(settings), cache=cache, resume=resume, force=force))
        ranks.first(lambda: check_follow(follow))
        clips = ranks.each(lambda: clip_cache.open(cache))
        ranks.first(lambda: until_done.enter_context(held(out, say)))
        record = ranks.first(lambda: _record_of(settings, clips, out))
        if ranks.size > 1:
            ranks.each(lambda: _check_same(record, _record_of(settings, clips, out)))
        if not force and ranks.first(lambda: is_up_to_date(out, record)):
            say(f"[info] {out} is up to date (--force trains anew)")
            return ranks.first(lambda: _outcome("fresh", out))
        data = ranks.each(lambda: prepare(clips, settings, say))
        trace = out / TRACE if profile else None
        # Before a run is moved: a wrong --encoder or --device is found here.
        begins_with = None
        if settings.init_from and not ranks.first(lambda: would_go_on(out, record, resume=resume, force=force)):
            begins_with = pretrained.checkpoint_of(settings.init_from)
        loop = ranks.each(lambda: Loop(settings, data, out, say, progress or Bar(), keep, trace, ranks, begins_with))
        if begins_with:
            pretrained.say_begun(begins_with, data.split, settings.group_by, say)
        if ranks.first(lambda: _begin(out, record, data.split, resume=resume, force=force, say=say)):
            ranks.each(loop.load)
            done = ranks.first(lambda: len(loop.history))
            ranks.each(lambda: _check_as_far(out, done, len(loop.history)))
        run = Followed(out, record.settings, data.merge.names, data.val.clips, tuple(loop.history))
        with followers(follow, run, say) as told:
            loop.run(told)
        return ranks.first(lambda: _finish(settings, loop.data, out, record, say))


def _begin(out: Path, record: RunRecord, split: Split, *, resume: bool, force: bool, say: Say) -> bool:
    """Makes the folder ready, and says whether the run in it is gone on with."""
    going_on = goes_on(out, record, resume=resume, force=force, say=say)
    out.mkdir(parents=True, exist_ok=True)
    write_record(out, record)
    save_split(split, out / SPLIT)
    return going_on


def _check_same(record: RunRecord, own: RunRecord) -> None:
    """Raises RunError where a rank would learn from something else than the first, as of a network drive that lags."""
    if differences := record.differences(own):
        raise RunError(f"this rank does not train on what the first one does: {'; '.join(differences)}; start again")


def _check_as_far(out: Path, first: int, own: int) -> None:
    if own != first:
        raise RunError(f"{out / LAST}: has {own} epochs for this rank and {first} for the first; start again")


def _finish(settings: TrainSettings, data: TrainingData, out: Path, record: RunRecord, say: Say) -> Outcome:
    if settings.learns_behaviour:
        decide_run(settings, data, out / BEST, say)
    write_record(out, dataclasses.replace(record, finished=True))
    return _outcome("trained", out)


def _unheard(line: str) -> None:
    """What the ranks but the first say."""


def check(
    settings: TrainSettings,
    preprocess: PreprocessSettings,
    *,
    cache: Place,
    out: Path,
    resume: bool,
    force: bool,
    follow: Follow = NOBODY,
) -> None:
    """All that can be found wrong before there is a cache, so that hours of preprocess are not spent in vain.

    preprocess: the settings that will make the cache. Raises what `train` would.
    """
    check_folder(out, dataclasses.asdict(settings), cache=cache, resume=resume, force=force)
    refuse_busy(out)
    check_follow(follow)
    check_settings(settings, parse_list(preprocess.classes, "classes"))
    if settings.init_from:
        _check_begun(settings, preprocess, out, resume=resume, force=force)
    pick_device(settings.device)
    side = preprocess.img_size if settings.view == "full" else settings.view_size
    make_encoder(settings.encoder, preprocess.channels, settings.encoder_width, 0, side)


def _check_begun(
    settings: TrainSettings, preprocess: PreprocessSettings, out: Path, *, resume: bool, force: bool
) -> None:
    """Raises CheckpointError for an encoder that is needed and does not fit, RunError where --resume has another."""
    begun = False
    if former := None if force else read_record(out):
        classes = parse_list(preprocess.classes, "classes")
        record = _record(settings, former.recordings, classes, out)  # as if preprocess changed none
        if resume:
            refuse_others(out, former.differences(record))
        begun = would_go_on(out, record, resume=resume, force=False) or is_up_to_date(out, record)
    # Of a run that has begun too, while it is there: other frames make another run, which would need it.
    if not begun or pretrained.checkpoint_of(settings.init_from).is_file():
        pretrained.check(settings, channels=preprocess.channels, img_size=preprocess.img_size)


def record_now(former: RunRecord, clips: clip_cache.Cache, out: Path) -> RunRecord:
    """The record that the run in `out`, made by `former`, would have if it were trained now. Raises CheckpointError."""
    names = {field.name for field in dataclasses.fields(TrainSettings)}
    settings = TrainSettings(**{name: value for name, value in former.settings.items() if name in names})
    return dataclasses.replace(_record_of(settings, clips, out), settings=former.settings)


def _record_of(settings: TrainSettings, clips: clip_cache.Cache, out: Path) -> RunRecord:
    recordings = made_from(dataclasses.asdict(settings), clips.recordings)
    return _record(settings, recordings, clips.class_names, out)


def _record(
    settings: TrainSettings, recordings: dict[str, dict[str, str]], class_names: Sequence[str], out: Path
) -> RunRecord:
    split_file = Path(settings.split_file)
    return RunRecord(
        settings=dataclasses.asdict(settings),
        recordings=recordings,
        init_from=pretrained.fingerprint_now(settings.init_from, read_record(out)),
        code=TRAIN_VERSION,
        split_file=fingerprint.of_file(split_file) if split_file.is_file() else "",
        parts=parts_used(settings, class_names),
    )


def parts_used(settings: TrainSettings, class_names: Sequence[str]) -> dict[str, int]:
    """RunRecord.parts: of what this training uses of all that has a version of its own."""
    parts = {}
    if _learns_rolled_begins(settings):
        parts["lambda-boundary"] = BOUNDARY_VERSION
    if settings.aug_hflip > 0 and _names_sides(settings, class_names):
        parts["aug-hflip"] = MIRROR_VERSION
    return parts


def _names_sides(settings: TrainSettings, class_names: Sequence[str]) -> bool:
    """Whether behaviours are learned that change places in a mirror."""
    with suppress(SettingsError):  # a merge of classes that are there no more is refused elsewhere
        class_names = make_merge(class_names, settings.merge).names
    return settings.learns_behaviour and bool(flip_pairs(class_names))


def _learns_rolled_begins(settings: TrainSettings) -> bool:
    return settings.lambda_boundary > 0 and settings.aug_roll > 0 and settings.learns_behaviour


def _outcome(state: str, out: Path) -> Outcome:
    best = checkpoint.load(out / BEST)
    return Outcome(state, out / BEST, best["epoch"], best["scores"], bool(read_split(out / SPLIT).val))
