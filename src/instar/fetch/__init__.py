"""The only door to archives of packages and downloads: each byte by a hash of the lock, into a cache."""
