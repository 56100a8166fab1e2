"""Logs of this machine, sent on to where its own file says: each line at least once, and nothing waits for it."""
