"""Agents as data: what they are called, how they are started, what their streams mean."""
