"""Small random changes of tinylm, and whether its tests notice them: see __main__.py."""
