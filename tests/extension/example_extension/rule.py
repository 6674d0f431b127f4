import torch

from queryinst_vis.tracking import slot_rule
from queryinst_vis.tracking.association import one_to_one


def nearest(detections, memory, settings):
    """A detection belongs to the nearest track of its class, at most its own size away."""
    centres = (detections.boxes[:, :2] + detections.boxes[:, 2:]) / 2
    known = (memory.boxes[:, :2] + memory.boxes[:, 2:]) / 2
    sizes = (detections.boxes[:, 2:] - detections.boxes[:, :2]).amax(dim=1, keepdim=True)
    distances = torch.cdist(centres, known) / sizes
    distances[detections.labels[:, None] != memory.labels] = 1e6
    # column 0 scores "a new object", column j + 1 track j
    new = torch.full((len(detections), 1), -1.0)
    return one_to_one(torch.cat([new, -distances], dim=1))


rule = slot_rule(nearest, embedding=None)
