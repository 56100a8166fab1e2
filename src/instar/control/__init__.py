"""What to do next, as pure functions of (wanted, observed, now), and the loop that carries it out."""
