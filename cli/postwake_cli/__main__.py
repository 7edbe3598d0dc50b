"""``python -m postwake_cli``: the ``postwake`` command."""

from postwake_cli.main import main

main()
