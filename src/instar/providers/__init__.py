"""Where instances run and traffic goes: ``base.py`` is the port, ``facets.py`` what a provider may have or not."""
