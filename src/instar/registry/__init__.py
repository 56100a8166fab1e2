"""The only door to registries: images in and out, by digest. (Nothing is imported here: a start pays for what it
uses.)"""
