"""Applies the migrations that the database has not seen yet, in order, each in a transaction of its own."""

import os

import psycopg

MIGRATIONS = [
    "CREATE TABLE visits (id bigserial PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())",
    "CREATE TABLE uploads (key text PRIMARY KEY, size bigint NOT NULL, at timestamptz NOT NULL DEFAULT now())",
]


def main():
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
        database.execute("CREATE TABLE IF NOT EXISTS migrations (number int PRIMARY KEY)")
        done = {row[0] for row in database.execute("SELECT number FROM migrations")}
        for number, statement in enumerate(MIGRATIONS, start=1):
            if number in done:
                continue
            with database.transaction():
                database.execute(statement)
                database.execute("INSERT INTO migrations VALUES (%s)", [number])
            print(f"applied migration {number}", flush=True)


if __name__ == "__main__":
    main()
