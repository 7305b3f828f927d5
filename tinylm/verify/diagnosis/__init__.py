"""Finds the likely cause of a wrong gradient."""
