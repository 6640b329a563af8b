"""Configuration, augmentation, losses, loop, checkpoints, trainer and folds."""
