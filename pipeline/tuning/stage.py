"""Tuning: cross-validation of one set of settings after the other, chosen by what the former ones scored (Optuna)."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import cache as clip_cache
from cache import Place
from pipeline.cluster import IN_PROCESS, Cluster
from pipeline.console import Bar
from pipeline.cross_validation.stage import check_begun, cross_validate
from pipeline.held import BusyError, held
from pipeline.setting_texts import SettingsError
from pipeline.settings_given import checked
from pipeline.train import pretrained
from pipeline.train.followers import NOBODY, Follow, check_follow
from pipeline.train.run_folder import PLACE_SETTINGS, RunError, holds_files, with_defaults, write_text
from pipeline.train.stage import TRAIN_VERSION, parts_used
from pipeline.train_settings import Keep, TrainSettings
from pipeline.tuning.search import Range, Search

if TYPE_CHECKING:
    import optuna

STUDY, BEST = "study.db", "best.toml"
# A trial that goes on with what an interrupted one left has another number, and its folder.
_FOLDER = "folder"
_RECORDINGS, _ENCODERS = "recordings", "encoders"


@dataclass(frozen=True)
class Trial:
    """score: mean over folds of test macro F1, None with the reason where a fold failed."""

    number: int
    folder: str
    changed: dict[str, Any]
    score: float | None
    reason: str = ""


def tune(
    settings: TrainSettings,
    *,
    cache: Place,
    out: Path,
    n_trials: int,
    n_folds: int,
    search: Search,
    cluster: Cluster = IN_PROCESS,
    keep: Keep = Keep.AUTO,
    follow: Follow = NOBODY,
    progress: Bar | None = None,
) -> list[Trial]:
    """Until n_trials are finished, those of former calls among them; all finished trials, the best first.

    settings: what is not searched. Writes OUT/study.db, OUT/trial-<n> and, once a trial has a score, OUT/best.toml.
    Raises SettingsError without Optuna, RunError for a folder of something else, BusyError where another process is at
    work in it, CheckpointError where an encoder of --init-from fits not all that is searched, and what cross_validate
    does.
    """
    optuna = _optuna()
    check_follow(follow)
    progress = progress or Bar()
    if holds_files(out) and not (out / STUDY).exists():
        raise RunError(f"--out {out}: holds files that are not of a tuning; choose an empty or a new folder")
    encoders = _encoders(settings, search, cache, begun=(out / STUDY).exists())
    with held(out):
        out.mkdir(parents=True, exist_ok=True)
        study = optuna.create_study(
            study_name="tune", storage=f"sqlite:///{(out / STUDY).resolve()}", direction="maximize", load_if_exists=True
        )
        _check_same(study, settings, search, n_folds, cache, encoders)
        _take_up(study)
        progress.found_done("trials", len(_finished(study)), n_trials)
        while len(_finished(study)) < n_trials:
            # Another seed each time: a sampler that was made anew would draw again what it drew first.
            study.sampler = optuna.samplers.TPESampler(seed=(settings.seed + len(study.trials)) % 2**32)
            trial = study.ask()
            changed = {name: _suggest(trial, name, entry) for name, entry in search.items()}
            folder = trial.user_attrs.get(_FOLDER, f"trial-{trial.number}")
            trial.set_user_attr(_FOLDER, folder)
            print(f"Trial {len(_finished(study)) + 1}/{n_trials} in {folder}: {_text(changed)}", flush=True)
            # The score is that of the arg-max: no decision layer is fitted.
            tried = dataclasses.replace(settings, **changed, decision=False)
            _score(
                study, trial, tried, cache=cache, out=out / folder, n_folds=n_folds, cluster=cluster, keep=keep,
                follow=follow, progress=progress.below,
            )  # fmt: skip
            _write_best(study, settings, out)
            progress("trials", len(_finished(study)), n_trials)
        return _trials(study)


def _score(study: optuna.Study, trial: optuna.Trial, settings: TrainSettings, **how: Any) -> None:
    """Cross-validates and tells the study the score, or notes why there is none. how: as cross_validate has it.

    Raises BusyError where another process is at work in a fold's folder: that says nothing of the trial.
    """
    try:
        found = cross_validate(checked(settings), **how)
    except SettingsError as error:  # of these values together; asked for again they would fail again
        reason = str(error)
    else:
        if found.summary and not found.failed:
            study.tell(trial, found.summary.macro.mean)
            return
        if busy := [failed for failed in found.failed if failed.busy]:
            raise BusyError(busy[0].reason)  # the next call asks for the trial again
        reason = f"fold {found.failed[0].fold}: {found.failed[0].reason}"
    trial.set_user_attr("reason", reason)
    study.tell(trial, state=_optuna().trial.TrialState.FAIL)


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise SettingsError("pipeline tune needs Optuna: pip install 'paw-pipeline[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _encoders(settings: TrainSettings, search: Search, cache: Place, *, begun: bool) -> dict[str, str]:
    """Fingerprints of the encoders that trials begin with, by what --init-from names, but for those that are gone.

    Raises what `check_begun` does, of all that the search may try together.
    """
    names = [name for name in search if name == "init_from" or name in pretrained.SHAPED_BY]
    clips = clip_cache.open(cache)
    found = {}
    for values in itertools.product(*(_values(search[name]) for name in names)):
        tried = dataclasses.replace(settings, **dict(zip(names, values, strict=True)))
        check_begun(tried, clips, begun=begun)
        if tried.init_from and (path := pretrained.checkpoint_of(tried.init_from)).is_file():
            found[tried.init_from] = pretrained.fingerprint_of(path)
    return found


def _values(entry: Range | tuple[Any, ...]) -> tuple[Any, ...]:
    """All choices, or the two ends of a range."""
    return (entry.low, entry.high) if isinstance(entry, Range) else entry


def _check_same(
    study: optuna.Study,
    settings: TrainSettings,
    search: Search,
    n_folds: int,
    cache: Place,
    encoders: dict[str, str],
) -> None:
    """Scores of other settings, folds, ranges, encoders or recordings are not to be compared. Raises RunError."""
    base = {
        name: value for name, value in dataclasses.asdict(settings).items() if name not in PLACE_SETTINGS | {*search}
    }
    space = {name: vars(entry) if isinstance(entry, Range) else list(entry) for name, entry in search.items()}
    given = {"settings": base, "search": space, "folds": n_folds, _RECORDINGS: _recordings(cache)}
    given["versions of the code"] = _code(settings, search, clip_cache.open(cache).class_names)
    given[_ENCODERS] = study.user_attrs.get(_ENCODERS, {}) | encoders
    why = {
        _RECORDINGS: f"{cache} is not what the study's trials were scored on: recordings came, went or changed",
        _ENCODERS: "the encoder that --init-from names is not the one that the study's trials began with",
    }
    for name, value in json.loads(json.dumps(given)).items():
        former = study.user_attrs.get(name, value)
        if name == "settings":
            former = {key: was for key, was in with_defaults(former).items() if key in value or key in former}
        if former != value:
            raise RunError(f"{why.get(name) or _said_other(name, former, value)}; use another --out")
        study.set_user_attr(name, value)


def _said_other(what: str, former: Any, value: Any) -> str:
    if isinstance(former, dict):
        names = sorted(name for name in former.keys() | value.keys() if former.get(name) != value.get(name))
        former = ", ".join(f"{name} {former.get(name, '-')} (now {value.get(name, '-')})" for name in names)
    return f"the study was made with other {what}: {former}"


def _code(settings: TrainSettings, search: Search, class_names: Sequence[str]) -> dict[str, int]:
    """Versions of the code that trials are trained by."""
    # What is searched may be on in any trial.
    on: dict[str, Any] = {name: 1.0 for name in ("lambda_boundary", "aug_hflip") if name in search}
    return {"training": TRAIN_VERSION} | parts_used(dataclasses.replace(settings, aug_roll=1, **on), class_names)


def _recordings(cache: Place) -> str:
    """One hash of all that the cache's recordings are made from."""
    made_from = {meta.recording: meta.fingerprints for meta in clip_cache.open(cache).recordings}
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()


def _take_up(study: optuna.Study) -> None:
    """What was interrupted is asked for again, in the folder in which its finished folds lie."""
    for trial in study.trials:
        if trial.state.name == "RUNNING":
            study.tell(trial.number, state=type(trial.state).FAIL)
            if _FOLDER in trial.user_attrs:
                study.enqueue_trial(trial.params, user_attrs={_FOLDER: trial.user_attrs[_FOLDER]})


def _finished(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Those with a score, and those in which a fold failed; not the interrupted."""
    return [t for t in study.trials if t.state.name == "COMPLETE" or "reason" in t.user_attrs]


def _suggest(trial: optuna.Trial, name: str, entry: Range | tuple[Any, ...]) -> Any:
    if not isinstance(entry, Range):
        return trial.suggest_categorical(name, entry)
    if get_type_hints(TrainSettings)[name] is int:
        return trial.suggest_int(name, int(entry.low), int(entry.high), log=entry.log)
    return trial.suggest_float(name, entry.low, entry.high, log=entry.log)


def _trials(study: optuna.Study) -> list[Trial]:
    found = [
        Trial(t.number, t.user_attrs[_FOLDER], dict(t.params), t.value, t.user_attrs.get("reason", ""))
        for t in _finished(study)
    ]
    return sorted(found, key=lambda trial: (trial.score is None, -(trial.score or 0), trial.number))


def _write_best(study: optuna.Study, settings: TrainSettings, out: Path) -> None:
    best = _trials(study)[0]
    if best.score is None:
        return
    values = dataclasses.asdict(settings) | best.changed
    lines = [f"# {best.folder}: the best of {len(_finished(study))} trials, macro F1 {best.score:.4f}. It was chosen"]
    lines += ["# for this score, which is therefore too good; score it on recordings that were in no trial."]
    lines += [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in sorted(values.items())]
    write_text(out / BEST, "\n".join(lines) + "\n")


def _text(changed: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in changed.items()
    )
