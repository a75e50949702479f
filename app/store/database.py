"""The app's database: opened, brought to the newest version, read and written in short transactions.

For `store.py`; it knows no table. SQLite runs in WAL mode with every commit synced to disk, so that readers
never wait for a writer, and what was committed survives a killed process and a power failure. Keep the file on a local
disk: WAL does not work over a network file system.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from omnirm.app.store.tables import VERSION_TABLE
from omnirm.errors import ConfigError, OmnirmError

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_SECONDS = 30.0  # how long a writer waits for another one
_MIGRATION_LOCK = 7_161_513  # any number that no other program is likely to lock in the same database
_migrating = threading.Lock()  # alembic keeps what it works on in global variables


class StoreError(OmnirmError, RuntimeError):
    """The database could not be read or written: the disk is full, the server is gone, another program locks it."""


class Database:
    """An open database of the newest version.

    Args:
        url: an SQLAlchemy URL, as `sqlite:////data/omnirm.db` or `postgresql+psycopg://user@host/name`. A file of
            SQLite is made where there is none, with its folder.

    Raises:
        ConfigError: the URL is none, its driver is missing, the database cannot be opened, or a newer version of
            omnirm has written it. Passwords are left out of messages.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self.name = parsed.render_as_string(hide_password=True)
        self._engine = _engine(parsed, self.name)
        try:
            if parsed.get_backend_name() == "sqlite":
                _use_wal(Path(parsed.database or ""))
            self._migrate()
        except (SQLAlchemyError, sqlite3.Error) as error:
            self._engine.dispose()
            raise ConfigError(f"database {self.name}: {_short(error)}; give one that can be written") from error
        except ConfigError:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Closes every connection; it cannot be used afterwards."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that only reads. Raises `StoreError`."""
        with self._transaction(write=False) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that writes: all of it is stored when the block ends, or nothing. Raises `StoreError`."""
        with self._transaction(write=True) as connection:
            yield connection

    @contextmanager
    def _transaction(self, *, write: bool) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                connection = connection.execution_options(omnirm_write=write)
                with connection.begin():
                    yield connection
        except SQLAlchemyError as error:
            raise StoreError(f"database {self.name}: {_short(error)}") from error

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        with _migrating, self._engine.connect() as connection:
            connection = connection.execution_options(omnirm_write=True)
            with connection.begin():  # of two processes that start at once the second finds everything done
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
                found = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
                if unknown := [one for one in found.get_current_heads() if one not in known]:
                    raise ConfigError(
                        f"database {self.name}: has version {unknown[0]}, which this omnirm does not know; "
                        "use a newer omnirm, or another database"
                    )
                config.attributes["connection"] = connection
                command.upgrade(config, "head")


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigError("database: not a URL; write one such as sqlite:////data/omnirm.db") from error
    if parsed.get_backend_name() == "sqlite":
        file = parsed.database or ""
        if file in ("", ":memory:") or file.startswith("file:"):
            raise ConfigError(f"database {url}: name a file, as sqlite:////data/omnirm.db; memory would not be kept")
        try:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"database {url}: its folder cannot be made: {error}") from error
    return parsed


def _engine(url: URL, name: str) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    try:
        if not sqlite:
            return create_engine(url, pool_pre_ping=True, pool_size=10, max_overflow=30)
        engine = create_engine(url, pool_size=10, max_overflow=30, connect_args={"timeout": BUSY_SECONDS})
    except NoSuchModuleError as error:
        raise ConfigError(f"database {name}: no database is called {url.drivername!r}") from error
    except ImportError as error:
        raise ConfigError(f"database {name}: its driver is not installed: {error}; pip install it") from error
    except (ArgumentError, TypeError, ValueError) as error:  # what an odd query or driver in the URL gives
        raise ConfigError(f"database {name}: {_short(error)}") from error

    @event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # transactions begin below, DDL included
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begun(connection: Connection) -> None:  # a writer takes its turn at once, never half way through
        write = connection.get_execution_options().get("omnirm_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _use_wal(file: Path) -> None:
    """The file remembers it. Changing the mode does not wait for other processes by itself."""
    until = time.monotonic() + BUSY_SECONDS
    connection = sqlite3.connect(file, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL").fetchone()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > until:
                    raise
                time.sleep(0.05)
    finally:
        connection.close()


def _short(error: BaseException) -> str:
    """The first line of what the database said, without the statement and its values."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0][:300]
