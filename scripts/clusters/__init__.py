"""A Kubernetes cluster on this machine, for the tests: built from released sources, run as ordinary processes."""
