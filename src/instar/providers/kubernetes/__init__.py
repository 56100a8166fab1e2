"""A cluster of Kubernetes: a release's groups are objects that are made once, its traffic is a route's weights."""
