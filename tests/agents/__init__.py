"""Agents: the real programs, and a scripted stand-in for quick tests."""
