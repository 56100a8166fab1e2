"""HAProxy: its file, its socket, its counters; ``edge`` is the machine's one door before all routers."""
