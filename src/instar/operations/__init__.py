"""The verbs: one file per thing that a user can ask for, the same for every door."""
