-- What forges were told to show, by place, and answers to commands in comments.
CREATE TABLE told (key TEXT PRIMARY KEY, value TEXT NOT NULL CHECK (json_valid(value))) STRICT, WITHOUT ROWID;
