"""Migrations of the app's database. `omnirm.app.store.store.Store` runs them when it opens one."""
