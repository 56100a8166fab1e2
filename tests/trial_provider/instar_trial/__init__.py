"""A provider for trials: processes of this machine without any isolation, and a tiny proxy before them."""
