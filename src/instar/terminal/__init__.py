"""A terminal that somebody sits at: passed on, filtered, and recorded."""
