"""SimKD: knowledge distillation with the reused teacher classifier."""

from mmkdfuse.models.methods.mfakd import MFAKD
from mmkdfuse.registry import MODELS


@MODELS.register_module()
class SimKD(MFAKD):
    """One bottleneck projector; the teacher's map is pooled where the student's is smaller.

    Chen et al., CVPR 2022: MSE, mean over all elements, between the projected student map and the
    teacher's last map; inference uses the teacher's classifier. MFAKD with one projector and
    without upsampling, so all arguments are those of :class:`MFAKD`.

    Example:
        >>> model = SimKD('resnet8x4', 'resnet32x4', num_classes=100, image_size=32)
        >>> list(model.neck.connector.branches)
        ['bottleneck']
    """

    default_connector = dict(type='mmkdfuse.MBCAConnector', branches=('bottleneck',), upsample=None)
