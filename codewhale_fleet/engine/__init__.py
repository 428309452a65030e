"""The shell: is elected, follows the ledger, performs duties, reports back.

Nothing is decided here; what is owed follows from the recorded state.
"""
