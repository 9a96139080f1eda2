"""CIFAR-10 images in class folders, data/cifar10_images/{train,test}/<class>/*.png."""

_base_ = './cifar10.py'
images = dict(_delete_=True, type='ImageFolder', data_root='data/cifar10_images', cache=True)
train_dataloader = dict(dataset=dict(**images, data_prefix='train'))
val_dataloader = dict(dataset=dict(**images, data_prefix='test'))
test_dataloader = val_dataloader
