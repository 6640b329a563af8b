"""Fully convolutional networks, backbones, receptive fields and pretrained weights."""
