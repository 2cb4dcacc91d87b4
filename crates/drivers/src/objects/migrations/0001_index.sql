-- The index of the object store. Keys are bytes: their order is the order of listings.

-- Whose store this is: one row.
CREATE TABLE store (instance TEXT NOT NULL);

-- A bucket has one name, its generations have the objects. AUTOINCREMENT: a number once given is never given again.
CREATE TABLE generations (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    env         TEXT NOT NULL,
    number      INTEGER NOT NULL,
    access_key  TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    baseline    TEXT NOT NULL,
    project     TEXT NOT NULL,
    sha         TEXT NOT NULL,
    trust       TEXT NOT NULL,
    begun       INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('partial', 'whole', 'removing')),
    objects     INTEGER NOT NULL DEFAULT 0,
    bytes       INTEGER NOT NULL DEFAULT 0,
    UNIQUE (env, number)
);

CREATE TABLE objects (
    generation INTEGER NOT NULL REFERENCES generations (id),
    key        BLOB NOT NULL,
    blob       TEXT NOT NULL,
    size       INTEGER NOT NULL,
    etag       TEXT NOT NULL,
    modified   INTEGER NOT NULL,
    meta       TEXT NOT NULL,
    PRIMARY KEY (generation, key)
) WITHOUT ROWID;
CREATE INDEX objects_by_blob ON objects (blob);

CREATE TABLE uploads (
    id         TEXT PRIMARY KEY,
    generation INTEGER NOT NULL REFERENCES generations (id),
    key        BLOB NOT NULL,
    begun      INTEGER NOT NULL,
    meta       TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX uploads_by_key ON uploads (generation, key, id);

CREATE TABLE parts (
    upload   TEXT NOT NULL REFERENCES uploads (id),
    number   INTEGER NOT NULL,
    blob     TEXT NOT NULL,
    size     INTEGER NOT NULL,
    etag     TEXT NOT NULL,
    modified INTEGER NOT NULL,
    checksum TEXT,
    PRIMARY KEY (upload, number)
) WITHOUT ROWID;
CREATE INDEX parts_by_blob ON parts (blob);

-- Usage is kept by the index itself, so that no path through the code can forget it.
CREATE TRIGGER object_added AFTER INSERT ON objects BEGIN
    UPDATE generations SET objects = objects + 1, bytes = bytes + new.size WHERE id = new.generation;
END;
CREATE TRIGGER object_gone AFTER DELETE ON objects BEGIN
    UPDATE generations SET objects = objects - 1, bytes = bytes - old.size WHERE id = old.generation;
END;
CREATE TRIGGER part_added AFTER INSERT ON parts BEGIN
    UPDATE generations SET bytes = bytes + new.size
    WHERE id = (SELECT generation FROM uploads WHERE id = new.upload);
END;
CREATE TRIGGER part_gone AFTER DELETE ON parts BEGIN
    UPDATE generations SET bytes = bytes - old.size
    WHERE id = (SELECT generation FROM uploads WHERE id = old.upload);
END;
