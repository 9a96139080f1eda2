"""CIFAR-100 images in class folders, data/cifar100_images/{train,test}/<class>/*.png."""

_base_ = './cifar10_folder.py'
num_classes = 100
train_dataloader = dict(dataset=dict(data_root='data/cifar100_images'))
val_dataloader = dict(dataset=dict(data_root='data/cifar100_images'))
test_dataloader = val_dataloader
