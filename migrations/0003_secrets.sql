-- Secrets of projects, sealed with a key that is derived from the instance's; names, classes, and who set them when.
CREATE TABLE secrets (key TEXT PRIMARY KEY, value TEXT NOT NULL CHECK (json_valid(value))) STRICT, WITHOUT ROWID;
