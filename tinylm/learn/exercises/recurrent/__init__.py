"""Recurrent: a state that is carried along."""

ORDER = ("lstm_step", "truncated")
