"""Packages of other ecosystems than Debian's and Python's: one module each, all by the protocol of ``protocol.py``.

An ecosystem's own lock file says which files are meant; instar.lock adds the SHA-256 of each, by which the cache has
them; the ecosystem's own tool, which is the image's, installs them from there in the sandbox, where no network is.
"""
