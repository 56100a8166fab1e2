"""This Linux machine: runc and conmon, mounts and EROFS, namespaces, cgroups, the network."""
