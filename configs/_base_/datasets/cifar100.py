"""CIFAR-100, the official files, downloaded when missing; normalised as CIFAR-10."""

_base_ = './cifar10.py'
num_classes = 100
train_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
val_dataloader = dict(dataset=dict(type='CIFAR100', data_root='data/cifar100'))
test_dataloader = val_dataloader
