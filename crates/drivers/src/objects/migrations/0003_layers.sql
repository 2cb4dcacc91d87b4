-- Copy-on-write: objects stand in layers. A generation writes to the top one of its own and sees through it down the bases.

CREATE TABLE layers (
    id   INTEGER PRIMARY KEY AUTOINCREMENT,
    base INTEGER REFERENCES layers (id)
);
CREATE INDEX layers_by_base ON layers (base);
INSERT INTO layers (id) SELECT id FROM generations;

DROP TRIGGER object_added;
DROP TRIGGER object_gone;
DROP TRIGGER part_added;
DROP TRIGGER part_gone;
DROP INDEX objects_by_blob;
ALTER TABLE objects RENAME TO objects_before;
CREATE TABLE objects (
    layer    INTEGER NOT NULL REFERENCES layers (id),
    key      BLOB NOT NULL,
    -- None: a marker. What the layers below hold under this key is deleted.
    blob     TEXT,
    size     INTEGER NOT NULL,
    etag     TEXT NOT NULL,
    modified INTEGER NOT NULL,
    meta     TEXT NOT NULL,
    PRIMARY KEY (layer, key)
) WITHOUT ROWID;
INSERT INTO objects SELECT generation, key, blob, size, etag, modified, meta FROM objects_before;
DROP TABLE objects_before;
-- Not unique: a copy is a second row for the same bytes. A blob goes with the last row that names it.
CREATE INDEX objects_by_blob ON objects (blob);

ALTER TABLE generations ADD COLUMN layer INTEGER REFERENCES layers (id);
UPDATE generations SET layer = id;
CREATE INDEX generations_by_layer ON generations (layer);
-- The uppermost layer that is the baseline's and not the environment's own.
ALTER TABLE generations ADD COLUMN floor INTEGER REFERENCES layers (id);
CREATE INDEX generations_by_floor ON generations (floor);
-- Bytes that the environment added to its baseline: what a quota counts.
ALTER TABLE generations ADD COLUMN own INTEGER NOT NULL DEFAULT 0;
UPDATE generations SET own = bytes;

-- A baseline version's objects. `whole`, written last, is the seal.
CREATE TABLE snapshots (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    version     TEXT NOT NULL UNIQUE,
    fingerprint TEXT NOT NULL,
    layer       INTEGER NOT NULL REFERENCES layers (id),
    begun       INTEGER NOT NULL,
    state       TEXT NOT NULL CHECK (state IN ('partial', 'whole', 'removing')),
    objects     INTEGER NOT NULL DEFAULT 0,
    bytes       INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX snapshots_by_layer ON snapshots (layer);

-- What parts take is kept by the index itself. What is seen of objects depends on layers, and is counted where they are written.
CREATE TRIGGER part_added AFTER INSERT ON parts BEGIN
    UPDATE generations SET bytes = bytes + new.size, own = own + new.size
    WHERE id = (SELECT generation FROM uploads WHERE id = new.upload);
END;
CREATE TRIGGER part_gone AFTER DELETE ON parts BEGIN
    UPDATE generations SET bytes = bytes - old.size, own = own - old.size
    WHERE id = (SELECT generation FROM uploads WHERE id = old.upload);
END;
