"""The schema of the configuration: every key with its range, its default and its meaning."""

from __future__ import annotations

from dataclasses import dataclass, field
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
    # A local file in timm's key names; null: random initialisation. Not read where
    # train.init_weights is set, which holds a backbone, too
    weights: str | None = None
    # The stem and this many of the four stages are not trained
    frozen_stages: Annotated[int, Range(0, 4)] = 1
    norm_eval: bool = True  # batch norms keep their running statistics while training
    drop_path: Annotated[float, Range(0, below=1)] = 0.0  # stochastic depth: of the last block
    # Stages 2 to 4 (c3 to c5) whose 3x3 convolutions are deformable (v2); ResNets only
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
    parallel: bool = True  # False: only the last stage's masks are supervised (Table 5)
    flow: bool = False  # mask features flow from stage to stage as in HTC (Table 4)
    share_query: bool = True  # False: masks have queries of their own (Table 6)
    share_attention: bool = True  # False: masks have a self-attention of their own (Table 6)


@dataclass
class TrackHeadConfig:
    """Vanilla MaskTrack R-CNN track head (paper 3.5), or QueryTrack's."""

    enabled: bool = False
    dynamic: bool = False  # True: QueryTrack's head, with DynConv reading q* before the layers
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
    proposals: str = "image"  # where the learned boxes start: image (as published) or grid
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

    Box losses are divided by the number of matched queries, the dice loss by the number of those
    whose instance has a mask: instances annotated by a box alone do not weaken the mask loss.
    """

    cls: NotNegative = 2.0
    l1: NotNegative = 5.0
    giou: NotNegative = 2.0
    dice: NotNegative = 8.0
    track: NotNegative = 1.0
    # An unmatched query whose box lies at least this much inside ignore regions such as
    # crowds, is no negative of the class loss; null: all unmatched queries are, as published.
    ignore_overlap: Annotated[float, Range(above=0, most=1)] | None = None


@dataclass
class InferenceConfig:
    """From network output to Detections."""

    score_threshold: Share = 0.05
    max_per_image: Count = 100
    one_label_per_query: bool = False  # True for video: a query is one instance
    # Of two detections whose IoU is above this, the weaker one is dropped. null: none, as published
    nms_threshold: Share | None = None
    # IoU of boxes (of one class, before masks are made) or masks (of one class; in video of any)
    nms_overlap: str = "boxes"
    mask_threshold: Share = 0.5
    precision: str = "32-true"  # or bf16-mixed, on CUDA 16-mixed: faster where the device has it
    compile: bool = False  # torch.compile the backbone: a minute at first, for every frame size


@dataclass
class FusedConfig:
    """Log odds of the fused rule that a detection is a track and no new object: weights of cues.

    Calibrated on the training part of MOTS (``benchmarks/calibrate_fused.py``). A larger bias calls
    fewer detections new objects.
    """

    overlap: float = 5.2  # times the IoU with the predicted box
    distance: float = -0.25  # times the distance from the predicted centre in standard deviations
    similarity: float = 5.7  # times the cosine of the track head's embeddings
    gap: float = -0.6  # times the log of the frames since the track was last seen
    bias: float = -2.7


@dataclass
class TrackingConfig:
    """Online association (MaskTrack R-CNN's rule and weights)."""

    # masktrack (as published), hungarian, bisoftmax or fused read the track head; query reads the
    # detector's queries, bytetrack and ocsort read boxes alone. null: masktrack, or bytetrack where
    # the model has no track head.
    rule: str | None = None
    score_weight: float = 1.0  # masktrack
    iou_weight: float = 2.0  # masktrack and hungarian
    label_weight: float = 10.0  # masktrack and hungarian
    # A detection is a new object where it fits every track less than this: query: in cosine (null:
    # 0.8); bytetrack, ocsort: in IoU with the track's predicted box (null: 0.1 and 0.3). The other
    # rules have none: their track head learnt what a new object scores.
    match_threshold: Annotated[float, Range(-1, 1)] | None = None
    # bytetrack, ocsort, fused: only detections from this score on begin tracks; those below it are
    # matched last (not at all by ocsort). null: all that inference.score_threshold lets through
    high_score: Share | None = None
    # bytetrack, ocsort, fused: consecutive frames after which a track is published; 1: from its
    # first on. fused publishes those of the first frame at once
    min_hits: Count = 1
    # Farther than this from a track's last box, in diagonals of the larger box times the root of
    # the frames since, a detection is not that track. None: any distance will do, as published.
    # bytetrack and ocsort need none: boxes that do not overlap never match.
    max_jump: Positive | None = None
    # Forget a track unseen for this many frames. None: never; bytetrack, ocsort: 30
    expire_after: Count | None = None
    # Forget a track unseen for this many seconds, too. Needs the times of the frames: track and
    # stream() know them, data sets do not. None: never
    expire_seconds: Positive | None = None
    # Forget all tracks where a new shot begins: the colours change by this many times as much as in
    # the last frames (4 finds hard cuts). None: never
    cut_threshold: Annotated[float, Range(above=1)] | None = None
    max_tracks: Count | None = None  # keep at most this many tracks in memory; None: no cap
    fused: FusedConfig = field(default_factory=FusedConfig)


@dataclass
class DatasetConfig:
    """One annotated set: COCO images or YouTube-VIS videos, told apart by the JSON itself."""

    annotations: str | None = None
    images: str | None = None
    weight: Positive = 1.0  # how often it is drawn, relative to its size, when sets are mixed
    # Open files that lie outside of the image folder, where the annotation file names them
    allow_outside: bool = False
    # Train on images and video frames without an instance too, as negatives; those that show
    # crowds and no instance only if losses.ignore_overlap is set
    keep_empty: bool = False


@dataclass
class DataConfig:
    """Which sets are read. Classes are matched with ``model.classes`` by name."""

    train: DatasetConfig = field(default_factory=DatasetConfig)
    train_extra: list[DatasetConfig] = field(default_factory=list)  # mixed with data.train
    val: DatasetConfig = field(default_factory=DatasetConfig)
    test: DatasetConfig = field(default_factory=DatasetConfig)
    # Train although no training set has an instance of some class of the model
    allow_absent_classes: bool = False
    num_workers: Annotated[int, Range(0, 1024)] = 2


@dataclass
class InputConfig:
    """Image sizes and augmentation. A resized image fits into ``long`` x ``short`` pixels."""

    train_short: list[Side] = field(default_factory=lambda: [360])  # one is drawn per sample
    train_long: list[Side] = field(default_factory=lambda: [640])  # one is drawn per sample
    test_short: Side = 360
    test_long: Side = 640
    flip: Share = 0.5  # probability
    crop: Share = 0.0  # probability of a random crop before the resize
    # Of the image's sides. The two views of a pseudo-clip are always crops in this range.
    crop_range: list[Positive] = field(default_factory=lambda: [0.5, 1.0])
    # DETR's crop: crop_range counts pixels of an image with one of these short sides; []: off
    crop_short: list[Side] = field(default_factory=list)
    colour: Share = 0.0  # strength of brightness, contrast, saturation and hue jitter
    # Large-scale jitter (Ghiasi et al., 2021): [low, high] of a factor on the size that an image
    # (or a crop of it) is resized to. What then exceeds the canvas of train_long x train_short
    # pixels is cut off at random, what is missing is padded: all batches have one size. []: off
    scale_jitter: list[Annotated[float, Range(above=0, most=100)]] = field(default_factory=list)
    # Probability that masked instances of another sample are pasted in ("Simple Copy-Paste", same
    # paper); in a pair they are in both frames, a plausible motion apart
    copy_paste: Share = 0.0
    copy_paste_max: Count = 3  # instances, from 1 to this many
    min_visible: Count = 1  # instances with fewer mask pixels after all augmentation are no targets
    # Classes of torchvision.transforms.v2 with arguments, applied last, for example
    # [{name: RandomRotation, degrees: 5}]
    transforms: list[dict[str, Any]] = field(default_factory=list)
    max_frame_gap: Index | None = None  # reference frames within this distance; None: whole video


@dataclass
class TrainConfig:
    """The optimisation recipe. ``paper`` in RECIPE terms: lr 2.5e-5, clip 1.0."""

    max_steps: Count = 90000
    # Passes over the training sets in place of max_steps; lr_steps and eval_every then keep their
    # share of the whole, and the warm-up takes at most a tenth. null: max_steps counts
    epochs: Positive | None = None
    batch_size: Width = 16  # images (or pairs) of one process and batch
    # Samples of similar shape, chosen among so many consecutive ones, make up a batch, which needs
    # less padding; 0: batches are consecutive samples. It does nothing under input.scale_jitter.
    shape_window: Annotated[int, Range(0, 65536)] = 0
    accumulate: Count = 1  # batches whose gradients are added up in one step (an update)
    both_ways: bool = False  # video: each frame of a pair is key and reference of the other
    lr: Positive = 2.5e-5
    # Linear scaling: lr is that of reference_batch images a step, and is multiplied by
    # processes x batch_size x accumulate / reference_batch
    scale_lr: bool = False
    reference_batch: Count = 16
    backbone_lr_multiplier: NotNegative = 1.0
    weight_decay: NotNegative = 1.0e-4
    decay_norms: bool = True  # False: no weight decay on norms, biases and position tables
    clip_norm: Positive = 1.0
    # Of a moving average of the weights, which is scored; 0: none
    average_decay: Annotated[float, Range(0, below=1)] = 0.0
    warmup_steps: Index = 1000
    warmup_factor: NotNegative = 0.001
    lr_steps: list[Index] = field(default_factory=lambda: [60000, 82500])
    lr_gamma: Share = 0.1
    # 32-true or bf16-mixed (Lightning Fabric's names); auto: bf16-mixed on CPUs with AMX
    precision: str = "auto"
    init_weights: str | None = None  # start from this checkpoint's matching weights
    # Class of the checkpoint whose rows new classes start from; null: the mean of all its classes
    init_new_classes_from: str | None = None
    log_every: Count = 20
    eval_every: Index = 0  # steps; 0: only at the end
    patience: Index = 0  # stop after so many evaluations without a better score; 0: never
    samples: Index = (
        8  # pictures of data.val drawn with what is found, at every evaluation; 0: none
    )
    checkpoint_every: Count = 500
    # csv: metrics.csv and curves.png; tensorboard; wandb: Weights & Biases (an extra), offline
    # unless WANDB_MODE=online
    loggers: list[str] = field(default_factory=lambda: ["csv", "tensorboard"])


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
