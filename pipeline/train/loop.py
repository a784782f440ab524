"""The training loop: what lives from epoch to epoch, and the checkpoints of it.

Shape suffixes: B batch, T frames, N classes, K keypoints.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.console import Bar
from pipeline.model import checkpoint
from pipeline.model.animals import animals
from pipeline.model.encoder import freeze
from pipeline.model.mirror import mirror_of
from pipeline.model.network import Network
from pipeline.model.threads import threads_for
from pipeline.model.trained import Trained
from pipeline.train import boundaries, losses, pretrained
from pipeline.train.augment import augment
from pipeline.train.balance import balance
from pipeline.train.batch import Batch
from pipeline.train.data import Part, TrainingData, keep_frames
from pipeline.train.epoch_report import epoch_lines, history_row
from pipeline.train.followers import Followers
from pipeline.train.metrics import Scores
from pipeline.train.profile import STEPS, traced
from pipeline.train.ranks import ALONE, Ranks
from pipeline.train.run_folder import BEST, HISTORY, LAST, write_text
from pipeline.train.schedule import EarlyStopping, Plateau, ema_decay_at, lr_at
from pipeline.train.stream import Stream
from pipeline.train.validate import Evaluation, evaluate
from pipeline.train.windows import plan_epoch
from pipeline.train_settings import Keep, TrainSettings

Say = Callable[[str], None]


class TrainingError(ValueError):
    """Training cannot go on; the message says why and what to try."""


class Loop:
    """What lives from epoch to epoch: weights, optimiser, moving average, schedule, history."""

    def __init__(
        self,
        settings: TrainSettings,
        data: TrainingData,
        out: Path,
        say: Say,
        progress: Bar,
        keep: Keep,
        trace: Path | None,
        ranks: Ranks = ALONE,
        begins_with: Path | None = None,
    ) -> None:
        """begins_with: the checkpoint whose encoder is taken over. Raises CheckpointError for one that cannot be."""
        self.settings, self.out, self.say, self.progress, self.trace = settings, out, say, progress, trace
        self.ranks = ranks
        self.device = ranks.device(settings.device)
        self.data = data = keep_frames(data, keep, self.device, say)
        torch.manual_seed(settings.seed)
        self.network = Network(data.network_config).to(self.device)
        tracks = [(clip.xy, clip.visible) for clip in data.train.data]
        self.network.fit(tracks, [clip.when for clip in data.train.data])
        if begins_with:
            pretrained.take_over(begins_with, self.network)
        self.seen = pretrained.seen_with(data.split, begins_with)
        if not settings.learns_behaviour:  # no loss reaches these
            self.network.action.requires_grad_(False)
            self.network.refinements.requires_grad_(False)
        self.average = copy.deepcopy(self.network) if settings.use_ema else None
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.network, settings.weight_decay), lr=settings.lr)
        self.plateau = Plateau(settings.lr_patience, settings.lr_factor)
        self.stopping = EarlyStopping(settings.early_stopping_patience)
        self.history: list[dict[str, float]] = []
        self.balance = balance(data.class_counts, settings).to(self.device)
        self.begin_weight = boundaries.positive_weight(data.train.labels) if settings.lambda_boundary else 1.0
        self.mirror = mirror_of(data.network_config.keypoint_names, data.merge.names)
        self.animals = animals(data.network_config.keypoint_names)
        self.learns_keypoints = self.network.keypoints is not None and settings.lambda_kp > 0

    def run(self, followers: Followers) -> None:
        """The epochs that are left, each told to the followers and saved."""
        epochs = self.settings.epochs
        self.progress("epochs", len(self.history), epochs)
        while len(self.history) < epochs and not self.stopping.should_stop:
            with threads_for(self.network):
                row, on_val, better = self._epoch(len(self.history))
            self.history.append(row)
            if self.ranks.leads:
                write_text(self.out / HISTORY, pd.DataFrame(self.history).to_csv(index=False))
            # Before it is saved: an epoch that a kill takes is made again, and told of again in its place.
            followers.epoch(row, on_val, better=better)
            self._save()
            self.progress("epochs", len(self.history), epochs)
        if self.stopping.should_stop and len(self.history) < epochs:
            self.say("[info] Early stopping triggered")

    def _epoch(self, epoch: int) -> tuple[dict[str, float], Evaluation, bool]:
        """Trains and scores; the row of history.csv, the held-out scores, and whether its model is the best by them."""
        started = time.perf_counter()
        self.say(f"Epoch {epoch + 1}/{self.settings.epochs}")
        shown, waited_s = self._train(epoch)
        network = self.average or self.network
        on_train = self._evaluate(network, self.data.train_sample)
        on_val = self._evaluate(network, self.data.val)
        seconds = time.perf_counter() - started
        waited_s += on_train.waited_s + on_val.waited_s
        score = self._score(on_val.scores)
        held_out = bool(self.data.val.clips)
        if held_out and epoch >= self.settings.warmup_epochs:
            self.plateau.update(score)
        waiting, learns_behaviour = waited_s / max(seconds, 1e-9), self.settings.learns_behaviour
        for line in epoch_lines(on_train, on_val, waiting, learns_behaviour=learns_behaviour):
            self.say(line)
        lr = self.optimizer.param_groups[0]["lr"]
        row = history_row(epoch, lr, shown, seconds, waited_s, on_train, on_val)
        better = not held_out or self.stopping.update(score)
        if better:
            self._save_best(network, epoch, on_val.scores)
        return row, on_val, better

    def _train(self, epoch: int) -> tuple[float, float]:
        """One pass over the epoch's windows; returns the mean loss as trained on, and the seconds spent waiting."""
        settings, data = self.settings, self.data
        windows = plan_epoch(
            data.train.labels, settings.train_T, data.boost, settings.seed, epoch,
            labelled_only=not self.learns_keypoints,
        )  # fmt: skip
        steps = math.ceil(len(windows) / settings.batch_size)
        own = self.ranks.deal(len(windows), settings.batch_size)
        # A rank for which the last batch has no window looks at that batch's first, to keep step with the others.
        shown = [list(places) or [step * settings.batch_size] for step, places in enumerate(own)]
        torch.manual_seed(_mix(settings.seed, epoch, *([] if self.ranks.leads else [self.ranks.rank])))  # dropout
        self.network.train()
        if self.network.encoder is not None:
            freeze(self.network.encoder, epoch < settings.freeze_encoder_epochs)
        # Made anew in every epoch, since which weights learn may have changed. Some of Hugging Face's are never used.
        learner = self.ranks.averaging(self.network, some_idle=settings.encoder.startswith("hf:"))
        total = torch.zeros((), device=self.device)
        stream = Stream(
            data.train.clips, data.train.data, [windows[place] for places in shown for place in places],
            len(shown[0]), self.device, with_frames=self.network.encoder is not None,
        )  # fmt: skip
        with stream, traced(self.trace, self.device) as step_done:
            for step, batch in enumerate(stream):
                for group in self.optimizer.param_groups:
                    group["lr"] = lr_at(epoch * steps + step, steps, settings, self.plateau.scale)
                seeds = [_mix(settings.seed, epoch, place) for place in shown[step]]
                loss = self._loss(learner, batch, seeds, counts=bool(own[step]))
                self._update(loss, epoch, step)
                if self.average:
                    update_average(self.average, self.network, ema_decay_at(epoch * steps + step, settings.ema_decay))
                total += loss.detach()
                step_done()
                self.progress.below(f"epoch {epoch + 1}", step + 1, steps)
        if self.trace and self.trace.exists():
            self.say(f"[info] trace of {STEPS} steps: {self.trace} (open it in Perfetto or chrome://tracing)")
        self.trace = None
        return float(self.ranks.mean(total)) / steps, stream.waited_s

    def _loss(self, learner: torch.nn.Module, batch: Batch, seeds: list[int], *, counts: bool) -> torch.Tensor:
        """What to make smaller: of this rank's samples, so that the mean over the ranks is that of the whole batch."""
        seen = augment(batch, self.settings, seeds, self.mirror, self.animals)
        # Without the keypoints' jitter, in which the picture would tremble.
        view = self.network.view_of(seen.xy_target, seen.visible, seen.view_moved)
        with _autocast(self.device, self.settings.amp):
            output = learner(
                seen.frames, seen.xy_input, seen.visible_input, seen.valid, seen.when, view, seen.xy_motion,
                seen.own_share,
            )  # fmt: skip
        target = seen if counts else losses.counting_nothing(seen)
        over_ranks = self.ranks.mean
        return losses.total(output, target, self.balance, self.settings, over_ranks, self.begin_weight).total

    def _update(self, loss: torch.Tensor, epoch: int, step: int) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        largest = self.settings.grad_clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), largest)
        # Checked here, before the weights are touched: they stay those of the last good step.
        if not torch.isfinite(norm):
            raise self.ranks.alike(TrainingError(_diverged(epoch, step)))
        self.optimizer.step()

    def _evaluate(self, network: Network, part: Part) -> Evaluation:
        return evaluate(network, part, self.data.merge.names, self.balance, self.settings, self.ranks)

    def _score(self, scores: Scores) -> float:
        """What the epoch is chosen by; higher is better."""
        return scores.macro_f1 if self.settings.learns_behaviour else -scores.keypoint_mae_norm

    def _save_best(self, network: Network, epoch: int, scores: Scores) -> None:
        if not self.ranks.leads:
            return
        path = self.out / BEST
        content = self._trained(network).as_dict()
        checkpoint.save(path, content | self._seen() | {"epoch": epoch + 1, "scores": scores.as_dict()})
        by = f"macro F1 {scores.macro_f1:.4f}"
        if not self.settings.learns_behaviour:
            by = f"keypoint MAE {scores.keypoint_mae_norm:.4f}"
        why = f"better model (validation {by})" if self.data.val.clips else "this epoch's model"
        self.say(f"[info] {why} saved: {path}")

    def _save(self) -> None:
        if not self.ranks.leads:
            return
        state = {
            "average": self.average.state_dict() if self.average else None,
            "optimizer": self.optimizer.state_dict(),
            "plateau": self.plateau.state_dict(),
            "stopping": self.stopping.state_dict(),
            "history": self.history,
        }
        checkpoint.save(self.out / LAST, self._trained(self.network).as_dict() | self._seen() | {"loop": state})

    def _seen(self) -> dict[str, Any]:
        """For a checkpoint: what it has seen stays known where the run that it began with is moved or deleted."""
        return {pretrained.SEEN: self.seen and self.seen.as_dict()}

    def _trained(self, network: Network) -> Trained:
        data = self.data
        return Trained(
            network, data.merge.names, data.original_classes, data.merge.lookup, data.class_counts, data.preprocess,
            dataclasses.asdict(self.settings), tracked_by=data.tracked_by,
        )  # fmt: skip

    def load(self) -> None:
        """Goes on from last.pt, beside which are the run's record and split."""
        content = checkpoint.load(self.out / LAST, self.device)
        state = content["loop"]
        self.network.load_state_dict(content["weights"])
        if self.average:
            self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.plateau.load_state_dict(state["plateau"])
        self.stopping.load_state_dict(state["stopping"])
        self.history = state["history"]
        self.seen = pretrained.lineage(self.out / LAST)
        self.say(f"[info] goes on after epoch {len(self.history)}")


@torch.no_grad()
def update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """average = decay * average + (1 - decay) * network, for every weight; buffers are copied."""
    for old, new in zip(average.parameters(), network.parameters(), strict=True):
        old.lerp_(new, 1 - decay)
    for kept, now in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(now)


def _parameter_groups(network: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels only: biases and norms are not drawn to 0."""
    parameters = list(network.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _autocast(device: torch.device, amp: bool) -> torch.autocast:
    """bfloat16 on CUDA devices that have it: its range is float32's, so losses need no scaling."""
    enabled = amp and device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=enabled)


def _mix(*numbers: int) -> int:
    """A 63-bit seed from several numbers, so that every epoch and sample draws its own."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def _diverged(epoch: int, step: int | None = None) -> str:
    where = f"epoch {epoch + 1}" + ("" if step is None else f", step {step + 1}")
    return f"the loss is no longer a finite number ({where}); the checkpoints before it are whole; try a smaller --lr"
