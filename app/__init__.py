"""The faces of omnirm: the command line is `omnirm.app.cli`; what faces share is in `omnirm.app.service`."""
