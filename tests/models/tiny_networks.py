"""Networks small enough to distil in a test."""

K = 5
# Last maps 16x8x8, 32x8x8, 32x8x8 and, as the smaller student, 16x4x4.
STUDENT = dict(arch='resnet8x4', base_channels=4, stem_channels=4)
TEACHER = dict(arch='resnet8x4', base_channels=8, stem_channels=4)
OTHER = dict(arch='wrn16_2', base_channels=8)
SMALLER = dict(arch='vgg8', base_channels=2)
