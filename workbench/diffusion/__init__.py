"""The sampling loop and the losses that drive it."""
