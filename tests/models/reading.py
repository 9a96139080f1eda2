"""Reads all that a network, or a teacher, exposes."""

from mmkdfuse.structures import TapKeys, Taps


def everything(network) -> TapKeys:
    """Keys of all stages, features and logits."""
    taps = Taps(stages='all', features='all', logits='all')
    return taps.resolved(len(network.stage_shapes), network.head_names, 'test')


def output_of(network, images):
    """One forward pass, all of it read."""
    return network.run(images, everything(network))
