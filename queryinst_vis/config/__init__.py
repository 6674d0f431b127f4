"""The configuration: dataclasses define the schema, YAML files contain the differences.

A YAML file may have parents under ``_base_`` (one or a list: paths relative to the file, or names
of bundled configs); dotlist overrides (``train.max_steps=100``) are applied last. Nothing in a
config is executed or downloaded; ``${oc.env:NAME}`` reads an environment variable.
"""

from queryinst_vis.config.environment import resolved
from queryinst_vis.config.loading import (
    apply_overrides,
    config_from_dict,
    config_to_dict,
    differences,
    load_config,
)
from queryinst_vis.config.names import config_names, find_config
from queryinst_vis.config.ranges import check_numbers
from queryinst_vis.config.schema import (
    BackboneConfig,
    Config,
    DataConfig,
    DatasetConfig,
    FusedConfig,
    InferenceConfig,
    InputConfig,
    LossConfig,
    MaskHeadConfig,
    ModelConfig,
    TrackHeadConfig,
    TrackingConfig,
    TrainConfig,
)

__all__ = [
    "BackboneConfig",
    "Config",
    "DataConfig",
    "DatasetConfig",
    "FusedConfig",
    "InferenceConfig",
    "InputConfig",
    "LossConfig",
    "MaskHeadConfig",
    "ModelConfig",
    "TrackHeadConfig",
    "TrackingConfig",
    "TrainConfig",
    "apply_overrides",
    "check_numbers",
    "config_from_dict",
    "config_names",
    "config_to_dict",
    "differences",
    "find_config",
    "load_config",
    "resolved",
]
