"""Whatever a command is given as its labels: a prediction, a cross-validation, or people's labels in a cache."""

from __future__ import annotations

from pathlib import Path

from cache import Place
from pipeline.cross_validation.out_of_fold import FOLDER as OUT_OF_FOLD
from pipeline.predict.exports import TABLES
from pipeline.predict.records import PredictFolder
from pipeline.setting_texts import SettingsError
from pipeline.tables.predicted import from_predictions
from pipeline.tables.sources import Source, SourceError, from_cache, with_truth


def open_source(
    source: Path | None, cache: Place | None, merge: str, *, decide: bool, leave_out_bad: bool = False
) -> Source:
    """Labels of all trials; those of people beside them, where `cache` has any.

    source: a folder of predictions or of a cross-validation; None: the labels in `cache`, merged by `merge`. decide: of
    a cross-validation, with its decision layer. leave_out_bad: as in `from_predictions`. With predictions, people's
    classes are merged as in the model's training, where `merge` is auto. Raises CacheError, SourceError, SettingsError.
    """
    if source is None:
        if cache is None:
            raise SettingsError("give a folder of predictions or of a cross-validation, or --cache for people's labels")
        return from_cache(cache, merge)
    if (source / OUT_OF_FOLD).is_dir():
        if cache is None:
            raise SettingsError(
                f"{source} is a cross-validation: give --cache, the cache it was made from, which knows the "
                "frame rates and stimuli"
            )
        from pipeline.tables.cross_validated import from_cross_validation  # brings torch along

        return from_cross_validation(source, cache, decide)
    if not (source / TABLES).is_dir():
        raise SourceError(
            f"{source}: holds neither {TABLES}/ (of `pipeline predict`) nor {OUT_OF_FOLD}/ (of `pipeline "
            "cross-validate`); for people's labels give --cache alone"
        )
    predicted = from_predictions(source, leave_out_bad=leave_out_bad)
    return with_truth(predicted, cache, merge, _merge_of_training(source)) if cache else predicted


def _merge_of_training(predictions: Path) -> str | None:
    """The --merge that the model of these predictions was trained with; None where nothing tells."""
    try:
        merge = PredictFolder(predictions).about()["settings"]["train"]["merge"]
    except (KeyError, TypeError):
        return None
    return merge if isinstance(merge, str) else None
