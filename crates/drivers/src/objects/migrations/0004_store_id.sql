-- Which store this is, among all that an instance may ever have: what tells an S3 server's prefix of this one from that of
-- an index that was lost.
ALTER TABLE store ADD COLUMN id TEXT NOT NULL DEFAULT '';
UPDATE store SET id = lower(hex(randomblob(16)));
