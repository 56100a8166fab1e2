"""Values → JSON and sentences, once: for the command line and the notices, an API and pages.

A function that is called ``…_json`` returns what a program reads, with stable keys; a ``…_page`` lines and tables for
people. Nothing here asks or decides anything.
"""
