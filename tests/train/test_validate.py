from __future__ import annotations

import math
from pathlib import Path

import pytest

import cache as clip_cache
from pipeline.model.network import Network
from pipeline.train.balance import balance
from pipeline.train.data import prepare
from pipeline.train.validate import evaluate


@pytest.mark.parametrize("encoder", ["cnn", "none"])
def test_waiting_for_frames_and_keypoints_count_where_there_are_any(small_cache: Path, quick, encoder: str) -> None:
    settings = quick(encoder=encoder)
    data = prepare(clip_cache.open(small_cache), settings, lambda line: None)
    found = evaluate(
        Network(data.network_config), data.val, data.merge.names, balance(data.class_counts, settings), settings
    )
    assert (found.waited_s > 0) == (encoder == "cnn")
    assert math.isnan(found.kp_loss) == (encoder == "none")
    assert math.isfinite(found.loss)
