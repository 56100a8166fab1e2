"""How a rollout moves the traffic: one file a strategy, none aware of another."""
