"""What the agent tells: metrics, logs, notices. It decides nothing."""
