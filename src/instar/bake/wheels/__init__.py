"""Python wheels in a bake: installed without an installer, and what they need besides."""
