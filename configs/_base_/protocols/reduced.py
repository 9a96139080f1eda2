"""What the reduced-scale protocols share: the optimiser, evaluation at the end only.

SGD 0.1, momentum 0.9, weight decay 5e-4, batch 128, bf16. Every protocol adds one cycle of the
learning rate, warming up from 0.01 over 20 % of the epochs, then falling along a cosine to 1e-4.
"""

optim_wrapper = dict(
    type='BF16OptimWrapper',
    optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=5e-4),
)
val_cfg = dict()
test_cfg = dict()
