"""Messages to people: how an alert looks on each road, and one attempt at sending it.

When something is owed, to whom, and when to try again is decided elsewhere (core/alerts.py).
"""
