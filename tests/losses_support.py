"""Targets, stage outputs and batches for the tests of the losses."""

import torch

from queryinst_vis.structures import Batch, StageOutput, Target

SIZE = (64, 96)


def target(*boxes, labels=None, ids=None):
    boxes = torch.tensor(boxes, dtype=torch.float).view(-1, 4)
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = True
    count = len(boxes)
    return Target(
        boxes,
        torch.zeros(count, dtype=torch.long)
        if labels is None
        else torch.tensor(labels, dtype=torch.long),
        masks,
        torch.arange(count) if ids is None else torch.tensor(ids),
        SIZE,
    )


def stage(boxes, logits):
    boxes = torch.as_tensor(boxes, dtype=torch.float)
    queries = torch.zeros(1, len(boxes), 8, requires_grad=True)
    logits = torch.as_tensor(logits, dtype=torch.float)
    return StageOutput(logits[None], boxes[None], queries, queries, queries)


PAIR = ((4, 4, 30, 40), (50, 10, 90, 60))


def pair_batch(key, reference):
    torch.manual_seed(1)
    images = torch.randn(2, 1, 3, *SIZE)
    return Batch(images[0], [key], Batch(images[1], [reference]))


def gradients(step, batch):
    step.zero_grad()
    losses = step(batch)
    sum(losses.values()).backward()
    return losses, {
        name: parameter.grad.abs().sum().item()
        for name, parameter in step.model.named_parameters()
        if parameter.grad is not None
    }
