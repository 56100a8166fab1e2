"""Is what runs what was baked? Asks the provider what is not as it was made, holds the router against the ledger, and
leaves out what the environment's rules expect. Changes nothing."""
