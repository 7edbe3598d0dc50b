"""The ground floor of Postwake: configuration, vocabulary, tokens, the store and replies.

Imports no other room. The rooms (``postwake_milter``, ``postwake_logparse``, ``postwake_pixelserver``) turn
their own input into the events of :mod:`postwake.events` and commit them through :mod:`postwake.store`.
"""

from __future__ import annotations

__version__ = "0.1.0"
