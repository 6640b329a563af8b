"""What a SavedModel may hold: it is a program, and is read before TensorFlow runs any of it."""
