"""Words in, words out. Data goes to stdout, progress and errors to stderr."""
