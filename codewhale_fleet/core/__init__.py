"""The pure heart: words, state, and the two functions that connect them.

`decide(state, command, now)` answers what a command changes, `evolve(state, head, event)` changes
it, `duties(state)` says what is owed to the world. No clock, no ids, no chance, no I/O: these come
in as arguments.
"""
