"""What every run shares: hooks, logging, randomness."""

default_scope = 'mmkdfuse'
custom_imports = dict(imports=['mmkdfuse.registry'], allow_failed_imports=False)
default_hooks = dict(
    # Terms of the loss stay on the device until a log line or a checkpoint shows them.
    runtime_info=dict(type='RuntimeInfoHook'),
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=2),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # Every process scores, and one saves, the same batch-norm statistics.
    sync_buffers=dict(type='SyncBuffersHook'),
    # Losses know the epoch and, where they ask for it, the training set.
    loss_context=dict(type='LossContextHook'),
    invalid_loss=dict(type='InvalidLossHook'),
    # How hard every term pulls at the network, beside weight decay.
    loss_scale=dict(type='LossScaleHook'),
    interrupt=dict(type='InterruptHook'),
    progress=dict(type='ProgressHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, deterministic=False)
