-- Projects as they were configured last, for what still runs of one that was taken out; and shared images, by when each was wanted last.
CREATE TABLE projects (key TEXT PRIMARY KEY, value TEXT NOT NULL CHECK (json_valid(value))) STRICT, WITHOUT ROWID;
CREATE TABLE images   (key TEXT PRIMARY KEY, value TEXT NOT NULL CHECK (json_valid(value))) STRICT, WITHOUT ROWID;
