"""Stages of a bake: what the image takes out of them, found, copied and remembered."""
