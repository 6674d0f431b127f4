from torch import nn


def halve(inputs, outputs):
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


class Plain(nn.Module):
    """Feature maps at strides 4, 8, 16 and 32."""

    def __init__(self):
        super().__init__()
        self.channels = [16, 32, 64, 128]
        self.stem = halve(3, 16)
        widths = zip([16, *self.channels], self.channels, strict=False)
        self.stages = nn.ModuleList(halve(*pair) for pair in widths)

    def forward(self, images):
        maps, x = [], self.stem(images)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def freeze(self, stages):
        """For model.backbone.frozen_stages; without this method it must be 0."""
        for part in [self.stem, *self.stages[:stages]]:
            part.requires_grad_(False)
