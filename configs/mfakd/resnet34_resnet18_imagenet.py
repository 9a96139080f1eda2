"""MFAKD on ImageNet, ResNet-18 from ResNet-34, images read from files. Not in the paper.

    bash tools/dist_train.sh configs/mfakd/resnet34_resnet18_imagenet.py 8

``configs/teacher/resnet34_imagenet.py`` says how to convert torchvision's teacher. mmpretrain's
needs no conversion: ``mim download mmpretrain --config resnet34_8xb32_in1k --dest FOLDER``, then
``--cfg-options model.teacher.checkpoint=FOLDER/resnet34_8xb32_in1k_20210831-f257d4e6.pth``.
"""

_base_ = ['../_base_/pairs/resnet34_resnet18_imagenet.py', '../_base_/methods/mfakd.py']
model = {{_base_.pair}}
