"""What can be looked at without changing anything: questions of a closed list, their answers, and the socket at which
the agent answers them for a group of users that is not root."""
