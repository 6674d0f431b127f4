"""A model whose batch norms have statistics of their own."""

import torch
from torch import nn

from tests.tiny import distinct_model, tiny_config


def batch_norms(model):
    return [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def build(name="resnet18", **mask):
    """A model with a track head and non-trivial batch norm statistics."""
    torch.manual_seed(0)
    config = tiny_config()
    config.model.backbone.name = name
    config.model.track.enabled = True
    for key, value in mask.items():
        setattr(config.model.mask, key, value)
    model = distinct_model(config)
    for norm in batch_norms(model):
        norm.running_mean.normal_(std=0.2)
        norm.running_var.uniform_(0.5, 1.5)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    return model
