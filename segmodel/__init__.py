"""Images, models and training: fully convolutional networks as TensorFlow SavedModels, no Beam."""

__version__ = "0.1.0"
