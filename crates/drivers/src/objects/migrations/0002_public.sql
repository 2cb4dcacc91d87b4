-- Prefixes of keys that may be read without a signature: a JSON array.
ALTER TABLE generations ADD COLUMN public TEXT NOT NULL DEFAULT '[]';
