"""What is said and written down of an epoch."""

from __future__ import annotations

import math

from pipeline.train.validate import Evaluation


def epoch_lines(
    on_train: Evaluation, on_val: Evaluation, waiting_share: float, *, learns_behaviour: bool = True
) -> list[str]:
    """What the console says after an epoch; train and validation losses are computed alike."""
    scores = on_val.scores
    if not learns_behaviour:
        return [
            f"Train loss: {_number(on_train.loss)}",
            f"Val loss: {_number(on_val.loss)}",
            f"Val keypoint MAE (norm): {_number(scores.keypoint_mae_norm)}",
            f"Val keypoint MAE (px): {_number(scores.keypoint_mae_px, 2)}",
            _waited(waiting_share),
        ]
    per_class = ", ".join(f"{name} {_number(f1, 3)}" for name, f1 in scores.f1_per_class.items())
    return [
        f"Train loss: {_loss_text(on_train)}",
        f"Val loss: {_loss_text(on_val)}",
        f"Val macro F1: {_number(scores.macro_f1)}",
        f"Val segment F1@0.3: {_number(scores.segment_f1[0.3])}",
        f"Val keypoint MAE (norm): {_number(scores.keypoint_mae_norm)}",
        f"Per-class F1: {per_class}",
        _waited(waiting_share),
    ]


def history_row(
    epoch: int, lr: float, shown: float, seconds: float, waited_s: float, on_train: Evaluation, on_val: Evaluation
) -> dict[str, float]:
    """The epoch's row of history.csv.

    lr: the learning rate of its last step. shown: the mean loss as trained on, with augmentation and boosting.
    """
    row: dict[str, float] = {"epoch": epoch + 1, "shown_loss": shown, "seconds": seconds, "waited_s": waited_s}
    row["lr"] = lr
    for part, result in (("train", on_train), ("val", on_val)):
        row |= {f"{part}_loss": result.loss, f"{part}_action_loss": result.action_loss}
        row |= {f"{part}_kp_loss": result.kp_loss, f"{part}_cross_entropy": result.cross_entropy}
        row |= {f"{part}_macro_f1": result.scores.macro_f1}
    row["val_segment_f1"] = on_val.scores.segment_f1[0.3]
    row["val_keypoint_mae"] = on_val.scores.keypoint_mae_norm
    return row | {f"val_f1_{name}": f1 for name, f1 in on_val.scores.f1_per_class.items()}


def _waited(share: float) -> str:
    return f"Waited for data: {share:.1%} of the epoch"


def _loss_text(result: Evaluation) -> str:
    return f"{_number(result.loss)} (action: {_number(result.action_loss)}, kp: {_number(result.kp_loss)})"


def _number(value: float, digits: int = 4) -> str:
    return "none" if math.isnan(value) else f"{value:.{digits}f}"
