-- Baselines with their versions: what each was made from, by whom, when; which one is current. The data itself is in PostgreSQL and the object store.
CREATE TABLE baselines (key TEXT PRIMARY KEY, value TEXT NOT NULL CHECK (json_valid(value))) STRICT, WITHOUT ROWID;
