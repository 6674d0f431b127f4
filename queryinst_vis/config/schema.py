"""The schema of the configuration: all keys with ranges, defaults and descriptions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from queryinst_vis.config.ranges import (
    Count,
    Depth,
    Index,
    NotNegative,
    Positive,
    Range,
    RoiSize,
    Share,
    Side,
    Width,
)


@dataclass
class BackboneConfig:
    """A timm model with feature maps at strides 4, 8, 16 and 32."""

    name: str = "resnet50"
    # A local file with timm's key names; null: random initialisation. Ignored if the file of
    # train.init_weights contains this backbone
    weights: str | None = None
    # Freeze the stem and this many of the four stages
    frozen_stages: Annotated[int, Range(0, 4)] = 1
    norm_eval: bool = True  # keep batch norms in eval mode during training
    drop_path: Annotated[float, Range(0, below=1)] = 0.0  # stochastic depth of the last block
    # Stages 2 to 4 (c3 to c5) with deformable 3x3 convolutions (v2); ResNets only
    deformable_stages: list[int] = field(default_factory=list)
    mean: list[float] = field(default_factory=lambda: [123.675, 116.28, 103.53])  # RGB, 0..255
    std: list[Positive] = field(default_factory=lambda: [58.395, 57.12, 57.375])


@dataclass
class MaskHeadConfig:
    """Mask heads (paper 3.2); the defaults are the dynamic ones, supervised in parallel."""

    roi_size: RoiSize = 14
    num_convs: Depth = 4
    norm: str = "BN"  # BN as published, GN, SyncBN or none
    dynamic: bool = True  # False: vanilla heads, without DynConv(mask) (Fig. 2 b)
    parallel: bool = True  # False: supervise only the masks of the last stage (Table 5)
    flow: bool = False  # mask features flow from stage to stage as in HTC (Table 4)
    share_query: bool = True  # False: separate queries for masks (Table 6)
    share_attention: bool = True  # False: separate self-attention for masks (Table 6)


@dataclass
class TrackHeadConfig:
    """Vanilla MaskTrack R-CNN track head (paper 3.5), or QueryTrack's."""

    enabled: bool = False
    dynamic: bool = False  # True: QueryTrack's head, with a DynConv on q* before the layers
    roi_size: RoiSize = 7
    sampling_ratio: Annotated[int, Range(0, 256)] = 2
    hidden_channels: Width = 1024
    embedding_channels: Width = 1024
    final_relu: bool = False  # True: mmdetection's variant


@dataclass
class ModelConfig:
    """QueryInst (paper 3); defaults are the R50, 100-query model."""

    classes: list[str] = field(default_factory=list)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    channels: Width = 256
    num_queries: Width = 100
    proposals: str = "image"  # initial learned proposals: image (as published) or grid
    num_stages: Annotated[int, Range(1, 100)] = 6
    num_heads: Width = 8
    ffn_channels: Width = 2048
    dynamic_channels: Width = 64  # hidden width of both dynamic convolutions
    class_layers: Depth = 1
    box_layers: Depth = 3
    mask: MaskHeadConfig = field(default_factory=MaskHeadConfig)
    track: TrackHeadConfig = field(default_factory=TrackHeadConfig)


@dataclass
class LossConfig:
    """Loss weights per stage (Sparse R-CNN's, plus dice 8) and of the track head.

    Box losses are normalised by the number of matched queries, the dice loss by the number of those
    whose instance has a mask, so that instances without a mask do not weaken the mask loss.
    """

    cls: NotNegative = 2.0
    l1: NotNegative = 5.0
    giou: NotNegative = 2.0
    dice: NotNegative = 8.0
    track: NotNegative = 1.0
    # An unmatched query with at least this fraction of its box inside ignore regions, such as
    # crowds, is not a negative in the class loss; null: all unmatched queries are, as published.
    ignore_overlap: Annotated[float, Range(above=0, most=1)] | None = None


@dataclass
class InferenceConfig:
    """From network output to Detections."""

    score_threshold: Share = 0.05
    max_per_image: Count = 100
    one_label_per_query: bool = False  # True for video: a query is one instance
    # IoU threshold for NMS; null: no NMS, as published
    nms_threshold: Share | None = None
    # IoU of boxes (same class, before masks are computed) or masks (same class; any in videos)
    nms_overlap: str = "boxes"
    mask_threshold: Share = 0.5
    # 32-true, bf16-mixed or (on CUDA) 16-mixed, in Lightning Fabric's terms; auto: the faster of
    # the first two on this machine, measured when the model is loaded
    precision: str = "32-true"
    compile: bool = False  # torch.compile the backbone: takes up to a minute per frame size


@dataclass
class FusedConfig:
    """Cue weights of the fused rule: log odds that a detection continues a track.

    Calibrated on the training part of MOTS (``benchmarks/calibrate_fused.py``). With a larger bias,
    fewer detections start a new track.
    """

    overlap: float = 5.2  # times the IoU with the predicted box
    distance: float = -0.25  # times the distance from the predicted centre in standard deviations
    similarity: float = 5.7  # times the cosine of the track head's embeddings
    gap: float = -0.6  # times the log of the frames since the track was last seen
    bias: float = -2.7


@dataclass
class TrackingConfig:
    """Online association (MaskTrack R-CNN's rule and weights)."""

    # masktrack (as published), hungarian, bisoftmax and fused use the track head; query uses the
    # detector's queries, bytetrack and ocsort use only boxes. null: masktrack, or bytetrack if
    # the model has no track head.
    rule: str | None = None
    score_weight: float = 1.0  # masktrack
    iou_weight: float = 2.0  # masktrack and hungarian
    label_weight: float = 10.0  # masktrack and hungarian
    # Minimum similarity of a detection and its track. query: cosine (null: 0.8); bytetrack, ocsort:
    # IoU with the predicted box (null: 0.1 and 0.3). Not used by the other rules, whose track head
    # has a learned score for new objects.
    match_threshold: Annotated[float, Range(-1, 1)] | None = None
    # bytetrack, ocsort, fused: minimum score of detections that start a track; those below it are
    # matched last (ocsort: dropped). null: all above inference.score_threshold
    high_score: Share | None = None
    # bytetrack, ocsort, fused: consecutive detections before a track is output; 1: immediately.
    # fused outputs the tracks of the first frame immediately
    min_hits: Count = 1
    # Maximum displacement from a track's last box, in diagonals of the larger box times the square
    # root of the number of frames since. null: no limit, as published.
    # Not needed by bytetrack and ocsort, which never match boxes that do not overlap.
    max_jump: Positive | None = None
    # Drop a track unseen for this many frames. null: never; bytetrack, ocsort: 30
    expire_after: Count | None = None
    # Drop a track unseen for this many seconds, too. Needs frame times, which track and stream()
    # have, but data sets do not. null: never
    expire_seconds: Positive | None = None
    # Drop all tracks at a hard cut: when the colour histogram changes by this many times as much as
    # in the previous frames (4 detects hard cuts). null: never
    cut_threshold: Annotated[float, Range(above=1)] | None = None
    max_tracks: Count | None = None  # keep at most this many tracks in memory; null: no limit
    fused: FusedConfig = field(default_factory=FusedConfig)


@dataclass
class DatasetConfig:
    """An annotated set: COCO images or YouTube-VIS videos, detected from the JSON."""

    annotations: str | None = None
    images: str | None = None
    weight: Positive = 1.0  # sampling weight, relative to the set's size, when sets are mixed
    # Open images outside the image folder if the annotation file refers to them
    allow_outside: bool = False
    # Also train on images and video frames without instances, as negatives; those that contain
    # crowds but no instance only if losses.ignore_overlap is set
    keep_empty: bool = False


@dataclass
class DataConfig:
    """Which sets are read. Classes are matched with ``model.classes`` by name."""

    train: DatasetConfig = field(default_factory=DatasetConfig)
    train_extra: list[DatasetConfig] = field(default_factory=list)  # mixed with data.train
    val: DatasetConfig = field(default_factory=DatasetConfig)
    test: DatasetConfig = field(default_factory=DatasetConfig)
    # Train even if a class of the model has no instance in any training set
    allow_absent_classes: bool = False
    num_workers: Annotated[int, Range(0, 1024)] = 2


@dataclass
class InputConfig:
    """Image sizes and augmentation. A resized image fits into ``long`` x ``short`` pixels."""

    train_short: list[Side] = field(default_factory=lambda: [360])  # one is sampled per image
    train_long: list[Side] = field(default_factory=lambda: [640])  # one is sampled per image
    test_short: Side = 360
    test_long: Side = 640
    flip: Share = 0.5  # probability
    crop: Share = 0.0  # probability of a random crop before the resize
    # Crop size as fractions of the image's sides. Both views of a pseudo-clip are always cropped.
    crop_range: list[Positive] = field(default_factory=lambda: [0.5, 1.0])
    # DETR's crop: crop_range is in pixels of an image with one of these short sides; []: off
    crop_short: list[Side] = field(default_factory=list)
    colour: Share = 0.0  # strength of brightness, contrast, saturation and hue jitter
    # Large-scale jitter (Ghiasi et al., 2021): range [low, high] of a factor on the size to which
    # an image (or crop) is resized. The result is randomly cropped or padded to a canvas of
    # train_long x train_short pixels, so all batches have the same size. []: off
    scale_jitter: list[Annotated[float, Range(above=0, most=100)]] = field(default_factory=list)
    # Probability of pasting instances with masks from another sample ("Simple Copy-Paste", same
    # paper); in a pair they appear in both frames, with a plausible motion
    copy_paste: Share = 0.0
    copy_paste_max: Count = 3  # paste 1 to this many instances
    min_visible: Count = 1  # minimum mask pixels of a target after augmentation
    # Classes of torchvision.transforms.v2 with arguments, applied last, for example
    # [{name: RandomRotation, degrees: 5}]
    transforms: list[dict[str, Any]] = field(default_factory=list)
    max_frame_gap: Index | None = None  # reference frames within this distance; null: whole video


@dataclass
class TrainConfig:
    """The training recipe; the defaults are the paper's (lr 2.5e-5, gradient clipping at 1.0)."""

    max_steps: Count = 90000
    # Length in epochs instead of max_steps; lr_steps and eval_every are scaled to the new length,
    # and the warm-up takes at most a tenth of it. null: use max_steps. An override of max_steps
    # alone replaces epochs, with lr_steps and eval_every scaled likewise
    epochs: Positive | None = None
    batch_size: Width = 16  # images (or pairs) per process
    # Form batches of samples with similar shapes, among this many consecutive ones, to reduce
    # padding; 0: batches of consecutive samples. No effect with input.scale_jitter.
    shape_window: Annotated[int, Range(0, 65536)] = 0
    accumulate: Count = 1  # gradient accumulation: batches per step (update)
    both_ways: bool = False  # video: use each frame of a pair as key and as reference frame
    lr: Positive = 2.5e-5
    # Linear scaling: lr refers to a total batch size of reference_batch, and is multiplied by
    # processes x batch_size x accumulate / reference_batch
    scale_lr: bool = False
    reference_batch: Count = 16
    backbone_lr_multiplier: NotNegative = 1.0
    weight_decay: NotNegative = 1.0e-4
    decay_norms: bool = True  # False: no weight decay on norms, biases and position embeddings
    clip_norm: Positive = 1.0
    # Decay of an exponential moving average of the weights, used for evaluation; 0: none
    average_decay: Annotated[float, Range(0, below=1)] = 0.0
    warmup_steps: Index = 1000
    warmup_factor: NotNegative = 0.001
    lr_steps: list[Index] = field(default_factory=lambda: [60000, 82500])
    lr_gamma: Share = 0.1
    # 32-true or bf16-mixed (Lightning Fabric's names); auto: bf16-mixed on CPUs with AMX
    precision: str = "auto"
    init_weights: str | None = None  # initialise with the matching weights of this checkpoint
    # Class of the checkpoint that initialises new classes; null: the mean of all its classes
    init_new_classes_from: str | None = None
    log_every: Count = 20
    eval_every: Index = 0  # steps; 0: only at the end
    patience: Index = 0  # stop after this many evaluations without improvement; 0: never
    samples: Index = 8  # images of data.val drawn with predictions at every evaluation; 0: none
    checkpoint_every: Count = 500
    # csv: metrics.csv and curves.png; tensorboard; wandb: Weights & Biases (an extra), offline
    # unless WANDB_MODE=online
    loggers: list[str] = field(default_factory=lambda: ["csv", "tensorboard"])

    def of_length(self, steps: int, given: Collection[str] = ()) -> TrainConfig:
        """The recipe with another ``max_steps``, and ``lr_steps`` and ``eval_every`` in proportion.

        The warm-up takes at most a tenth of it.

        Args:
            steps: the length.
            given: names of fields that keep their value.
        """
        ratio = steps / self.max_steps
        scaled: dict[str, Any] = {
            "lr_steps": [round(milestone * ratio) for milestone in self.lr_steps],
            "eval_every": max(round(self.eval_every * ratio), 1) if self.eval_every else 0,
            "warmup_steps": min(self.warmup_steps, steps // 10),
        }
        changes = {name: value for name, value in scaled.items() if name not in given}
        return replace(self, max_steps=steps, **changes)


@dataclass
class Config:
    """Everything that describes a model, its training and its evaluation.

    Example::

        config = queryinst_vis.Config()
        print(config.model.num_queries, config.tracking.rule)
    """

    seed: Index = 0
    model: ModelConfig = field(default_factory=ModelConfig)
    losses: LossConfig = field(default_factory=LossConfig)
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    data: DataConfig = field(default_factory=DataConfig)
    input: InputConfig = field(default_factory=InputConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
