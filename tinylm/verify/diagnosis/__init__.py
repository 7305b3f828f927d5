"""The likely cause of a wrong gradient."""
