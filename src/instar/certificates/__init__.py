"""Certificates of https names: where they come from, how they are kept, and when they are renewed."""
