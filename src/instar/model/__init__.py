"""The words of Instar as frozen values. No I/O, no clock, no environment."""
