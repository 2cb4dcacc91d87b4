-- Deliveries of webhooks of the last days: the same one again is looked at and otherwise ignored.
CREATE TABLE deliveries (key TEXT PRIMARY KEY, value TEXT NOT NULL CHECK (json_valid(value))) STRICT, WITHOUT ROWID;
