"""Debian packages in a bake: unpacked, installed, and what their scripts made put right."""
