"""What the published networks cost and give, measured on the reference codes.

MACs are of the network for the first class count given. Channels and side lengths of the stages are
those at ``size``.
"""

from typing import NamedTuple


class Reference(NamedTuple):
    parameters: dict[int, int]  # by class count
    macs: dict[int, float]  # millions, by side length of the image
    channels: tuple[int, ...]
    sides: tuple[int, ...]
    size: int = 32


def _kfmsd(parameters, macs, channels, sides):
    """Parameters at 100, 10 and 200 classes, MACs at 32x32 and 64x64."""
    return Reference(
        dict(zip((100, 10, 200), parameters, strict=True)),
        dict(zip((32, 64), macs, strict=True)),
        channels,
        sides,
    )


def _cifar(parameters, macs, channels, sides=(32, 16, 8)):
    """Parameters at 100 and 200 classes, MACs at 32x32."""
    return Reference(dict(zip((100, 200), parameters, strict=True)), {32: macs}, channels, sides)


def _tiny_imagenet(parameters, macs, channels, sides):
    """Parameters at 200 classes, MACs at 64x64."""
    return Reference({200: parameters}, {64: macs}, channels, sides, 64)


RESNET_SIDES = (32, 16, 8, 4)
BASIC, BOTTLENECK = (64, 128, 256, 512), (256, 512, 1024, 2048)
VGG_STAGES = (128, 256, 512, 512), (16, 8, 4, 1)
TINY_VGG_STAGES = (128, 256, 512, 512), (32, 16, 8, 4)
W1, W2, W4 = (16, 32, 64), (32, 64, 128), (64, 128, 256)
SHUFFLE = (16, 8, 4)
MOBILE = (16, 8, 4, 2)

# fmt: off
KFMSD = {
    'resnet18': _kfmsd((11220132, 11173962, 11271432), (555.5, 2221.7), BASIC, RESNET_SIDES),
    'resnet34': _kfmsd((21328292, 21282122, 21379592), (1159.4, 4637.6), BASIC, RESNET_SIDES),
    'resnet50': _kfmsd((23705252, 23520842, 23910152), (1298.0, 5191.4), BOTTLENECK, RESNET_SIDES),
    'wrn50_2': _kfmsd((67031460, 66847050, 67236360), (3684.6, 14737.7), BOTTLENECK, RESNET_SIDES),
    'resnext50_32x4d': _kfmsd(
        (23177124, 22992714, 23382024), (1344.2, 5376.0), BOTTLENECK, RESNET_SIDES
    ),
    'vgg11': _kfmsd((28518244, 28149514, 28927944), (172.0, 630.3), *VGG_STAGES),
    'vgg16': _kfmsd((34015396, 33646666, 34425096), (332.5, 1272.1), *VGG_STAGES),
    'vgg19': _kfmsd((39327652, 38958922, 39737352), (417.4, 1611.8), *VGG_STAGES),
    'squeezenet': _kfmsd(
        (781156, 734986, 832456), (53.3, 213.1), (128, 256, 512, 512), (16, 8, 4, 4)
    ),
    'mobilenet_v1': _kfmsd(
        (3315428, 3223178, 3417928), (46.4, 185.5), (128, 256, 512, 1024), (16, 8, 4, 2)
    ),
}
MFAKD = {
    'wrn40_1': _cifar((569780, 576280), 83.286, W1),
    'wrn40_2': _cifar((2255156, 2268056), 327.611, W2),
    'wrn16_2': _cifar((703284, 716184), 101.118, W2),
    'resnet8x4': _cifar((1233540, 1259240), 177.071, W4),
    'resnet32x4': _cifar((7433860, 7459560), 1083.041, W4),
    'resnet110': _cifar((1736564, 1743064), 253.156, W1),
    'resnet116': _cifar((1833780, 1840280), 267.311, W1),
    'resnet110x2': _cifar((6911220, 6924120), 1007.088, W2),
    'resnet14x2': _cifar((703732, 716632), 101.118, W2),
    'resnet38': _cifar((569972, 576472), 83.286, W1),
    'resnet38x2': _cifar((2255604, 2268504), 327.611, W2),
    'vgg8': _cifar((3965028, 4016328), 96.193, (128, 256, 512, 512), (16, 8, 4, 4)),
    'shufflenet_v1': _cifar((949258, 1045358), 38.691, (240, 480, 960), SHUFFLE),
    'shufflenet_v2': _cifar((1355528, 1458028), 44.504, (116, 232, 464), SHUFFLE),
    'shufflenet_v2_x1_5': _cifar((2580548, 2683048), 93.762, (176, 352, 704), SHUFFLE),
    'mobilenet_v2': _cifar((812836, 940936), 6.524, (12, 16, 48, 160), MOBILE),
    'mobilenet_v2_x2': _cifar((2353060, 2481160), 22.381, (24, 32, 96, 320), MOBILE),
    'vgg11_nobn': _tiny_imagenet(9323080, 611.16, *TINY_VGG_STAGES),
    'vgg16_nobn': _tiny_imagenet(14817288, 1252.89, *TINY_VGG_STAGES),
    'vgg19_nobn': _tiny_imagenet(20126984, 1592.63, *TINY_VGG_STAGES),
    'vgg11_bn': _tiny_imagenet(9328584, 611.16, *TINY_VGG_STAGES),
    'vgg16_bn': _tiny_imagenet(14825736, 1252.89, *TINY_VGG_STAGES),
    'vgg19_bn': _tiny_imagenet(20137992, 1592.63, *TINY_VGG_STAGES),
    'resnet10': _tiny_imagenet(19723016, 244.72, (128, 256, 512, 1024), (16, 8, 4, 2)),
    'resnet34_in': _tiny_imagenet(21387272, 299.14, BASIC, (16, 8, 4, 2)),
    'resnet50_in': _tiny_imagenet(23917832, 334.05, BOTTLENECK, (16, 8, 4, 2)),
}
# fmt: on
REFERENCE = {**KFMSD, **MFAKD}
