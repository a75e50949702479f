"""How omnirm-nano and its reward model are trained and measured."""
