"""Images at rest: an OCI image layout, content-addressed, checked on the way in and out. See layout.py."""

from instar.store.compression import ENCODER, require_encoder
from instar.store.layout import Store

__all__ = ["ENCODER", "Store", "require_encoder"]
