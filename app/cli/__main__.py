"""`python -m omnirm.app.cli`, for launchers that start a module in several processes."""

from omnirm.app.cli import main

main()
