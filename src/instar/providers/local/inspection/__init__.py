"""Is an instance what it was when it was made? Nothing here changes anything.

What an instance is like (mounts, namespaces, limits, settings, network, files) is written down when it is made, before
its first process begins (``facts.py``), and compared with what is there now. What its processes may be (their code,
user, capabilities, command line) follows from its release (``processes.py``). ``inspect.py`` puts it together.
"""
