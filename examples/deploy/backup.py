"""Copies the SQLite file of a running qtm into a folder, as it stands at one moment, and checks the copy.

    python3 backup.py /var/lib/qtm/qtm.db /var/backups/qtm --keep 14

Run it as the user of the service. qtm goes on meanwhile: a reader does not hold up its writer. A copy of the file alone
(cp, rsync) is no backup: what was written last stands in qtm.db-wal. docs/deploy.md says how to restore.
"""

import argparse
import contextlib
import datetime
import os
import pathlib
import sqlite3
import sys


def back_up(database: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """The new copy, which is whole and on the disk. Raises sqlite3.Error, OSError."""
    now = datetime.datetime.now(datetime.timezone.utc)
    target = folder / f"{database.stem}-{now:%Y%m%dT%H%M%S.%fZ}.db"
    unfinished = target.with_suffix(".part")
    # read-only: it neither makes a file that is missing nor writes to the log of the one that runs
    source = f"{database.resolve().as_uri()}?mode=ro"
    try:
        with (
            contextlib.closing(sqlite3.connect(source, uri=True, timeout=60)) as reader,
            contextlib.closing(sqlite3.connect(unfinished)) as copy,
        ):
            reader.backup(copy)  # in one step, so that it shows one moment
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, without a log beside it
            faults = [row[0] for row in copy.execute("PRAGMA integrity_check")]
        if faults != ["ok"]:
            raise sqlite3.DatabaseError(f"the copy is damaged: {'; '.join(faults)}")
        unfinished.rename(target)
    finally:
        unfinished.unlink(missing_ok=True)
    directory = os.open(folder, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)
    return target


def main() -> int:
    """0 when there is a new copy, 1 when there is none."""
    parser = argparse.ArgumentParser(description="Back up the SQLite file of a running qtm.")
    parser.add_argument("database", type=pathlib.Path)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--keep", type=int, default=14, help="delete all but so many of the newest copies")
    options = parser.parse_args()
    os.umask(0o077)
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
        print(back_up(options.database, options.folder))
        copies = sorted(options.folder.glob(f"{options.database.stem}-????????T??????.*Z.db"))
        for old in copies[: -max(1, options.keep)]:
            old.unlink()
    except (OSError, sqlite3.Error) as error:
        print(f"backup.py: no backup of {options.database}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
