"""Export of any head of a trained model as a plain classifier."""

from mmkdfuse.deploy.deployment import Deployed, deploy
from mmkdfuse.deploy.early_exit import EarlyExit

__all__ = ['Deployed', 'EarlyExit', 'deploy']
