"""The author's files in a bake: which, what is kept of them, copied in; and what was fetched for the image."""
