"""Every setting of `train`, written once, as those of `preprocess` are in preprocess_settings.py."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pipeline.setting_field import setting

REFERENCE_MERGE = "paw_guard=paw_withdraw,flinch=paw_withdraw"
LARGEST_SEED = 2**63 - 1  # what torch's generators take


class Keep(StrEnum):
    """Where training keeps the frames between epochs; no setting of the model, since nothing learned depends on it."""

    AUTO = "auto"
    DEVICE = "device"
    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """What shapes a model. Changing one of these re-runs `train` alone."""

    model_type: str = setting(
        "multitask",
        "model",
        "multitask: behaviour and keypoints; action_only: behaviour; keypoints: these alone, on all frames whether "
        "labelled or not, for a model that --init-from begins with",
        choices=("multitask", "action_only", "keypoints"),
    )
    encoder: str = setting(
        "cnn", "model", "frame encoder: cnn, efficientnet_lite0, hf:<name or folder>, or none (pose alone)"
    )
    frame_change: bool = setting(
        True,
        "model",
        "the cnn encoder and the patches are also shown how each frame differs from the one before it; pretrained "
        "encoders see each frame alone",
    )
    view: str = setting(
        "full",
        "model",
        "what the encoder sees of a frame; animal: a square that follows the keypoints and turns with the animal, all "
        "of it larger and in the same place. Keypoints are then not found from pixels alone: the square shows where "
        "the given ones are. It doesn't show that the animal walks: --pose-features motion or both do",
        choices=("full", "animal"),
    )
    view_size: int = setting(64, "model", "side of the animal's view in pixels", ge=16)
    view_span: float = setting(
        4.0,
        "model",
        "side of the animal's view in body sizes, the root mean square distance of the keypoints from their middle",
        gt=0,
    )
    patch_size: int = setting(
        0,
        "model",
        "side in pixels of a small square that is cut from the whole frame around each paw, for paws that are a few "
        "pixels of what the encoder sees; 0: none, else 8 or more",
        ge=0,
    )
    patch_span: float = setting(
        1.5, "model", "side of such a square in body sizes; keypoint jitter moves the paw about in it", gt=0
    )
    patch_keypoints: str = setting(
        "auto",
        "model",
        "keypoints that are looked at so, with commas between; auto: the four paws of the pose graph",
    )
    init_from: str = setting(
        "",
        "model",
        "run or checkpoint whose frame encoder this model begins with; encoder, view, sizes and keypoints must be the "
        "same. What sees the patches is taken over where these are alike, and else new",
    )
    freeze_encoder_epochs: int = setting(
        0, "model", "keep the encoder's weights fixed for so many epochs, not those for patches", ge=0
    )
    encoder_width: int = setting(128, "model", "length D of the encoder's feature vector of a frame", ge=8)
    pose_features: str = setting(
        "auto",
        "model",
        "graph: distances and angles of the six reference keypoints; motion: shape, speeds and turns of any keypoints, "
        "and of several animals to each other; both; none: the pictures tell the behaviour, and keypoints only place "
        "view and patches; auto: both where the six are there, else motion",
        choices=("auto", "graph", "motion", "both", "none"),
    )
    pose_windows: str = setting(
        "",
        "model",
        "lengths in frames, for example 15,61,241: the network is also shown the mean and the deviation of every pose "
        "feature over so many frames about each, of those in which it is known; empty: none",
    )
    time_input: str = setting(
        "none",
        "model",
        "clip: show the network the time since the clip's begin and to its end; stimulus: that since StimFrame; entry: "
        "that since the last of several animals came in, as the keypoints show it. Each is a shortcut if behaviours "
        "come at fixed times",
        choices=("none", "clip", "stimulus", "entry"),
    )
    pose_width: int = setting(64, "model", "length of the pose branch's feature vector of a frame", ge=8)
    tcn_channels: int = setting(128, "model", "channels of the temporal convolutional network", ge=8)
    tcn_layers: int = setting(6, "model", "residual layers; the dilation doubles from one to the next", ge=1, le=12)
    tcn_kernel: int = setting(3, "model", "kernel length in frames, odd", ge=3)
    tcn_stride: int = setting(
        1, "model", "frames that the temporal network sees as one: it then looks so many times as far", ge=1, le=30
    )
    refine_stages: int = setting(
        0, "model", "further temporal networks, each of which mends the probabilities of the one before", ge=0, le=5
    )
    pose_names: str = setting(
        "",
        "model",
        "your keypoint names for the pose graph's, for example mouth=Nose,tail_base=Tailroot",
    )

    merge: str = setting(
        "auto",
        "data",
        "classes to merge for training, from=into; auto: " + REFERENCE_MERGE + " where these exist; none",
    )
    train_T: int = setting(180, "data", "training window in frames; 0: the whole clip", ge=0)
    val_T: int = setting(0, "data", "validation window in frames; 0: the whole clip", ge=0)
    kp_likelihood_thr: float = setting(
        0.9, "data", "below this likelihood a keypoint counts as not visible", ge=0, le=1
    )
    val_share: float = setting(
        0.2,
        "data",
        "share of the recordings (or animals) held out to choose the epoch by; 0: none, and the last epoch is kept",
        ge=0,
        lt=1,
    )
    group_by: str = setting(
        "",
        "data",
        r"regular expression on the recording's name whose match (or first group) names the animal, "
        r"for example _(\d+M)_; animals then stand in training or validation, never in both",
    )
    split_file: str = setting("", "data", "a saved split (split.csv of another run) to use instead of making one")

    kp_jitter_std: float = setting(0.02, "augmentation", "keypoint jitter, in normalised units", ge=0)
    aug_brightness: float = setting(0.2, "augmentation", "brightness factor in 1 ± this", ge=0, lt=1)
    aug_contrast: float = setting(0.2, "augmentation", "contrast factor in 1 ± this", ge=0, lt=1)
    aug_temporal_drop: float = setting(
        0.1, "augmentation", "share of frames that show the frame before them", ge=0, lt=1
    )
    aug_hflip: float = setting(
        0.0,
        "augmentation",
        "probability of a mirror image, in which keypoints and classes that name a side change places",
        ge=0,
        le=1,
    )
    aug_noise_std: float = setting(0.02, "augmentation", "Gaussian pixel noise, of the [0, 1] range", ge=0)
    aug_kp_drop: float = setting(
        0.0, "augmentation", "share of each keypoint's frames that are hidden, as if the tracking lost it", ge=0, lt=1
    )
    aug_stretch: float = setting(
        0.0,
        "augmentation",
        "a window is played faster or slower by a factor from 1 / (1 + this) to 1 + this; all of its frames are shown, "
        "so it becomes shorter, or up to so many times longer",
        ge=0,
        le=1,
    )
    aug_mix: float = setting(
        0.0,
        "augmentation",
        "mixup: each window's features and behaviour loss are mixed with those of another of its batch, whose share is "
        "drawn from Beta(this, this) and is never the larger; 0: off",
        ge=0,
    )
    aug_swap: float = setting(
        0.0,
        "augmentation",
        "probability that several animals are put in a random order; for --encoder none",
        ge=0,
        le=1,
    )
    aug_turn: float = setting(
        0.0,
        "augmentation",
        "--view full: half of the samples' whole frames are turned by up to so many degrees, 180 where the camera "
        "looks from below or above, and shifted and zoomed as --aug-view-shift and --aug-view-zoom say; 0: none of "
        "the three",
        ge=0,
        le=180,
    )
    aug_view_shift: float = setting(
        0.05, "augmentation", "--view animal: largest shift of a sample's view, in its sides", ge=0, le=1
    )
    aug_view_turn: float = setting(
        10.0, "augmentation", "--view animal: largest turn of a sample's view, in degrees", ge=0, le=180
    )
    aug_view_zoom: float = setting(
        0.1, "augmentation", "--view animal: a sample's view is larger or smaller by a factor up to 1 + this", ge=0
    )
    aug_roll: int = setting(5, "augmentation", "largest circular shift in time, in frames", ge=0)

    rare_threshold_share: float = setting(
        0.02, "balance", "a class with a smaller share of the frames is rare", ge=0, le=1
    )
    rare_boost_cap: float = setting(
        30.0, "balance", "windows with rare classes are drawn at most so many times more often", ge=1
    )
    focal_gamma: float = setting(2.5, "balance", "focal loss: weight of the hard frames; 0: plain cross-entropy", ge=0)
    label_smoothing: float = setting(0.1, "balance", "share of each label spread over all classes", ge=0, lt=1)
    class_weight_power: float = setting(
        0.5, "balance", "class weights are (1 / share) to this power; 0: none", ge=0, le=1
    )
    logit_adjust: float = setting(
        0.0,
        "balance",
        "the loss adds so many times the logarithm of each class' share to the logits (Menon et al. have 1); instead "
        "of class weights, so with --class-weight-power 0",
        ge=0,
    )

    lambda_kp: float = setting(1.0, "loss", "weight of the keypoint loss", ge=0)
    lambda_smooth: float = setting(5e-4, "loss", "weight of the change of the logits from frame to frame", ge=0)
    lambda_tmse: float = setting(
        0.0, "loss", "weight of the truncated squared change of the log-probabilities (MS-TCN has 0.15)", ge=0
    )
    lambda_boundary: float = setting(
        0.0,
        "loss",
        "weight of the boundary loss: a head learns at which frames bouts begin, and the decision layer may make bouts "
        "cheaper to begin there (ASRF has 0.1); 0: no such head",
        ge=0,
    )

    dropout: float = setting(0.3, "regularisation", "dropout in the temporal convolutional network", ge=0, lt=1)
    head_dropout: float = setting(0.2, "regularisation", "dropout before the heads", ge=0, lt=1)
    weight_decay: float = setting(5e-2, "regularisation", "AdamW's weight decay", ge=0)

    lr: float = setting(5e-5, "optimiser", "learning rate after warm-up", gt=0)
    min_lr: float = setting(1e-6, "optimiser", "learning rate at the end", ge=0)
    lr_schedule: str = setting("cosine", "optimiser", "how the learning rate falls", choices=("cosine", "plateau"))
    warmup_epochs: int = setting(10, "optimiser", "epochs in which the learning rate rises", ge=0)
    lr_patience: int = setting(10, "optimiser", "plateau: epochs without a better macro F1 before it falls", ge=0)
    lr_factor: float = setting(0.5, "optimiser", "plateau: what it is multiplied by", gt=0, lt=1)
    grad_clip: float = setting(1.0, "optimiser", "largest norm of the gradient; 0: not clipped", ge=0)

    epochs: int = setting(200, "loop", "epochs", ge=1)
    batch_size: int = setting(2, "loop", "windows in a batch", ge=1)
    seed: int = setting(123, "loop", "seed of the split, of the windows and of the augmentation", ge=0, le=LARGEST_SEED)
    early_stopping_patience: int = setting(20, "loop", "epochs without a better macro F1 before it stops; 0: off", ge=0)
    use_ema: bool = setting(False, "loop", "validate and save the moving average of the weights")
    ema_decay: float = setting(0.999, "loop", "decay of that average per step", ge=0, lt=1)
    decision: bool = setting(
        True,
        "loop",
        "fit a decision layer (biases of the classes, costs of beginning a bout) on the held-out recordings; scores "
        "are told with and without it",
    )
    amp: bool = setting(True, "loop", "mixed precision on CUDA")
    device: str = setting("auto", "loop", "auto, cpu, cuda, cuda:1, mps")

    @property
    def learns_behaviour(self) -> bool:
        """Whether labels are learned from. If not, the model names no behaviour, and no F1 of it means anything."""
        return self.model_type != "keypoints"

    @property
    def multitask(self) -> bool:
        """Whether the encoder says where it sees each keypoint, and a head moves these places."""
        return self.model_type != "action_only"
