"""Small images: the closure of what a service needs, tried; and tools taken out at the end."""
